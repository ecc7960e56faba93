"""Attention: what asks, what is asked, who may see whom, and two ways to mix the answers.

Three cells are seams, and others of the same signature may stand in their place without the models knowing:
`DotProductAttention` and `FlashAttention` (how scores become a mixture, chosen by `ComputeConfig.attention`), and
`NoMemory` (what keys and values a query sees; decoding puts a cache there).

Covers: the matmul path on any device. The fused path is MindSpore's FlashAttentionScore, which has a kernel on Ascend
only: here its inputs are checked, its numbers are not.
"""

# Shapes: B batch, S sequence, T queries (S, or 1 when decoding), K keys, H hidden, A heads, D head width (H = A*D),
#         R rotated values of a head
import math
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.ops import constexpr
from mindspore.ops.auto_generate import Muls

from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.model_zoo.kernels import fused, linear
from mindgeex.model_zoo.layers import Dropout, HashedBits, Linear, fuses

MASKED_SCORE = -10000.0
"""Added to a score that must not count; exp of it is 0 in float32 and it still fits float16."""


class DotProductAttention(nn.Cell):
    """softmax(Q K^T / sqrt(D) + mask) V."""

    def __init__(self, config: ModelConfig, salt: int, compute: ComputeConfig):
        super().__init__()
        half = compute.attention_scaling == "query_key"
        self.query_scale = config.head_size ** (-0.25 if half else -0.5)
        self.key_scale = config.head_size**-0.25 if half else None
        self.dtype, self.softmax_dtype = getattr(ms, compute.dtype), getattr(ms, compute.softmax_dtype)
        self.scale, self.scores, self.hide = Muls(), ops.BatchMatMul(transpose_b=True), ops.Add()
        self.softmax = ops.Softmax(axis=-1)
        self.dropout = Dropout(config.dropout_rate, salt)
        self.mix = ops.BatchMatMul()

    def construct(self, q_BATD: Tensor, k_BAKD: Tensor, v_BAKD: Tensor, mask_B1TK: Tensor, seeds_B: Tensor) -> Tensor:
        """Queries, keys, values and the additive mask -> [B, A, T, D]."""
        if self.key_scale is not None:
            k_BAKD = self.scale(k_BAKD, self.key_scale)
        scores_BATK = self.scores(self.scale(q_BATD, self.query_scale), k_BAKD).astype(self.softmax_dtype)
        shares_BATK = self.softmax(self.hide(scores_BATK, mask_B1TK.astype(self.softmax_dtype)))
        return self.mix(self.dropout(shares_BATK, seeds_B).astype(self.dtype), v_BAKD)


