"""The cells that every family is built from, attention aside: linear, layer norm, embedding, dropout, feed-forward.

Covers: products in float32, float16 and bfloat16 (no CPU kernels) over float32 weights; layer norms in float32.
"""

# Shapes: B batch, S sequence, T queries (S, or 1 when decoding), H hidden, F feed-forward width, N = B*T
import math
from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Normal, initializer
from mindspore.ops import constexpr
from mindspore.ops.auto_generate import Muls

from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.model_zoo.kernels import fused, library, linear


def fuses(compute: ComputeConfig) -> bool:
    """Whether the cells use the fused kernels of a CPU; without them they compose MindSpore's operators."""
    return compute.dtype == compute.softmax_dtype == "float32" and library.kernels_here()


def residual(compute: ComputeConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """What adds a branch to what it branched off."""
    return fused.add() if fuses(compute) else ops.Add()


class Linear(nn.Cell):
    """y = x W^T + b, with W [out, in] and b [out], in the type of the products.

    It is given the rows' seeds for what may stand in its place and drops some of x (lora.py).
    """

    def __init__(self, in_size: int, out_size: int, init_std: float, compute: ComputeConfig, bias: bool = True):
        super().__init__()
        self.in_size, self.out_size = in_size, out_size
        self.dtype = getattr(ms, compute.dtype)
        self.weight = Parameter(initializer(Normal(init_std), (out_size, in_size), ms.float32), name="weight")
        self.bias = Parameter(initializer("zeros", (out_size,), ms.float32), name="bias") if bias else None
        self.matmul = ops.MatMul(transpose_b=True)
        self.add = ops.Add()
        self.fused: Any = None
        if fuses(compute):
            self.fused = linear.layer() if bias else linear.product()

    def construct(self, x_BTI: Tensor, seeds_B: Tensor | None = None) -> Tensor:
        """[..., in] -> [..., out]."""
        if self.fused is not None and self.training:  # decoding has few rows, for which it is not made
            if self.bias is None:  # a call with *arguments would leave the cell's scope, by which recompute goes
                return self.fused(x_BTI.astype(self.dtype), self.weight)
            return self.fused(x_BTI.astype(self.dtype), self.weight, self.bias)
        x_NI = x_BTI.astype(self.dtype).reshape(-1, self.in_size)
        y_NO = self.matmul(x_NI, self.weight.astype(self.dtype))
        if self.bias is not None:
            y_NO = self.add(y_NO, self.bias.astype(self.dtype))
        return y_NO.reshape(x_BTI.shape[:-1] + (self.out_size,))


class LayerNorm(nn.Cell):
    """Normalises the last axis in float32; gamma and beta [H]."""

    def __init__(self, size: int, epsilon: float):
        super().__init__()
        self.gamma = Parameter(initializer("ones", (size,), ms.float32), name="gamma")
        self.beta = Parameter(initializer("zeros", (size,), ms.float32), name="beta")
        self.fused = self.fused_fork = self.fused_sum = None
        if library.kernels_here():
            self.fused, self.fused_fork = fused.layer_norm(epsilon), fused.forked_layer_norm(epsilon)
            self.fused_sum = fused.sum_layer_norm(epsilon)
        self.norm = ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=epsilon)

    def construct(self, x_BTH: Tensor) -> Tensor:
        """[..., H] -> [..., H], in the type that came."""
        x_f32_BTH = x_BTH.astype(ms.float32)
        if self.fused is not None:
            return self.fused(x_f32_BTH, self.gamma, self.beta).astype(x_BTH.dtype)
        return self.norm(x_f32_BTH, self.gamma, self.beta)[0].astype(x_BTH.dtype)

    def fork(self, x_BTH: Tensor) -> tuple[Tensor, Tensor]:
        """What it is given, to be read where its norm is not, and its norm."""
        if self.fused_fork is not None and x_BTH.dtype == ms.float32:
            return self.fused_fork(x_BTH, self.gamma, self.beta)
        return x_BTH, self.construct(x_BTH)

    def of_sum(self, x_BTH: Tensor, added_BTH: Tensor, add: Callable) -> tuple[Tensor, Tensor]:
        """The sum of both, as `add` adds them, and its norm."""
        if self.fused_sum is not None and x_BTH.dtype == ms.float32:
            return self.fused_sum(x_BTH, added_BTH, self.gamma, self.beta)
        total_BTH = add(x_BTH, added_BTH)
        return total_BTH, self.construct(total_BTH)


class Embedding(nn.Cell):
    """A table [rows, H], looked up by id."""

    def __init__(self, rows: int, size: int, init_std: float, compute: ComputeConfig):
        super().__init__()
        self.dtype = getattr(ms, compute.dtype)
        self.weight = Parameter(initializer(Normal(init_std), (rows, size), ms.float32), name="weight")
        self.gather = ops.Gather()

    def construct(self, ids_BT: Tensor) -> Tensor:
        """[B, T] int32 -> [B, T, H]."""
        return self.gather(self.weight, ids_BT, 0).astype(self.dtype)


