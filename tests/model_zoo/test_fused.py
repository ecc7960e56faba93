"""The fused kernels of a CPU give the values and the gradients of MindSpore's operators."""

import ctypes
import os
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import nn

from mindgeex.model_zoo.attention import MASKED_SCORE, Attention, RotaryAttention
from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.model_zoo.kernels import fused, library
from mindgeex.model_zoo.layers import Dropout, FastGelu, HashedBits, LayerNorm, Linear, residual

pytestmark = pytest.mark.skipif(not library.kernels_here(), reason="needs a CPU with g++")
SEEDS = np.array([5, -9], np.int32)


class Weighted(nn.Cell):
    """The sum of a cell's output, every value with a weight of its own."""

    def __init__(self, cell, shape):
        super().__init__()
        self.cell, self.weight = cell, ms.Tensor(normal(*shape))

    def construct(self, *inputs):
        return (self.cell(*inputs) * self.weight).sum()


def normal(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def both_ways(monkeypatch, make, *inputs):
    """Output and gradients of a cell with the fused kernels, and of the same with MindSpore's operators."""
    ms.set_context(mode=ms.GRAPH_MODE)
    results = []
    for here in (True, False):
        if not here:
            monkeypatch.setattr(library, "kernels_here", lambda: False)
        cell = make().set_train()
        for parameter in cell.get_parameters():
            parameter.set_data(ms.Tensor(np.random.default_rng(7).normal(size=parameter.shape).astype(np.float32)))
        tensors = [ms.Tensor(value) for value in inputs]
        out = cell(*tensors)
        positions = tuple(index for index, value in enumerate(inputs) if value.dtype == np.float32)
        parameters = tuple(cell.get_parameters()) or None
        gradients = ms.grad(Weighted(cell, out.shape).set_train(), positions, parameters)(*tensors)
        results.append([value.asnumpy() for value in flat((out, gradients))])
    return results


def flat(tree):
    if isinstance(tree, ms.Tensor):
        return [tree]
    return [value for branch in tree for value in flat(branch)]


class Forked(nn.Cell):
    """What reads a value and its norm, with different weights."""

    def __init__(self):
        super().__init__()
        self.norm = LayerNorm(80, 1e-5)

    def construct(self, x):
        x, normed = self.norm.fork(x)
        return normed + 0.7 * x


class Summed(nn.Cell):
    """What reads a sum and its norm."""

    def __init__(self):
        super().__init__()
        self.norm, self.add = LayerNorm(80, 1e-5), residual(ComputeConfig())

    def construct(self, x, added):
        total, normed = self.norm.of_sum(x, added, self.add)
        return normed + 0.7 * total


class Sum(nn.Cell):
    """Twice one thing and another."""

    def __init__(self):
        super().__init__()
        self.add = residual(ComputeConfig())

    def construct(self, x, added):
        return self.add(2 * x, added)


CELLS = {
    "fork": (Forked, normal(2, 150, 80)),
    "norm of a sum": (Summed, normal(2, 150, 80), 3 + normal(2, 150, 80) ** 2),
    "sum": (Sum, normal(2, 9001), normal(2, 9001) ** 2),
    "layer norm": (lambda: LayerNorm(80, 1e-5), normal(2, 150, 80)),
    "bias": (lambda: Linear(24, 40, 0.02, ComputeConfig()), normal(2, 150, 24)),
    "fast gelu": (FastGelu, 4 * normal(2, 33, 70)),
    "dropout": (lambda: Dropout(0.3, salt=3), normal(2, 90, 500), SEEDS),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_fused_cell_equals_the_composed_one_and_so_do_its_gradients(monkeypatch, name):
    make, *inputs = CELLS[name]
    for ours, theirs in zip(*both_ways(monkeypatch, make, *inputs), strict=True):
        assert np.abs(ours - theirs).max() < 1e-5 * max(1.0, np.abs(theirs).max())


@pytest.mark.parametrize("rate", [0.0, 0.2])
@pytest.mark.parametrize("cell", [Attention, RotaryAttention])
def test_attention_in_one_kernel_equals_the_composed_one_and_drops_the_same(monkeypatch, cell, rate):
    config = ModelConfig("gpt_neox", 2, 60, 3, 48, 48, 70, eod_id=0, dropout_rate=rate, rotary_pct=0.4)
    query, source = 0.1 * normal(2, 70, 60), 0.2 * normal(2, 70, 60)
    positions = np.stack([np.where(np.arange(70) < cut, 0, -cut) + np.arange(70) for cut in (23, 46)]).astype(np.int32)
    mask = np.where(hidden_keys(positions), MASKED_SCORE, 0).astype(np.float32)

    class Fixed(nn.Cell):
        """Attention under a mask that has no gradient."""

        def __init__(self):
            super().__init__()
            self.attention, self.mask = cell(config, 3, ComputeConfig()), ms.Tensor(mask)
            self.positions = ms.Tensor(positions)

        def construct(self, query, source, seeds_B):
            return self.attention(query, source, self.positions, self.mask, seeds_B)

    ours, theirs = both_ways(monkeypatch, Fixed, query, source, SEEDS)
    # Scores do not change when all keys move alike: the gradient of the keys' bias is nothing but rounding.
    largest = max(np.abs(value).max() for value in theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(one - other).max() < 5e-6 * largest


def hidden_keys(positions):
    """[B, 1, T, T]: what is later than a query, and what comes before its document's start."""
    index = np.arange(positions.shape[1])
    starts = index - positions
    return ((index > index[:, None]) | (index < starts[:, :, None]))[:, None]


@given(
    st.integers(1, 2), st.integers(1, 3), st.integers(1, 40), st.integers(1, 80), st.sampled_from((0.0, 0.3)), st.data()
)
@settings(max_examples=30, deadline=None)
def test_attention_of_any_size_with_any_positions_equals_float64(batch, heads, size, length, rate, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    q, k, v, weight = (rng.normal(size=(batch, length, heads * size)).astype(np.float32) for _ in range(4))
    positions = (np.arange(length) * rng.random((batch, length)) ** data.draw(st.floats(0, 9))).astype(np.int32)
    mask, seeds = np.where(hidden_keys(positions), -np.inf, 0), rng.integers(-(2**31), 2**31, batch).astype(np.int32)
    bits = HashedBits(rate, 5)
    keeps = bits((batch, heads, length, length), ms.Tensor(seeds)).asnumpy()
    keeps = keeps / (1 - rate)

    def split(x):
        return x.reshape(batch, length, heads, size).transpose(0, 2, 1, 3).astype(np.float64)

    def joined(x):
        return x.transpose(0, 2, 1, 3).reshape(batch, length, heads * size)

    scores = split(q) @ split(k).swapaxes(-1, -2) * 0.3 + mask
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    dshares = split(weight) @ split(v).swapaxes(-1, -2) * keeps
    dscores = shares * (dshares - (dshares * shares).sum(-1, keepdims=True)) * 0.3
    exact = (
        joined((shares * keeps) @ split(v)),
        joined(dscores @ split(k)),
        joined(dscores.swapaxes(-1, -2) @ split(q)),
        joined((shares * keeps).swapaxes(-1, -2) @ split(weight)),
    )
    names = {"out": q, "logs": np.empty((batch, heads, length), np.float32), "dq": q, "dk": k, "dv": v}
    made = {name: np.full_like(like, np.nan) for name, like in names.items()}
    hashing = np.array([heads, bits.salt, bits.threshold if rate else fused.DROP_NOTHING], np.int32)
    inputs = (q, k, v, positions, seeds, hashing, np.array([0.3, 1 / (1 - rate)], np.float32))
    call("attention", *inputs, made["out"], made["logs"])
    call("attention_grad", weight, *inputs, made["out"], made["logs"], made["dq"], made["dk"], made["dv"])
    for found, expected in zip((made[name] for name in ("out", "dq", "dk", "dv")), exact, strict=True):
        assert np.abs(found - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())


def call(name, *arrays):
    """Calls a kernel as MindSpore does."""
    shapes = [(ctypes.c_int64 * array.ndim)(*array.shape) for array in arrays]
    pointers = (ctypes.POINTER(ctypes.c_int64) * len(arrays))(*shapes)
    data = (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])
    ndims = (ctypes.c_int * len(arrays))(*[array.ndim for array in arrays])
    function = getattr(ctypes.CDLL(library.library_here()), name)
    assert function(len(arrays), data, ndims, pointers, None, None, None) == 0


def test_cross_entropy_and_its_gradient_equal_float64():
    ms.set_context(mode=ms.GRAPH_MODE)
    logits, labels = 5 * normal(70, 300), np.arange(70, dtype=np.int32) * 4

    class Nats(nn.Cell):
        def __init__(self):
            super().__init__()
            self.nats, self.labels = fused.cross_entropy(), ms.Tensor(labels)

        def construct(self, logits):
            return self.nats(logits, self.labels)

    cell = Nats()
    nats = cell(ms.Tensor(logits)).asnumpy()
    weighted = Weighted(cell, nats.shape)
    gradient = ms.grad(weighted)(ms.Tensor(logits)).asnumpy()
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(-1, keepdims=True)
    assert np.abs(nats + np.log(probabilities[np.arange(70), labels])).max() < 5e-6
    probabilities[np.arange(70), labels] -= 1
    assert np.abs(gradient - probabilities * weighted.weight.asnumpy()[:, None]).max() < 2e-6


def test_a_query_that_sees_only_itself_mixes_nothing_else():
    mix = fused.attention(2, 1.0, 0.0, 0, 0)
    q, k, v = (ms.Tensor(40 * normal(*shape)) for shape in ((1, 8, 6),) * 3)
    alone = ms.Tensor(np.zeros((1, 8), np.int32))
    assert np.array_equal(mix(q, k, v, alone, ms.Tensor(SEEDS[:1])).asnumpy(), v.asnumpy())


def test_a_sum_of_two_shapes_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match=r"shapes \[2, 3\] and \[3\]"):
        Sum()(ms.Tensor(normal(2, 3)), ms.Tensor(normal(3)))


def test_a_compiler_that_fails_is_told_of_once_and_what_it_means(monkeypatch, tmp_path, caplog):
    compiler = tmp_path / "g++"
    compiler.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo 1.0 || { echo 'x.cc: error: no such thing' >&2; exit 1; }\n"
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    library.library_here.cache_clear()
    try:
        assert not library.kernels_here() and not library.kernels_here()
    finally:
        library.library_here.cache_clear()
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "differ in rounding" in record.getMessage() and "x.cc: error: no such thing" in record.getMessage()


SUMS = """
import numpy as np, mindspore as ms
from mindgeex.model_zoo.kernels import library
rng = np.random.default_rng(0)
x, dy = (ms.Tensor(rng.normal(size=(3001, size)).astype(np.float32)) for size in (96, 70))
ms.set_context(mode=ms.GRAPH_MODE)
class Gradients(ms.nn.Cell):
    def __init__(self):
        super().__init__()
        self.both = library.kernel("linear_weights", lambda x, dy: ([dy[1], x[1]], [dy[1]]), 2)
    def construct(self, x, dy):
        return self.both(x, dy)
print("".join(part.asnumpy().tobytes().hex() for part in Gradients()(x, dy)))
"""


def test_results_do_not_depend_on_the_number_of_threads(tmp_path):
    usable = sorted(os.sched_getaffinity(0))
    script = tmp_path / "sums.py"
    script.write_text(SUMS)
    outputs = []
    for cpus in (usable[:1], usable):
        command = ["taskset", "-c", ",".join(map(str, cpus)), sys.executable, str(script)]
        process = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert process.returncode == 0, process.stderr[-2000:]
        outputs.append(process.stdout.strip().splitlines()[-1])
    assert len(outputs[0]) == 8 * 97 * 70
    assert outputs[0] == outputs[1]
