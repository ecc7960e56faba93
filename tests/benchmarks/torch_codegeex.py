"""CodeGeeX in PyTorch, as one would write it there for speed: what the training benchmark compares with.

Covers: training, packed documents. Does not cover: decoding, loading weights.
"""

# Shapes: B batch, S sequence, H hidden, A heads, D head width
import torch
from torch import Tensor, nn
from torch.nn import functional

from mindgeex.model_zoo.config import ModelConfig


class Block(nn.Module):
    """A pre-LN block; with `query_BSH`, the top query layer."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        hidden, inner = config.hidden_size, config.feed_forward_size
        self.heads, self.rate = config.num_heads, config.dropout_rate
        self.norm1, self.norm2 = (nn.LayerNorm(hidden, config.layer_norm_epsilon) for _ in range(2))
        self.query, self.key, self.value, self.output = (nn.Linear(hidden, hidden) for _ in range(4))
        self.up, self.down = nn.Linear(hidden, inner), nn.Linear(inner, hidden)

    def forward(self, x_BSH: Tensor, mask_B1SS: Tensor, query_BSH: Tensor | None = None) -> Tensor:
        """[B, S, H] -> [B, S, H]."""
        source_BSH = self.norm1(x_BSH)
        asked = ((self.query, source_BSH if query_BSH is None else query_BSH), (self.key, source_BSH))
        q, k, v = (
            layer(given).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, given in (*asked, (self.value, source_BSH))
        )
        mixed_BASD = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask_B1SS, dropout_p=self.rate)
        attended_BSH = self.output(mixed_BASD.transpose(1, 2).flatten(2))
        x_BSH = x_BSH + functional.dropout(attended_BSH, self.rate)
        inner = self.up(self.norm2(x_BSH))
        return x_BSH + functional.dropout(self.down(inner * torch.sigmoid(1.702 * inner)), self.rate)


class TorchCodeGeeX(nn.Module):
    """Ids [B, S] -> logits [B, S, V]."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.places, self.questions = (nn.Embedding(config.seq_length, config.hidden_size) for _ in range(2))
        for table in (self.words, self.places, self.questions):
            nn.init.normal_(table.weight, std=config.init_std)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.num_layers - 1)])
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.top = Block(config)

    def forward(self, ids_BS: Tensor) -> Tensor:
        """Positions restart, and attention is cut, after every end of document."""
        index_S = torch.arange(ids_BS.shape[1])
        ends_BS = (ids_BS == self.config.eod_id) * (index_S + 1)
        starts_BS = functional.pad(ends_BS.cummax(-1).values[:, :-1], (1, 0))
        seen_BSS = (index_S <= index_S[:, None]) & (index_S >= starts_BS[..., None])
        mask_B1SS, positions_BS = seen_BSS[:, None], index_S - starts_BS
        x_BSH = functional.dropout(self.words(ids_BS) + self.places(positions_BS), self.config.dropout_rate)
        for block in self.blocks:
            x_BSH = block(x_BSH, mask_B1SS)
        x_BSH = self.top(self.norm(x_BSH), mask_B1SS, self.questions(positions_BS))
        return functional.linear(x_BSH, self.words.weight)
