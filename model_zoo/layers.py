"""The cells that the families are built from: linear, layer norm, embedding, dropout, attention, feed-forward.

Two cells are seams: `DotProductAttention` (how scores become a mixture) and `NoMemory` (what keys and values a
query sees). Others of the same signature may stand in their place; the models do not know.

Covers: float32, checked on CPU. Does not cover: lower precision, flash attention.
"""

# Shapes: B batch, S sequence, T queries (S, or 1 when decoding), K keys, H hidden, A heads, D head width (H = A*D),
#         F feed-forward width, V vocabulary, N = B*T
import math

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Normal, initializer

from mindgeex.model_zoo.config import ModelConfig

MASKED_SCORE = -10000.0
"""Added to a score that must not count; exp of it is 0 in float32 and it still fits float16."""


class Linear(nn.Cell):
    """y = x W^T + b, with W [out, in] and b [out]."""

    def __init__(self, in_size: int, out_size: int, init_std: float):
        super().__init__()
        self.in_size, self.out_size = in_size, out_size
        self.weight = Parameter(initializer(Normal(init_std), (out_size, in_size), ms.float32), name="weight")
        self.bias = Parameter(initializer("zeros", (out_size,), ms.float32), name="bias")
        self.matmul = ops.MatMul(transpose_b=True)
        self.add = ops.Add()

    def construct(self, x_BTI: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        y_NO = self.add(self.matmul(x_BTI.reshape(-1, self.in_size), self.weight), self.bias)
        return y_NO.reshape(x_BTI.shape[:-1] + (self.out_size,))


class LayerNorm(nn.Cell):
    """Normalises the last axis; gamma and beta [H]."""

    def __init__(self, size: int, epsilon: float):
        super().__init__()
        self.gamma = Parameter(initializer("ones", (size,), ms.float32), name="gamma")
        self.beta = Parameter(initializer("zeros", (size,), ms.float32), name="beta")
        self.norm = ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=epsilon)

    def construct(self, x_BTH: Tensor) -> Tensor:
        """[..., H] -> [..., H]."""
        return self.norm(x_BTH, self.gamma, self.beta)[0]


class Embedding(nn.Cell):
    """A table [rows, H], looked up by id."""

    def __init__(self, rows: int, size: int, init_std: float):
        super().__init__()
        self.weight = Parameter(initializer(Normal(init_std), (rows, size), ms.float32), name="weight")
        self.gather = ops.Gather()

    def construct(self, ids_BT: Tensor) -> Tensor:
        """[B, T] int32 -> [B, T, H]."""
        return self.gather(self.weight, ids_BT, 0)


class Dropout(nn.Cell):
    """Drops values with probability `rate` while training and scales the rest by 1 / (1 - rate).

    The mask is a hash of the value's index, the cell's salt and the step's seed. There is no hidden state, so a
    resumed run and a recomputed block draw the same mask as the first time. The hash is a 32-bit
    multiply-and-shift mixer of two rounds in wrapping int32 arithmetic; it ends on a multiplication, whose high
    bits are the well-mixed ones that the comparison reads.
    """

    def __init__(self, rate: float, salt: int):
        super().__init__()
        self.rate = rate
        self.salt = (salt * 0x9E3779B9 + 0x7F4A7C15) & 0x7FFFFFFF
        self.threshold = round(rate * 2**32) - 2**31
        self.xor, self.shift = ops.BitwiseXor(), ops.bitwise_right_shift

    def construct(self, x: Tensor, seed: Tensor) -> Tensor:
        """Any shape, and the step's seed as an int32 scalar -> the same shape."""
        if self.rate == 0.0 or not self.training:
            return x
        h = ops.arange(x.size).astype(ms.int32) * 747796405 + (seed * 277803737 + self.salt)
        h = self.xor(h, self.shift(h, 16)) * 569420461
        h = self.xor(h, self.shift(h, 15)) * 1935289751
        keep = (h >= self.threshold).astype(x.dtype).reshape(x.shape)
        return x * keep * (1.0 / (1.0 - self.rate))


class DotProductAttention(nn.Cell):
    """softmax(Q K^T / sqrt(D) + mask) V, softmax in float32."""

    def __init__(self, config: ModelConfig, salt: int):
        super().__init__()
        self.scale = 1.0 / math.sqrt(config.head_size)
        self.scores = ops.BatchMatMul(transpose_b=True)
        self.softmax = ops.Softmax(axis=-1)
        self.dropout = Dropout(config.dropout_rate, salt)
        self.mix = ops.BatchMatMul()

    def construct(self, q_BATD: Tensor, k_BAKD: Tensor, v_BAKD: Tensor, mask_B1TK: Tensor, seed: Tensor) -> Tensor:
        """Queries, keys, values and the additive mask -> [B, A, T, D]."""
        scores_BATK = self.scores(q_BATD * self.scale, k_BAKD) + mask_B1TK
        return self.mix(self.dropout(self.softmax(scores_BATK), seed), v_BAKD)