class Dropout(nn.Cell):
    """Drops values with probability `rate` while training and scales the rest by 1 / (1 - rate).

    The mask is a hash of the value's index in its row, the cell's salt and the row's seed. There is no hidden state, so
    a resumed run and a recomputed block draw the same mask as the first time, and a row is dropped the same whatever
    rows are computed beside it.
    """

    def __init__(self, rate: float, salt: int):
        super().__init__()
        self.rate = rate
        self.keeps = HashedBits(rate, salt)
        self.drop, self.scale = ops.Mul(), Muls()
        self.fused = fused.dropout(rate, self.keeps.salt, self.keeps.threshold) if library.kernels_here() else None

    def construct(self, x: Tensor, seeds_B: Tensor) -> Tensor:
        """[B, ...], and the rows' seeds, int32 -> the same shape."""
        if self.rate == 0.0 or not self.training:
            return x
        if self.fused is not None and x.dtype == ms.float32:
            return self.fused(x, seeds_B)
        keep = self.keeps(x.shape, seeds_B).astype(x.dtype)
        return self.scale(self.drop(x, keep), 1.0 / (1.0 - self.rate))


class HashedBits(nn.Cell):
    """True with probability 1 - rate, as a function of index in the row, salt and seed alone.

    The hash is a 32-bit multiply-and-shift mixer of two rounds in wrapping int32 arithmetic; it ends on a
    multiplication, whose high bits are the well-mixed ones that the comparison reads.
    """

    def __init__(self, rate: float, salt: int):
        super().__init__()
        self.salt = (salt * 0x9E3779B9 + 0x7F4A7C15) & 0x7FFFFFFF
        self.threshold = round(rate * 2**32) - 2**31
        self.spread, self.season = Muls(), ops.Add()
        self.first, self.second, self.third = ops.Add(), ops.Add(), ops.Add()
        self.xor, self.shift, self.mix = ops.BitwiseXor(), ops.RightShift(), Muls()
        self.reaches = ops.GreaterEqual()
        self.far, self.near = Tensor(16, ms.int32), Tensor(15, ms.int32)

    def construct(self, shape: tuple[int, ...], seeds_B: Tensor) -> Tensor:
        """The shape of the values, rows first, and the rows' seeds -> bool of that shape."""
        h = seeds_B.reshape((-1,) + (1,) * (len(shape) - 1))
        h = self.first(self.season(self.spread(h, 277803737), self.salt), hashed_axis(shape, 1))
        if len(shape) > 2:
            h = self.second(h, hashed_axis(shape, 2))
        if len(shape) > 3:
            h = self.third(h, hashed_axis(shape, 3))
        h = self.mix(self.xor(h, self.shift(h, self.far)), 569420461)
        h = self.mix(self.xor(h, self.shift(h, self.near)), 1935289751)
        return self.reaches(h, self.threshold)


@constexpr
def hashed_axis(shape: tuple[int, ...], axis: int) -> Tensor:
    """What an axis adds to the hash of an index in a row, so that the axes' sum is the index times a constant."""
    indices = np.arange(shape[axis], dtype=np.int64) * math.prod(shape[axis + 1 :]) * 747796405
    wrapped = (indices & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    return Tensor(wrapped.reshape((1,) * axis + (-1,) + (1,) * (len(shape) - axis - 1)))


class FastGelu(nn.Cell):
    """x * sigmoid(1.702 x): the sigmoid approximation of GELU (Hendrycks and Gimpel 2016, section 2).

    Equal to MindSpore's FastGeLU, which is written so that float16 does not overflow, and 8 times as fast on CPU.
    """

    def __init__(self):
        super().__init__()
        self.scale, self.sigmoid, self.gate = Muls(), ops.Sigmoid(), ops.Mul()
        self.fused = fused.fast_gelu() if library.kernels_here() else None

    def construct(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        if self.fused is not None and x.dtype == ms.float32:
            return self.fused(x)
        return self.gate(x, self.sigmoid(self.scale(x, 1.702)))


class Gelu(nn.Cell):
    """x * Phi(x), with the distribution function Phi of the normal distribution written with erf."""

    def __init__(self):
        super().__init__()
        self.scale, self.erf, self.shift, self.gate = Muls(), ops.Erf(), ops.Add(), ops.Mul()

    def construct(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return self.scale(self.gate(x, self.shift(self.erf(self.scale(x, math.sqrt(0.5))), 1.0)), 0.5)


class GeluTanh(nn.Cell):
    """The approximation of GELU with tanh (Hendrycks and Gimpel 2016, section 2)."""

    def __init__(self):
        super().__init__()
        self.gelu = ops.GeLU()

    def construct(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return self.gelu(x)


ACTIVATION_CELLS: dict[str, type[nn.Cell]] = {"fast_gelu": FastGelu, "gelu": Gelu, "gelu_tanh": GeluTanh}


class FeedForward(nn.Cell):
    """H -> F -> H with an activation between."""

    def __init__(self, config: ModelConfig, compute: ComputeConfig):
        super().__init__()
        self.up = Linear(config.hidden_size, config.feed_forward_size, config.init_std, compute)
        self.activation = ACTIVATION_CELLS[config.activation]()
        self.down = Linear(config.feed_forward_size, config.hidden_size, config.init_std, compute)
        self.fused = linear.gelu_layer() if fuses(compute) and config.activation == "fast_gelu" else None

    def construct(self, x_BTH: Tensor, seeds_B: Tensor | None = None) -> Tensor:
        """[B, T, H] -> [B, T, H]."""
        inner_BTF = self.up(x_BTH, seeds_B)
        if self.fused is not None and self.training and isinstance(self.down, Linear):
            return self.fused(inner_BTF, self.down.weight, self.down.bias)
        return self.down(self.activation(inner_BTF), seeds_B)
