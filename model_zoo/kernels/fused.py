"""What stands between the linear layers of a training step as MindSpore operators, each with its gradient.

library.py says where they run.
"""

# Shapes: N rows, H columns, B batch, A heads, T window, V vocabulary
from collections.abc import Callable
from typing import Any

import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.ops import signature

from mindgeex.model_zoo.kernels.library import kernel

DROP_NOTHING = -(2**31)


def layer_norm(epsilon: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A layer norm: x [..., H], gamma, beta -> the same shape as x."""
    gradient = kernel("layer_norm_grad", lambda dy, x, gamma, mean, inverse: (x, gamma, gamma), 3)

    def bprop(x, gamma, beta, least, out, dout):  # noqa: ANN001, ANN202
        dx, dgamma, dbeta = gradient(dout[0], x, gamma, out[1], out[2])
        return dx, dgamma, dbeta, ops.zeros_like(least)

    forward = kernel("layer_norm", lambda x, gamma, beta, least: (x, x[:-1], x[:-1]), 3, bprop)
    least = Tensor(np.array([epsilon], np.float32))

    def apply(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return forward(x, gamma, beta, least)[0]

    return apply


class _Forked(nn.Cell):
    """A cell, since an operator cannot give back its input."""

    def __init__(self, epsilon: float):
        super().__init__()
        self.norm = kernel("layer_norm", lambda x, *_: (x, x[:-1], x[:-1]), 3)
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

    forward = kernel("sum_layer_norm", lambda x, *_: (x, x, x[:-1], x[:-1]), 4, bprop)
    least = Tensor(np.array([epsilon], np.float32))

    def apply(x: Tensor, added: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        total, normed, *_ = forward(x, added, gamma, beta, least)
        return total, normed

    return apply


def _forked_gradient() -> Any:
    return kernel("forked_layer_norm_grad", lambda dy, x, gamma, *_: (x, gamma, gamma), 3)


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

    return kernel("add", out_shape, 1, bprop)


def fast_gelu() -> Callable[[Tensor], Tensor]:
    """An activation: x -> x sigmoid(1.702 x), any shape."""
    gradient = kernel("fast_gelu_grad", lambda dy, x: x)

    def bprop(x, out, dout):  # noqa: ANN001, ANN202
        return (gradient(dout, x),)

    return kernel("fast_gelu", lambda x: x, 1, bprop)


def dropout(rate: float, salt: int, threshold: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A dropout: x [B, ...], seeds [B] -> what stays of x, scaled."""
    gradient = kernel("dropout", lambda x, seeds, hashing, scale: x)

    def bprop(x, seeds, hashing, scale, out, dout):  # noqa: ANN001, ANN202
        dx = gradient(dout, seeds, hashing, scale)
        return dx, ops.zeros_like(seeds), ops.zeros_like(hashing), ops.zeros_like(scale)

    forward = kernel("dropout", lambda x, seeds, hashing, scale: x, 1, bprop)
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
    gradient = kernel("attention_grad", lambda dout, q, k, v, *_: (q, k, v), 3)

    def bprop(q, k, v, positions, seeds, hashing, scales, out, dout):  # noqa: ANN001, ANN202
        dq, dk, dv = gradient(dout[0], q, k, v, positions, seeds, hashing, scales, out[0], out[1])
        others = ops.zeros_like(positions), ops.zeros_like(seeds), ops.zeros_like(hashing), ops.zeros_like(scales)
        return dq, dk, dv, *others

    forward = kernel("attention", lambda q, *_: (q, [q[0], heads, q[1]]), 2, bprop)
    hashing = Tensor(np.array([heads, salt, threshold if rate else DROP_NOTHING], np.int32))
    scales = Tensor(np.array([scale, 1.0 / (1.0 - rate)], np.float32))

    def apply(q: Tensor, k: Tensor, v: Tensor, positions_BT: Tensor, seeds_B: Tensor) -> Tensor:
        return forward(q, k, v, positions_BT, seeds_B.reshape(-1), hashing, scales)[0]

    return apply


def cross_entropy() -> Callable[[Tensor, Tensor], Tensor]:
    """Logits [..., V], labels [...] int32 -> nats [...]."""
    gradient = kernel("cross_entropy_grad", lambda dnats, logits, labels, logs: logits)

    def bprop(logits, labels, out, dout):  # noqa: ANN001, ANN202
        return gradient(dout[0], logits, labels, out[1]), ops.zeros_like(labels)

    forward = kernel("cross_entropy", lambda logits, labels: (labels, labels), 2, bprop)

    def apply(logits: Tensor, labels: Tensor) -> Tensor:
        return forward(logits, labels)[0]

    return apply


def global_norm() -> Callable[..., Tensor]:
    """A norm: any number of tensors -> the Euclidean norm of all of them together, a scalar."""
    return kernel("global_norm", lambda *_: [])


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
    update = kernel("adam_weight_decay", lambda *_: [1])
    written, read = signature.sig_rw.RW_WRITE, signature.sig_rw.RW_READ
    kinds = [written] * (3 * count) + [read] * (count + 5)
    update.set_signatures(tuple(signature.make_sig(f"x{index}", kind) for index, kind in enumerate(kinds)))
    update.add_prim_attr("side_effect_mem", True)  # neither moved nor left out
    betas = Tensor(np.array([beta1, beta2], np.float32))
    decays = Tensor(np.array(decayed, np.int32))

    def apply(parameters, m, v, gradients, factor, scalars, applied):  # noqa: ANN001, ANN202
        return update(*parameters, *m, *v, *gradients, factor, scalars, betas, decays, applied)

    return apply