class NoMemory(nn.Cell):
    """A query sees the keys and values of this call, nothing earlier. Decoding puts a cache in its place."""

    def construct(self, k_BATD: Tensor, v_BATD: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Keys, values and where they stand -> the keys and values to attend to."""
        return k_BATD, v_BATD


class Attention(nn.Cell):
    """Multi-head attention whose queries may come from elsewhere than its keys and values."""

    def __init__(self, config: ModelConfig, salt: int):
        super().__init__()
        hidden, std = config.hidden_size, config.init_std
        self.num_heads, self.head_size, self.hidden_size = config.num_heads, config.head_size, hidden
        self.query = Linear(hidden, hidden, std)
        self.key = Linear(hidden, hidden, std)
        self.value = Linear(hidden, hidden, std)
        self.memory = NoMemory()
        self.core = DotProductAttention(config, salt)
        self.output = Linear(hidden, hidden, std)
        self.transpose = ops.Transpose()

    def construct(
        self, query_BTH: Tensor, source_BTH: Tensor, positions_BT: Tensor, mask_B1TK: Tensor, seed: Tensor
    ) -> Tensor:
        """What asks, what is asked, where it stands, and who may see whom -> [B, T, H]."""
        q_BATD = self.split_heads(self.query(query_BTH))
        k_BATD = self.split_heads(self.key(source_BTH))
        v_BATD = self.split_heads(self.value(source_BTH))
        k_BAKD, v_BAKD = self.memory(k_BATD, v_BATD, positions_BT)
        mixed_BATD = self.core(q_BATD, k_BAKD, v_BAKD, mask_B1TK, seed)
        return self.output(self.transpose(mixed_BATD, (0, 2, 1, 3)).reshape(query_BTH.shape))

    def split_heads(self, x_BTH: Tensor) -> Tensor:
        """[B, T, H] -> [B, A, T, D]."""
        x_BTAD = x_BTH.reshape(x_BTH.shape[0], x_BTH.shape[1], self.num_heads, self.head_size)
        return self.transpose(x_BTAD, (0, 2, 1, 3))


class FastGelu(nn.Cell):
    """x * sigmoid(1.702 x): the sigmoid approximation of GELU (Hendrycks and Gimpel 2016, section 2).

    Equal to MindSpore's FastGeLU, which is written so that float16 does not overflow, and 8 times as fast on CPU.
    """

    def construct(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return x * ops.sigmoid(1.702 * x)


class FeedForward(nn.Cell):
    """H -> F -> H with an activation between."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.up = Linear(config.hidden_size, config.feed_forward_size, config.init_std)
        self.activation = FastGelu()
        self.down = Linear(config.feed_forward_size, config.hidden_size, config.init_std)

    def construct(self, x_BTH: Tensor) -> Tensor:
        """[B, T, H] -> [B, T, H]."""
        return self.down(self.activation(self.up(x_BTH)))


def document_positions(ids_BS: Tensor, eod_id: int) -> Tensor:
    """Positions that restart at 0 after every end of document; [B, S] int32 -> [B, S] int32."""
    index_S = ops.arange(ids_BS.shape[1]).astype(ms.int32)
    return index_S - document_starts(ids_BS, eod_id)


def document_mask(ids_BS: Tensor, eod_id: int) -> Tensor:
    """Additive causal mask that also cuts attention after every end of document; [B, S] -> [B, 1, S, S]."""
    index_S = ops.arange(ids_BS.shape[1]).astype(ms.int32)
    starts_BS1 = document_starts(ids_BS, eod_id).expand_dims(-1)
    hidden_BSS = ops.logical_or(index_S > index_S.expand_dims(-1), index_S < starts_BS1)
    return hidden_BSS.expand_dims(1).astype(ms.float32) * MASKED_SCORE


def document_starts(ids_BS: Tensor, eod_id: int) -> Tensor:
    """Index of the first token of the document that each token belongs to; an EOD ends its own document."""
    index_S = ops.arange(ids_BS.shape[1]).astype(ms.int32)
    next_start_BS = (ids_BS == eod_id).astype(ms.int32) * (index_S + 1)
    running_BS = ops.cummax(next_start_BS, -1)[0].astype(ms.int32)
    return ops.cat((ops.zeros_like(running_BS[:, :1]), running_BS[:, :-1]), -1)
