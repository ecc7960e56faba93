"""CodeGeeX: pre-LN transformer blocks, a final layer norm, the top query layer, and a head tied to the embedding.

The top query layer is a block whose queries come from a learned table of positions: it asks, at position p, for
the token that stands at p + 1. Facts: the CodeGeeX repository, codegeex/torch/codegeex_model.py.
"""

# Shapes: B batch, S sequence, T queries (S, or 1 when decoding), K keys, H hidden, V vocabulary
import dataclasses

from mindspore import Tensor, nn, ops

from mindgeex.model_zoo.attention import Attention, DocumentMask
from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.model_zoo.kernels import linear
from mindgeex.model_zoo.layers import Dropout, Embedding, FeedForward, LayerNorm, fuses, residual


class Branches(nn.Cell):
    """x + Attention(...), then + FeedForward(LN(...)): what a block and the top query layer have in common."""

    def __init__(self, config: ModelConfig, index: int, compute: ComputeConfig):
        super().__init__()
        self.attention_norm = LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.attention = Attention(config, 4 * index, compute)
        self.attention_dropout = Dropout(config.dropout_rate, salt=4 * index + 1)
        self.attention_residual, self.feed_forward_residual = residual(compute), residual(compute)
        self.feed_forward_norm = LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.feed_forward = FeedForward(config, compute)
        self.feed_forward_dropout = Dropout(config.dropout_rate, salt=4 * index + 2)

    def answer(
        self,
        x_BTH: Tensor,
        query_BTH: Tensor | None,
        source_BTH: Tensor,
        positions_BT: Tensor,
        mask_B1TK: Tensor,
        seeds_B: Tensor,
    ) -> Tensor:
        """Both residual branches."""
        attended_BTH = self.attention(query_BTH, source_BTH, positions_BT, mask_B1TK, seeds_B)
        attended_BTH = self.attention_dropout(attended_BTH, seeds_B)
        x_BTH, source_BTH = self.feed_forward_norm.of_sum(x_BTH, attended_BTH, self.attention_residual)
        fed_BTH = self.feed_forward(source_BTH, seeds_B)
        return self.feed_forward_residual(x_BTH, self.feed_forward_dropout(fed_BTH, seeds_B))


class Block(Branches):
    """x + Attention(LN(x)), then + FeedForward(LN(...))."""

    def construct(self, x_BTH: Tensor, positions_BT: Tensor, mask_B1TK: Tensor, seeds_B: Tensor) -> Tensor:
        """Self-attention: the queries come from the block's own input."""
        x_BTH, source_BTH = self.attention_norm.fork(x_BTH)
        return self.answer(x_BTH, None, source_BTH, positions_BT, mask_B1TK, seeds_B)


class TopQuery(Branches):
    """The last block: its queries come from outside and are not normalised."""

    def construct(
        self, query_BTH: Tensor, x_BTH: Tensor, positions_BT: Tensor, mask_B1TK: Tensor, seeds_B: Tensor
    ) -> Tensor:
        """Queries and the blocks' output -> what the head reads, [B, T, H]."""
        x_BTH, source_BTH = self.attention_norm.fork(x_BTH)
        return self.answer(x_BTH, query_BTH, source_BTH, positions_BT, mask_B1TK, seeds_B)


class TiedHead(nn.Cell):
    """Logits through a table that another layer owns."""

    def __init__(self, compute: ComputeConfig):
        super().__init__()
        self.matmul = ops.MatMul(transpose_b=True)
        self.fused_product = linear.product() if fuses(compute) else None

    def construct(self, x_BTH: Tensor, weight_VH: Tensor) -> Tensor:
        """[B, T, H], [V, H] -> [B, T, V], in the type of the former."""
        if self.fused_product is not None and self.training:
            return self.fused_product(x_BTH, weight_VH.astype(x_BTH.dtype))
        logits_NV = self.matmul(x_BTH.reshape(-1, x_BTH.shape[-1]), weight_VH.astype(x_BTH.dtype))
        return logits_NV.reshape(x_BTH.shape[:-1] + weight_VH.shape[:1])


class CodeGeeX(nn.Cell):
    """Token ids to logits of the next token."""

    def __init__(self, config: ModelConfig, compute: ComputeConfig):
        super().__init__()
        self.config = config
        hidden, std = config.hidden_size, config.init_std
        self.document_mask = DocumentMask(config, compute)
        self.word_embedding = Embedding(config.vocab_size, hidden, std, compute)
        self.embed = residual(compute)
        self.position_embedding = Embedding(config.seq_length, hidden, std, compute)
        self.embedding_dropout = Dropout(config.dropout_rate, salt=4 * config.num_layers)
        self.blocks = nn.CellList([Block(config, index, compute) for index in range(config.num_layers - 1)])
        if compute.recompute:
            for block in self.blocks:
                block.recompute()
        self.final_norm = LayerNorm(hidden, config.layer_norm_epsilon)
        self.query_embedding = Embedding(config.seq_length, hidden, std, compute)
        # The original takes this one's softmax in float32, whatever the blocks do.
        exact = dataclasses.replace(compute, softmax_dtype="float32")
        self.top_query = TopQuery(config, config.num_layers - 1, exact)
        self.head = TiedHead(compute)

    def construct(self, ids_BS: Tensor, seeds_B: Tensor) -> Tensor:
        """Ids [B, S] int32, and the seeds of the rows' dropout (int32 [B]) -> logits [B, S, V].

        Positions restart, and attention is cut, after every end of document.
        """
        positions_BS, mask_B1SS = self.document_mask(ids_BS)
        return self.logits(self.hidden(ids_BS, positions_BS, mask_B1SS, seeds_B))

    def hidden(self, ids_BT: Tensor, positions_BT: Tensor, mask_B1TK: Tensor, seeds_B: Tensor) -> Tensor:
        """Ids, their positions and who may see whom -> what the head reads, [B, T, H]."""
        x_BTH = self.embed(self.word_embedding(ids_BT), self.position_embedding(positions_BT))
        x_BTH = self.embedding_dropout(x_BTH, seeds_B)
        for block in self.blocks:
            x_BTH = block(x_BTH, positions_BT, mask_B1TK, seeds_B)
        x_BTH = self.final_norm(x_BTH)
        return self.top_query(self.query_embedding(positions_BT), x_BTH, positions_BT, mask_B1TK, seeds_B)

    def logits(self, x_BTH: Tensor) -> Tensor:
        """[B, T, H] -> [B, T, V], through the word embedding's own table."""
        return self.head(x_BTH, self.word_embedding.weight)
