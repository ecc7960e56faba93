"""GPT-NeoX (Black et al. 2022), the family of CodeFuse-13B: rotary positions, parallel residual, an untied head.

Facts: the Hugging Face implementation of GPTNeoXForCausalLM, with which it agrees number by number.
"""

# Shapes: B batch, S sequence, T queries (S, or 1 when decoding), K keys, H hidden, V vocabulary
from mindspore import Tensor, nn

from mindgeex.model_zoo.attention import DocumentMask, RotaryAttention
from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.model_zoo.layers import Dropout, Embedding, FeedForward, LayerNorm, Linear, residual


class Block(nn.Cell):
    """x + Attention(LN1(x)) + FeedForward(LN2(x)), or one branch after the other."""

    def __init__(self, config: ModelConfig, index: int, compute: ComputeConfig):
        super().__init__()
        self.parallel = config.parallel_residual
        self.attention_norm = LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.attention = RotaryAttention(config, 4 * index, compute)
        self.attention_dropout = Dropout(config.dropout_rate, salt=4 * index + 1)
        self.attention_residual, self.feed_forward_residual = residual(compute), residual(compute)
        self.feed_forward_norm = LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.feed_forward = FeedForward(config, compute)
        self.feed_forward_dropout = Dropout(config.dropout_rate, salt=4 * index + 2)

    def construct(self, x_BTH: Tensor, positions_BT: Tensor, mask_B1TK: Tensor, seeds_B: Tensor) -> Tensor:
        """[B, T, H] -> [B, T, H]."""
        x_BTH, source_BTH = self.attention_norm.fork(x_BTH)
        attended_BTH = self.attention(None, source_BTH, positions_BT, mask_B1TK, seeds_B)
        attended_BTH = self.attention_dropout(attended_BTH, seeds_B)
        if self.parallel:
            x_BTH, source_BTH = self.feed_forward_norm.fork(x_BTH)
            x_BTH = self.attention_residual(x_BTH, attended_BTH)
        else:
            x_BTH, source_BTH = self.feed_forward_norm.of_sum(x_BTH, attended_BTH, self.attention_residual)
        fed_BTH = self.feed_forward(source_BTH, seeds_B)
        return self.feed_forward_residual(x_BTH, self.feed_forward_dropout(fed_BTH, seeds_B))


class GPTNeoX(nn.Cell):
    """Token ids to logits of the next token."""

    def __init__(self, config: ModelConfig, compute: ComputeConfig):
        super().__init__()
        self.config = config
        hidden, std = config.hidden_size, config.init_std
        self.document_mask = DocumentMask(config, compute)
        self.word_embedding = Embedding(config.vocab_size, hidden, std, compute)
        self.embedding_dropout = Dropout(config.dropout_rate, salt=4 * config.num_layers)
        self.blocks = nn.CellList([Block(config, index, compute) for index in range(config.num_layers)])
        if compute.recompute:
            for block in self.blocks:
                block.recompute()
        self.final_norm = LayerNorm(hidden, config.layer_norm_epsilon)
        self.head = Linear(hidden, config.vocab_size, std, compute, bias=False)

    def construct(self, ids_BS: Tensor, seeds_B: Tensor) -> Tensor:
        """Ids [B, S] int32, and the seeds of the rows' dropout (int32 [B]) -> logits [B, S, V]."""
        positions_BS, mask_B1SS = self.document_mask(ids_BS)
        return self.logits(self.hidden(ids_BS, positions_BS, mask_B1SS, seeds_B), seeds_B)

    def hidden(self, ids_BT: Tensor, positions_BT: Tensor, mask_B1TK: Tensor, seeds_B: Tensor) -> Tensor:
        """Ids, their positions and who may see whom -> what the head reads, [B, T, H]."""
        x_BTH = self.embedding_dropout(self.word_embedding(ids_BT), seeds_B)
        for block in self.blocks:
            x_BTH = block(x_BTH, positions_BT, mask_B1TK, seeds_B)
        return self.final_norm(x_BTH)

    def logits(self, x_BTH: Tensor, seeds_B: Tensor | None = None) -> Tensor:
        """[B, T, H] -> [B, T, V]."""
        return self.head(x_BTH, seeds_B)
