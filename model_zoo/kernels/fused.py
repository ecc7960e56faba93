"""The fused kernels of this folder as MindSpore operators, each with its gradient.

MindSpore's own CPU kernels do not use a processor's matrix unit, and those of what stands between the matrix products
take as long as a third of a step. The cells ask
`kernels_here` once, when they are built, and compose MindSpore's operators where the answer is no: that graph is the
one that Ascend compiles.
Covers: float32 on a CPU with g++. Does not cover: half precision (the cells compose it), other compilers, a fork of a
process that has computed.
"""

# Shapes: N rows, H and O columns, B batch, A heads, T window, V vocabulary
import logging
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.ops import signature

from mindgeex.model_zoo.shared_library import CannotCompile, shared_library

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
# What -ffast-math stands for, but for its own start-up code, which takes denormal numbers from the whole process.
FAST = ("-fno-math-errno", "-fassociative-math", "-freciprocal-math", "-fno-signed-zeros", "-fno-trapping-math")
WIDE = ("-mprefer-vector-width=512",) if platform.machine() == "x86_64" else ()  # where there are such vectors
OPTIONS = ("-std=c++17", "-O3", "-march=native", *WIDE, *FAST, "-pthread", "-shared", "-fPIC")
DROP_NOTHING = -(2**31)
Shape = list[int] | tuple[list[int], ...]


def kernels_here() -> bool:
    """True where the fused kernels run: a CPU with a compiler."""
    return ms.get_context("device_target") == "CPU" and _library() is not None


def name_here() -> str:
    """What last digits depend on: the library, named after sources, compiler and processor, or composed."""
    return Path(str(_library())).parent.name if kernels_here() else "composed"


@cache
def _library() -> str | None:
    """Path of the library for this machine's processor, compiled into the user's cache the first time."""
    try:
        return str(shared_library("training", FOLDER, OPTIONS))
    except CannotCompile as error:
        logger.warning("no fused kernels here, so training takes longer and its numbers differ in rounding: %s", error)
        return None


# MindSpore finds a gradient by the kernel's name: one that has several has several names.
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