class FlashAttention(nn.Cell):
    """The same in one fused kernel that never holds all the scores (Dao et al. 2022); Ascend, half precision."""

    def __init__(self, config: ModelConfig, salt: int, compute: ComputeConfig):
        super().__init__()
        self.rate = config.dropout_rate
        self.keeps = nn.CellList([HashedBits(self.rate, salt + 7919 * bit) for bit in range(8)])
        self.place, self.pack = Muls(), ops.Add()
        scale = 1.0 / math.sqrt(config.head_size)
        self.plain = self.kernel(config.num_heads, 1.0, scale)
        self.dropping = self.kernel(config.num_heads, 1.0 - self.rate, scale)

    @staticmethod
    def kernel(num_heads: int, keep_prob: float, scale: float) -> ops.Primitive:
        """Causal by `next_tokens`; the mask cuts documents."""
        from mindspore.ops.auto_generate import FlashAttentionScore

        return FlashAttentionScore(num_heads, keep_prob, scale, next_tokens=0, input_layout="BNSD")

    def construct(self, q_BATD: Tensor, k_BAKD: Tensor, v_BAKD: Tensor, mask_B1TK: Tensor, seeds_B: Tensor) -> Tensor:
        """Queries, keys, values and the mask (uint8, 1 hides) -> [B, A, T, D]."""
        if self.training and self.rate > 0.0:
            keep = self.packed_keeps(q_BATD, k_BAKD, seeds_B)
            return self.dropping(q_BATD, k_BAKD, v_BAKD, None, keep, None, mask_B1TK)[3]
        return self.plain(q_BATD, k_BAKD, v_BAKD, None, None, None, mask_B1TK)[3]

    def packed_keeps(self, q_BATD: Tensor, k_BAKD: Tensor, seeds_B: Tensor) -> Tensor:
        """Which scores stay, a bit each: uint8 [B, A, T, K / 8]."""
        shape = q_BATD.shape[:3] + (k_BAKD.shape[2] // 8,)
        packed = self.keeps[0](shape, seeds_B).astype(ms.int32)
        for bit in range(1, 8):
            packed = self.pack(packed, self.place(self.keeps[bit](shape, seeds_B).astype(ms.int32), 2**bit))
        return packed.astype(ms.uint8)


ATTENTION_CELLS: dict[str, type[DotProductAttention] | type[FlashAttention]] = {
    "matmul": DotProductAttention,
    "flash": FlashAttention,
}


class NoMemory(nn.Cell):
    """A query sees the keys and values of this call, nothing earlier. Decoding puts a cache in its place."""

    def construct(self, k_BATD: Tensor, v_BATD: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Keys, values and where they stand -> the keys and values to attend to."""
        return k_BATD, v_BATD


def fold(config: ModelConfig, salt: int, compute: ComputeConfig, training: bool) -> Any:
    """`DotProductAttention` as one kernel of a CPU on [B, T, H], or None where there is none.

    It goes by the positions, which say what the mask of `DocumentMask` says where nothing is remembered. Numbers differ
    in rounding, what is dropped does not.
    """
    if not fuses(compute) or compute.attention != "matmul" or compute.attention_scaling == "query_key":
        return None
    rate, keeps = config.dropout_rate if training else 0.0, HashedBits(config.dropout_rate, salt)
    return fused.attention(config.num_heads, config.head_size**-0.5, rate, keeps.salt, keeps.threshold)


class Attention(nn.Cell):
    """Multi-head attention whose queries may come from elsewhere than its keys and values."""

    def __init__(self, config: ModelConfig, salt: int, compute: ComputeConfig):
        super().__init__()
        hidden, std = config.hidden_size, config.init_std
        self.num_heads, self.head_size = config.num_heads, config.head_size
        self.query = Linear(hidden, hidden, std, compute)
        self.key = Linear(hidden, hidden, std, compute)
        self.value = Linear(hidden, hidden, std, compute)
        self.memory = NoMemory()
        self.core = ATTENTION_CELLS[compute.attention](config, salt, compute)
        self.folded, self.folded_dropping = (fold(config, salt, compute, training) for training in (False, True))
        self.fuses = fuses(compute)
        if self.fuses:
            self.fused_two, self.fused_three = linear.two_layers(), linear.three_layers()
        self.output = Linear(hidden, hidden, std, compute)
        self.split, self.merge = ops.Transpose(), ops.Transpose()

    def construct(
        self, query_BTH: Tensor | None, source_BTH: Tensor, positions_BT: Tensor, mask_B1TK: Tensor, seeds_B: Tensor
    ) -> Tensor:
        """What asks (None: what is asked), what is asked, where it stands, and who may see whom -> [B, T, H]."""
        q_BTH, k_BTH, v_BTH = self.projected(query_BTH, source_BTH, seeds_B)
        q_BTH, k_BTH = self.place(q_BTH, positions_BT), self.place(k_BTH, positions_BT)
        if self.folded is not None and isinstance(self.memory, NoMemory):
            folded = self.folded_dropping if self.training else self.folded
            return self.output(folded(q_BTH, k_BTH, v_BTH, positions_BT, seeds_B), seeds_B)
        k_BAKD, v_BAKD = self.memory(self.split_heads(k_BTH), self.split_heads(v_BTH), positions_BT)
        mixed_BATD = self.core(self.split_heads(q_BTH), k_BAKD, v_BAKD, mask_B1TK, seeds_B)
        return self.output(self.merge(mixed_BATD, (0, 2, 1, 3)).reshape(q_BTH.shape), seeds_B)

    def projected(self, query_BTH: Tensor | None, source_BTH: Tensor, seeds_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values: layers that read the same are one product where there is a kernel for it."""
        query, key, value = self.query, self.key, self.value
        pair = self.fuses and self.training and isinstance(key, Linear) and isinstance(value, Linear)
        if pair and query_BTH is None and isinstance(query, Linear):
            return self.fused_three(
                source_BTH, query.weight, key.weight, value.weight, query.bias, key.bias, value.bias
            )
        q_BTH = query(source_BTH if query_BTH is None else query_BTH, seeds_B)
        if pair:
            k_BTH, v_BTH = self.fused_two(source_BTH, key.weight, value.weight, key.bias, value.bias)
            return q_BTH, k_BTH, v_BTH
        return q_BTH, key(source_BTH, seeds_B), value(source_BTH, seeds_B)

    def split_heads(self, x_BTH: Tensor) -> Tensor:
        """[B, T, H] -> [B, A, T, D]."""
        x_BTAD = x_BTH.reshape(x_BTH.shape[0], x_BTH.shape[1], self.num_heads, self.head_size)
        return self.split(x_BTAD, (0, 2, 1, 3))

    def place(self, x_BTH: Tensor, positions_BT: Tensor) -> Tensor:
        """How a query or key knows its position: here, not at all."""
        return x_BTH


class RotaryAttention(Attention):
    """Queries and keys are turned by their position (Su et al. 2021, RoFormer), in the halves layout of GPT-NeoX.

    Value i of the first R/2 and value i of the second are one pair, turned by position / base^(2i/R); the values
    beyond R stay as they are.
    """

    def __init__(self, config: ModelConfig, salt: int, compute: ComputeConfig):
        super().__init__(config, salt, compute)
        self.half = config.rotary_size // 2
        exponents = np.arange(0, config.rotary_size, 2, dtype=np.float32) / config.rotary_size
        self.frequencies = Tensor((1.0 / config.rotary_base**exponents).astype(np.float32).reshape(1, 1, 1, -1))
        self.turn, self.cos, self.sin = ops.Mul(), ops.Cos(), ops.Sin()
        self.cut, self.times, self.less, self.plus = ops.StridedSlice(), ops.Mul(), ops.Sub(), ops.Add()
        self.join = ops.Concat(-1)

    def place(self, x_BTH: Tensor, positions_BT: Tensor) -> Tensor:
        """Turned in float32; [B, T, H] -> [B, T, H]."""
        batch, window = positions_BT.shape
        x_BTAD = x_BTH.reshape(batch, window, self.num_heads, self.head_size)
        angles_BT1R = self.turn(positions_BT.astype(ms.float32).reshape(batch, window, 1, 1), self.frequencies)
        cos, sin = self.cos(angles_BT1R), self.sin(angles_BT1R)
        first = self.values(x_BTAD, 0, self.half).astype(ms.float32)
        second = self.values(x_BTAD, self.half, 2 * self.half).astype(ms.float32)
        turned_first = self.less(self.times(first, cos), self.times(second, sin))
        turned_second = self.plus(self.times(second, cos), self.times(first, sin))
        turned = self.join((turned_first, turned_second)).astype(x_BTH.dtype)
        if 2 * self.half < self.head_size:
            turned = self.join((turned, self.values(x_BTAD, 2 * self.half, self.head_size)))
        return turned.reshape(x_BTH.shape)

    def values(self, x_BTAD: Tensor, start: int, end: int) -> Tensor:
        """Some of the values of every head."""
        return self.cut(x_BTAD, (0, 0, 0, start), x_BTAD.shape[:3] + (end,), (1, 1, 1, 1))


class DocumentMask(nn.Cell):
    """Who may see whom, from the ids: nothing later, and nothing before the last end of document.

    In the form that the attention cell takes: an additive float32 mask, or uint8 with 1 for what is hidden.
    """

    def __init__(self, config: ModelConfig, compute: ComputeConfig):
        super().__init__()
        self.eod_id, self.reset = config.eod_id, config.eod_reset
        self.is_flash = compute.attention == "flash"
        self.equal, self.place, self.latest = ops.Equal(), ops.Mul(), ops.Cummax(-1)
        self.cut, self.shift, self.since = ops.StridedSlice(), ops.Concat(-1), ops.Sub()
        self.before, self.either, self.scale = ops.Less(), ops.LogicalOr(), Muls()

    def construct(self, ids_BS: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S] int32 -> positions [B, S] int32 that restart after an end of document, and the mask [B, 1, S, S]."""
        rows, length = ids_BS.shape
        starts_BS = self.document_starts(ids_BS) if self.reset else ops.zeros((rows, length), ms.int32)
        before_BSS = self.before(indices(length, 2), starts_BS.reshape(rows, length, 1))
        hidden_B1SS = self.either(before_BSS, later(length)).reshape(rows, 1, length, length)
        positions_BS = self.since(indices(length, 1), starts_BS)
        if self.is_flash:
            return positions_BS, hidden_B1SS.astype(ms.uint8)
        return positions_BS, self.scale(hidden_B1SS.astype(ms.float32), MASKED_SCORE)

    def document_starts(self, ids_BS: Tensor) -> Tensor:
        """Index of the first token of the document that each token belongs to; an EOD ends its own document."""
        rows, length = ids_BS.shape
        next_start_BS = self.place(self.equal(ids_BS, self.eod_id).astype(ms.int32), indices(length, 1, 1))
        running_BS = self.latest(next_start_BS)[0].astype(ms.int32)
        earlier_BS = self.cut(running_BS, (0, 0), (rows, length - 1), (1, 1))
        return self.shift((ops.zeros((rows, 1), ms.int32), earlier_BS))


@constexpr
def indices(length: int, leading: int, start: int = 0) -> Tensor:
    """start, start + 1, ... as int32, behind so many axes of one."""
    return Tensor(np.arange(start, start + length, dtype=np.int32).reshape((1,) * leading + (-1,)))


@constexpr
def later(length: int) -> Tensor:
    """[1, S, S]: true where a column comes after its row."""
    return Tensor(np.triu(np.ones((1, length, length), np.bool_), 1))
