"""The fused kernels of training.cc as MindSpore operators, each with its gradient.

MindSpore's own CPU kernels of what stands between the matrix products take as long as a third of a step. The cells ask
`kernels_here` once, when they are built, and compose MindSpore's operators where the answer is no: that graph is the
one that Ascend compiles.
Covers: float32 on a CPU with g++. Does not cover: half precision (the cells compose it), other compilers, a fork of a
process that has computed.
"""

# Shapes: N rows, H and O columns, B batch, A heads, T queries, K keys, V vocabulary
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from mindgeex.common.files import PARTIAL
from mindgeex.model_zoo.decoding.kernels.build import CannotCompile, find_compiler

FOLDER = Path(__file__).parent
OPTIONS = ("-std=c++17", "-O3", "-march=native", "-ffast-math", "-fno-finite-math-only", "-pthread", "-shared", "-fPIC")
TIMEOUT_S = 300
DROP_NOTHING = -(2**31)
Shape = list[int] | tuple[list[int], ...]


def kernels_here() -> bool:
    """True where the fused kernels run: a CPU with a compiler."""
    return ms.get_context("device_target") == "CPU" and _library() is not None


@cache
def _library() -> str | None:
    """Path of the library for this machine's processor, compiled into the user's cache the first time."""
    try:
        compiler, version = find_compiler()
        processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")][:1]
        sources = [path.read_text() for path in (FOLDER / "pool.h", FOLDER / "training.cc")]
        name = hashlib.sha256("\n".join((*sources, version, *processor, *OPTIONS)).encode()).hexdigest()[:16]
        path = Path.home() / ".cache" / "mindgeex" / f"training-{name}.so"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            # A folder of its own: other processes may be compiling the same at this moment.
            with tempfile.TemporaryDirectory(dir=path.parent, suffix=PARTIAL) as scratch:
                made = Path(scratch) / path.name
                command = [compiler, *OPTIONS, str(FOLDER / "training.cc"), "-o", str(made)]
                subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)
                os.replace(made, path)
    except (CannotCompile, OSError, RuntimeError, subprocess.SubprocessError):
        return None
    return str(path)


def _kernel(name: str, out_shape: Callable[..., Shape], outputs: int = 1, bprop: Callable | None = None) -> Any:
    def out_dtype(*_: object) -> Any:
        return ms.float32 if outputs == 1 else (ms.float32,) * outputs

    return ops.Custom(f"{_library()}:{name}", out_shape, out_dtype, func_type="aot", bprop=bprop)


def layer_norm(epsilon: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A layer norm: x [..., H], gamma, beta -> the same shape as x."""
    gradient = _kernel("layer_norm_grad", lambda dy, x, gamma, mean, inverse: (x, gamma, gamma), 3)

    def bprop(x, gamma, beta, least, out, dout):  # noqa: ANN001, ANN202
        dx, dgamma, dbeta = gradient(dout[0], x, gamma, out[1], out[2])
        return dx, dgamma, dbeta, ops.zeros_like(least)

    forward = _kernel("layer_norm", lambda x, gamma, beta, least: (x, x[:-1], x[:-1]), 3, bprop)
    least = Tensor(np.array([epsilon], np.float32))

    def apply(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return forward(x, gamma, beta, least)[0]

    return apply


def add_bias() -> Callable[[Tensor, Tensor], Tensor]:
    """A sum: x [N, O], bias [O] -> x + bias."""
    total = _kernel("sum_rows", lambda dy: dy[-1:])

    def bprop(x, bias, out, dout):  # noqa: ANN001, ANN202
        return dout, total(dout)

    return _kernel("add_bias", lambda x, bias: x, 1, bprop)


def fast_gelu() -> Callable[[Tensor], Tensor]:
    """An activation: x -> x sigmoid(1.702 x), any shape."""
    gradient = _kernel("fast_gelu_grad", lambda dy, x: x)

    def bprop(x, out, dout):  # noqa: ANN001, ANN202
        return (gradient(dout, x),)

    return _kernel("fast_gelu", lambda x: x, 1, bprop)


def dropout(rate: float, salt: int, threshold: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A dropout: x [B, ...], seeds [B] -> what stays of x, scaled."""
    gradient = _kernel("dropout", lambda x, seeds, hashing, scale: x)

    def bprop(x, seeds, hashing, scale, out, dout):  # noqa: ANN001, ANN202
        dx = gradient(dout, seeds, hashing, scale)
        return dx, ops.zeros_like(seeds), ops.zeros_like(hashing), ops.zeros_like(scale)

    forward = _kernel("dropout", lambda x, seeds, hashing, scale: x, 1, bprop)
    hashing = Tensor(np.array([salt, threshold], np.int32))
    scale = Tensor(np.array([1.0 / (1.0 - rate)], np.float32))

    def apply(x: Tensor, seeds_B: Tensor) -> Tensor:
        return forward(x, seeds_B.reshape(-1), hashing, scale)

    return apply


def masked_softmax(scale: float, rate: float, salt: int, threshold: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Scores [B, A, T, K], the added mask [B, 1, T, K], seeds [B] -> what stays of softmax(scale scores + mask)."""
    gradient = _kernel("masked_softmax_grad", lambda dout, shares, seeds, hashing, scales: shares)
    hashing = Tensor(np.array([salt, threshold if rate else DROP_NOTHING], np.int32))
    scales = Tensor(np.array([scale, 1.0 / (1.0 - rate)], np.float32))

    def bprop(scores, mask, seeds, hashing, scales, out, dout):  # noqa: ANN001, ANN202
        shares = out[0] if rate else out
        dstay = dout[1] if rate else dout
        dscores = gradient(dstay, shares, seeds, hashing, scales)
        return dscores, ops.zeros_like(mask), ops.zeros_like(seeds), ops.zeros_like(hashing), ops.zeros_like(scales)

    if rate:
        both = _kernel("masked_softmax", lambda scores, *_: (scores, scores), 2, bprop)

        def apply(scores: Tensor, mask: Tensor, seeds_B: Tensor) -> Tensor:
            return both(scores, mask, seeds_B.reshape(-1), hashing, scales)[1]

        return apply
    plain = _kernel("masked_softmax", lambda scores, *_: scores, 1, bprop)

    def apply_plain(scores: Tensor, mask: Tensor, seeds_B: Tensor) -> Tensor:
        return plain(scores, mask, seeds_B.reshape(-1), hashing, scales)

    return apply_plain


def cross_entropy() -> Callable[[Tensor, Tensor], Tensor]:
    """Logits [N, V], labels [N] int32 -> nats [N]."""
    gradient = _kernel("cross_entropy_grad", lambda dnats, logits, labels, logs: logits)

    def bprop(logits, labels, out, dout):  # noqa: ANN001, ANN202
        return gradient(dout[0], logits, labels, out[1]), ops.zeros_like(labels)

    forward = _kernel("cross_entropy", lambda logits, labels: (labels, labels), 2, bprop)

    def apply(logits_NV: Tensor, labels_N: Tensor) -> Tensor:
        return forward(logits_NV, labels_N)[0]

    return apply