class _Forked(nn.Cell):
    """A cell, since an operator cannot give back its input."""

    def __init__(self, epsilon: float):
        super().__init__()
        self.norm = _kernel("layer_norm", lambda x, *_: (x, x[:-1], x[:-1]), 3)
        self.gradient = _forked_gradient()
        self.least = Tensor(np.array([epsilon], np.float32))

    def construct(self, x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
        """x, its norm, and the means and inverse deviations of the rows."""
        return x, *self.norm(x, gamma, beta, self.least)

    def bprop(self, x, gamma, beta, out, dout):  # noqa: ANN001, ANN201
        """The gradients of x, gamma and beta."""
        return self.gradient(dout[1], x, gamma, out[2], out[3], dout[0])


def forked_layer_norm(epsilon: float) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A layer norm of what is read elsewhere, too: x [..., H], gamma, beta -> x and its norm; x has one gradient."""
    forked = _Forked(epsilon)

    def apply(x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        same, normed, *_ = forked(x, gamma, beta)
        return same, normed

    return apply


def sum_layer_norm(epsilon: float) -> Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A sum and its layer norm: x [..., H], what is added, gamma, beta -> twice the shape of x."""
    gradient = _forked_gradient()

    def bprop(x, added, gamma, beta, least, out, dout):  # noqa: ANN001, ANN202
        dx, dgamma, dbeta = gradient(dout[1], out[0], gamma, out[2], out[3], dout[0])
        return dx, dx, dgamma, dbeta, ops.zeros_like(least)

    forward = _kernel("sum_layer_norm", lambda x, *_: (x, x, x[:-1], x[:-1]), 4, bprop)
    least = Tensor(np.array([epsilon], np.float32))

    def apply(x: Tensor, added: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        total, normed, *_ = forward(x, added, gamma, beta, least)
        return total, normed

    return apply


def _forked_gradient() -> Any:
    return _kernel("forked_layer_norm_grad", lambda dy, x, gamma, *_: (x, gamma, gamma), 3)


def add() -> Callable[[Tensor, Tensor], Tensor]:
    """A sum of two tensors of one shape.

    Raises:
        ValueError: the shapes differ.
    """

    def bprop(x, y, out, dout):  # noqa: ANN001, ANN202
        return dout, dout

    def out_shape(x: list[int], y: list[int]) -> list[int]:
        if x != y:
            raise ValueError(f"the sum of tensors of shapes {x} and {y}: the kernel adds those of one shape")
        return x

    return _kernel("add", out_shape, 1, bprop)


def _outputs_shapes(x: list[int], *weights_and_biases: list[int]) -> Shape:
    count = len(weights_and_biases) // 2
    return tuple([*x[:-1], weight[0]] for weight in weights_and_biases[:count])


def _inputs_shape(*dys_and_weights: list[int]) -> Shape:
    return [*dys_and_weights[0][:-1], dys_and_weights[-1][1]]


def _weights_shapes(x: list[int], *dys: list[int]) -> Shape:
    return *([dy[-1], x[-1]] for dy in dys), *([dy[-1]] for dy in dys)


def linear() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A linear layer: x [..., I], weight [O, I], bias [O] -> [..., O]."""
    to_inputs = _kernel("linear_inputs", _inputs_shape)
    to_weights = _kernel("linear_weights", _weights_shapes, 2)

    def bprop(x, weight, bias, out, dout):  # noqa: ANN001, ANN202
        dweight, dbias = to_weights(x, dout)
        return to_inputs(dout, weight), dweight, dbias

    return _kernel("linear", lambda x, weight, bias: [*x[:-1], weight[0]], 1, bprop)


def gelu_linear() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A linear layer that reads x sigmoid(1.702 x): x [..., I], weight [O, I], bias [O] -> [..., O]."""
    to_inputs = _kernel("gelu_linear_inputs", lambda dy, weight, x: x)
    to_weights = _kernel("gelu_linear_weights", _weights_shapes, 2)

    def bprop(x, weight, bias, out, dout):  # noqa: ANN001, ANN202
        dweight, dbias = to_weights(x, dout)
        return to_inputs(dout, weight, x), dweight, dbias

    return _kernel("gelu_linear", lambda x, weight, bias: [*x[:-1], weight[0]], 1, bprop)


def two_linears() -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Two linear layers of one input: x [..., I], their weights [O, I], their biases [O] -> twice [..., O]."""
    to_inputs = _kernel("linear_inputs", _inputs_shape)
    to_weights = _kernel("linear_weights", _weights_shapes, 4)

    def bprop(x, weight1, weight2, bias1, bias2, out, dout):  # noqa: ANN001, ANN202
        dweight1, dweight2, dbias1, dbias2 = to_weights(x, dout[0], dout[1])
        return to_inputs(dout[0], dout[1], weight1, weight2), dweight1, dweight2, dbias1, dbias2

    return _kernel("two_linears", _outputs_shapes, 2, bprop)


def three_linears() -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]]:
    """Three linear layers of one input: x [..., I], their weights [O, I], their biases [O] -> thrice [..., O]."""
    to_inputs = _kernel("linear_inputs", _inputs_shape)
    to_weights = _kernel("linear_weights", _weights_shapes, 6)

    def bprop(x, weight1, weight2, weight3, bias1, bias2, bias3, out, dout):  # noqa: ANN001, ANN202
        dy1, dy2, dy3 = dout
        dweight1, dweight2, dweight3, dbias1, dbias2, dbias3 = to_weights(x, dy1, dy2, dy3)
        dx = to_inputs(dy1, dy2, dy3, weight1, weight2, weight3)
        return dx, dweight1, dweight2, dweight3, dbias1, dbias2, dbias3

    return _kernel("three_linears", _outputs_shapes, 3, bprop)


def product() -> Callable[[Tensor, Tensor], Tensor]:
    """A linear layer without bias: x [..., I], weight [O, I] -> [..., O]."""
    to_inputs = _kernel("linear_inputs", _inputs_shape)
    to_weights = _kernel("linear_weights", lambda x, dy: [dy[-1], x[-1]])

    def bprop(x, weight, out, dout):  # noqa: ANN001, ANN202
        return to_inputs(dout, weight), to_weights(x, dout)

    return _kernel("product", lambda x, weight: [*x[:-1], weight[0]], 1, bprop)


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


def attention(
    heads: int, scale: float, rate: float, salt: int, threshold: int
) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Queries, keys and values [B, T, H], positions [B, T], seeds [B] -> the mixture [B, T, H].

    A query sees its own key and as many before it as its position counts.
    """
    gradient = _kernel("attention_grad", lambda dout, q, k, v, *_: (q, k, v), 3)

    def bprop(q, k, v, positions, seeds, hashing, scales, out, dout):  # noqa: ANN001, ANN202
        dq, dk, dv = gradient(dout[0], q, k, v, positions, seeds, hashing, scales, out[0], out[1])
        others = ops.zeros_like(positions), ops.zeros_like(seeds), ops.zeros_like(hashing), ops.zeros_like(scales)
        return dq, dk, dv, *others

    forward = _kernel("attention", lambda q, *_: (q, [q[0], heads, q[1]]), 2, bprop)
    hashing = Tensor(np.array([heads, salt, threshold if rate else DROP_NOTHING], np.int32))
    scales = Tensor(np.array([scale, 1.0 / (1.0 - rate)], np.float32))

    def apply(q: Tensor, k: Tensor, v: Tensor, positions_BT: Tensor, seeds_B: Tensor) -> Tensor:
        return forward(q, k, v, positions_BT, seeds_B.reshape(-1), hashing, scales)[0]

    return apply


def cross_entropy() -> Callable[[Tensor, Tensor], Tensor]:
    """Logits [..., V], labels [...] int32 -> nats [...]."""
    gradient = _kernel("cross_entropy_grad", lambda dnats, logits, labels, logs: logits)

    def bprop(logits, labels, out, dout):  # noqa: ANN001, ANN202
        return gradient(dout[0], logits, labels, out[1]), ops.zeros_like(labels)

    forward = _kernel("cross_entropy", lambda logits, labels: (labels, labels), 2, bprop)

    def apply(logits: Tensor, labels: Tensor) -> Tensor:
        return forward(logits, labels)[0]

    return apply


def global_norm() -> Callable[..., Tensor]:
    """A norm: any number of tensors -> the Euclidean norm of all of them together, a scalar."""
    return _kernel("global_norm", lambda *_: [])


def adam_weight_decay(decayed: tuple[bool, ...], beta1: float, beta2: float) -> Callable[..., Tensor]:
    """An update in place: parameters, moments, gradients, their factor, [rate, epsilon, decay], whether to make it.

    Args:
        decayed: for every parameter, whether it decays.
        beta1: of the first moments.
        beta2: of the second.

    Returns:
        What takes these and gives a tensor that is there when everything is updated.
    """
    count = len(decayed)
    update = _kernel("adam_weight_decay", lambda *_: [1])
    written, read = signature.sig_rw.RW_WRITE, signature.sig_rw.RW_READ
    kinds = [written] * (3 * count) + [read] * (count + 5)
    update.set_signatures(tuple(signature.make_sig(f"x{index}", kind) for index, kind in enumerate(kinds)))
    update.add_prim_attr("side_effect_mem", True)  # neither moved nor left out
    betas = Tensor(np.array([beta1, beta2], np.float32))
    decays = Tensor(np.array(decayed, np.int32))

    def apply(parameters, m, v, gradients, factor, scalars, applied):  # noqa: ANN001, ANN202
        return update(*parameters, *m, *v, *gradients, factor, scalars, betas, decays, applied)

    return apply
