"""The fused kernels of a CPU give the values and the gradients of MindSpore's operators."""

import os
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindgeex.model_zoo.attention import MASKED_SCORE, DotProductAttention
from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.model_zoo.families import build_model
from mindgeex.model_zoo.kernels import fused
from mindgeex.model_zoo.layers import Dropout, FastGelu, LayerNorm, Linear

pytestmark = pytest.mark.skipif(not fused.kernels_here(), reason="needs a CPU with g++")
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
            monkeypatch.setattr(fused, "kernels_here", lambda: False)
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


CELLS = {
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
def test_fused_attention_equals_the_composed_one_and_drops_the_same(monkeypatch, rate):
    config = ModelConfig("codegeex", 2, 32, 2, 48, 48, 64, eod_id=0, dropout_rate=rate)
    q, k, v = (normal(2, 2, 48, 16) * factor for factor in (1, 2, 3))
    hidden = (np.random.default_rng(0).random((2, 1, 48, 48)) < 0.6) & ~np.eye(48, dtype=bool)
    mask = np.where(hidden, MASKED_SCORE, 0).astype(np.float32)

    class Fixed(nn.Cell):
        """Attention under a mask that has no gradient."""

        def __init__(self):
            super().__init__()
            self.core, self.mask = DotProductAttention(config, 3, ComputeConfig()), ms.Tensor(mask)

        def construct(self, q, k, v, seeds_B):
            return self.core(q, k, v, self.mask, seeds_B)

    for ours, theirs in zip(*both_ways(monkeypatch, Fixed, q, k, v, SEEDS), strict=True):
        assert np.abs(ours - theirs).max() < 1e-5 * max(1.0, np.abs(theirs).max())


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


def test_a_query_that_sees_only_itself_has_finite_shares_and_hidden_keys_none():
    mask = np.full((1, 1, 8, 8), MASKED_SCORE, np.float32)
    mask[..., np.arange(8), np.arange(8)] = 0
    soften = fused.masked_softmax(1.0, 0.0, 0, 0)
    shares = soften(ms.Tensor(40 * normal(1, 2, 8, 8)), ms.Tensor(mask), ms.Tensor(SEEDS[:1])).asnumpy()
    assert np.array_equal(shares, np.broadcast_to(np.eye(8, dtype=np.float32), shares.shape))


SUMS = """
import numpy as np, mindspore as ms
from mindgeex.model_zoo.kernels import fused
x = ms.Tensor(np.random.default_rng(0).normal(size=(3001, 96)).astype(np.float32))
ms.set_context(mode=ms.GRAPH_MODE)
class Summed(ms.nn.Cell):
    def __init__(self):
        super().__init__()
        self.total = fused._kernel("sum_rows", lambda x: x[-1:])
    def construct(self, x):
        return self.total(x)
print(Summed()(x).asnumpy().tobytes().hex())
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
    assert len(outputs[0]) == 8 * 96
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("family", ["codegeex", "gpt_neox"])
def test_recomputed_blocks_give_the_same_numbers_bit_for_bit_with_dropout(family):
    ms.set_context(mode=ms.GRAPH_MODE)
    config = ModelConfig(family, 3, 32, 2, 48, 16, 64, eod_id=0, dropout_rate=0.2)
    ids = ms.Tensor(np.random.default_rng(0).integers(0, 48, (2, 16)).astype(np.int32))
    results = []
    for recompute in (False, True):
        model = build_model(config, ComputeConfig(recompute=recompute)).set_train()
        for parameter in model.get_parameters():
            parameter.set_data(ms.Tensor(0.3 * normal(*parameter.shape)))

        loss = Weighted(model, (2, 16, 48)).set_train()
        out = ms.value_and_grad(loss, None, tuple(model.get_parameters()))(ids, ms.Tensor(SEEDS))
        results.append([value.asnumpy() for value in flat(out)])
    for plain, again in zip(*results, strict=True):
        assert np.array_equal(plain, again)
