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

from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.model_zoo.kernels import fused
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
        self.scores = ops.BatchMatMul(transpose_b=True)
        self.softmax = ops.Softmax(axis=-1)
        self.dropout = Dropout(config.dropout_rate, salt)
        self.mix = ops.BatchMatMul()

    def construct(self, q_BATD: Tensor, k_BAKD: Tensor, v_BAKD: Tensor, mask_B1TK: Tensor, seeds_B: Tensor) -> Tensor:
        """Queries, keys, values and the additive mask -> [B, A, T, D]."""
        if self.key_scale is not None:
            k_BAKD = k_BAKD * self.key_scale
        scores_BATK = self.scores(q_BATD * self.query_scale, k_BAKD).astype(self.softmax_dtype)
        shares_BATK = self.softmax(scores_BATK + mask_B1TK.astype(self.softmax_dtype))
        return self.mix(self.dropout(shares_BATK, seeds_B).astype(self.dtype), v_BAKD)


class FlashAttention(nn.Cell):
    """The same in one fused kernel that never holds all the scores (Dao et al. 2022); Ascend, half precision."""

    def __init__(self, config: ModelConfig, salt: int, compute: ComputeConfig):
        super().__init__()
        self.rate = config.dropout_rate
        self.keeps = nn.CellList([HashedBits(self.rate, salt + 7919 * bit) for bit in range(8)])
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
        count = math.prod(shape) // seeds_B.size
        packed = ops.zeros((seeds_B.size, count), ms.int32)
        for bit, keeps in enumerate(self.keeps):
            packed = packed + keeps(count, seeds_B).astype(ms.int32) * 2**bit
        return packed.astype(ms.uint8).reshape(shape)


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

    Numbers differ in rounding, what is dropped does not.
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
        self.num_heads, self.head_size, self.hidden_size = config.num_heads, config.head_size, hidden
        self.query = Linear(hidden, hidden, std, compute)
        self.key = Linear(hidden, hidden, std, compute)
        self.value = Linear(hidden, hidden, std, compute)
        self.memory = NoMemory()
        self.core = ATTENTION_CELLS[compute.attention](config, salt, compute)
        self.folded, self.folded_dropping = (fold(config, salt, compute, training) for training in (False, True))
        self.output = Linear(hidden, hidden, std, compute)
        self.transpose = ops.Transpose()

    def construct(
        self, query_BTH: Tensor, source_BTH: Tensor, positions_BT: Tensor, mask_B1TK: Tensor, seeds_B: Tensor
    ) -> Tensor:
        """What asks, what is asked, where it stands, and who may see whom -> [B, T, H]."""
        q_BTH = self.place(self.query(query_BTH), positions_BT)
        k_BTH, v_BTH = self.place(self.key(source_BTH), positions_BT), self.value(source_BTH)
        if self.folded is not None and isinstance(self.memory, NoMemory):
            folded = self.folded_dropping if self.training else self.folded
            return self.output(folded(q_BTH, k_BTH, v_BTH, mask_B1TK, seeds_B))
        k_BAKD, v_BAKD = self.memory(self.split_heads(k_BTH), self.split_heads(v_BTH), positions_BT)
        mixed_BATD = self.core(self.split_heads(q_BTH), k_BAKD, v_BAKD, mask_B1TK, seeds_B)
        return self.output(self.transpose(mixed_BATD, (0, 2, 1, 3)).reshape(query_BTH.shape))

    def split_heads(self, x_BTH: Tensor) -> Tensor:
        """[B, T, H] -> [B, A, T, D]."""
        x_BTAD = x_BTH.reshape(x_BTH.shape[0], x_BTH.shape[1], self.num_heads, self.head_size)
        return self.transpose(x_BTAD, (0, 2, 1, 3))

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
        self.frequencies = Tensor((1.0 / config.rotary_base**exponents).astype(np.float32))

    def place(self, x_BTH: Tensor, positions_BT: Tensor) -> Tensor:
        """Turned in float32; [B, T, H] -> [B, T, H]."""
        x_BTAD = x_BTH.reshape(x_BTH.shape[0], x_BTH.shape[1], self.num_heads, self.head_size)
        angles_BT1R = (positions_BT.astype(ms.float32).expand_dims(-1) * self.frequencies).expand_dims(2)
        cos, sin = ops.cos(angles_BT1R), ops.sin(angles_BT1R)
        first = x_BTAD[..., : self.half].astype(ms.float32)
        second = x_BTAD[..., self.half : 2 * self.half].astype(ms.float32)
        turned = ops.cat((first * cos - second * sin, second * cos + first * sin), -1).astype(x_BTH.dtype)
        if 2 * self.half < self.head_size:
            turned = ops.cat((turned, x_BTAD[..., 2 * self.half :]), -1)
        return turned.reshape(x_BTH.shape)


class DocumentMask(nn.Cell):
    """Who may see whom, from the ids: nothing later, and nothing before the last end of document.

    In the form that the attention cell takes: an additive float32 mask, or uint8 with 1 for what is hidden.
    """

    def __init__(self, config: ModelConfig, compute: ComputeConfig):
        super().__init__()
        self.eod_id, self.reset = config.eod_id, config.eod_reset
        self.is_flash = compute.attention == "flash"

    def construct(self, ids_BS: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S] int32 -> positions [B, S] int32 that restart after an end of document, and the mask [B, 1, S, S]."""
        index_S = ops.arange(ids_BS.shape[1]).astype(ms.int32)
        starts_BS = document_starts(ids_BS, self.eod_id) if self.reset else ops.zeros_like(ids_BS)
        later_SS = index_S > index_S.expand_dims(-1)
        hidden_BSS = ops.logical_or(later_SS, index_S < starts_BS.expand_dims(-1)).expand_dims(1)
        if self.is_flash:
            return index_S - starts_BS, hidden_BSS.astype(ms.uint8)
        return index_S - starts_BS, hidden_BSS.astype(ms.float32) * MASKED_SCORE


def document_starts(ids_BS: Tensor, eod_id: int) -> Tensor:
    """Index of the first token of the document that each token belongs to; an EOD ends its own document."""
    index_S = ops.arange(ids_BS.shape[1]).astype(ms.int32)
    next_start_BS = (ids_BS == eod_id).astype(ms.int32) * (index_S + 1)
    running_BS = ops.cummax(next_start_BS, -1)[0].astype(ms.int32)
    return ops.cat((ops.zeros_like(running_BS[:, :1]), running_BS[:, :-1]), -1)
