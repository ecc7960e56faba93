"""The cache as a MindSpore graph: on every device and in every type, compiled once per batch size.

Prompts of different lengths share a batch: each row is padded on the right, and a row's position says how much of
its cache is real. Covers: batches of any size, reordering and copying rows. Does not cover: going on beyond the window.
"""

# Shapes: B batch, P window, T queries (P, or 1 after the prompt), K keys (P), A heads, D head width, V vocabulary
from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from mindgeex.model_zoo.attention import MASKED_SCORE, Attention
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.families import Model


class Cache(nn.Cell):
    """Keys and values of every position of the window; takes the place of an attention's `memory`."""

    def __init__(self, config: ModelConfig, batch_size: int, name: str):
        super().__init__()
        shape = (batch_size, config.num_heads, config.seq_length, config.head_size)
        self.window = config.seq_length
        self.keys = Parameter(initializer("zeros", shape), name=f"{name}.keys", requires_grad=False)
        self.values = Parameter(initializer("zeros", shape), name=f"{name}.values", requires_grad=False)

    def construct(self, k_BATD: Tensor, v_BATD: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Stores what is new (the whole window, or one position of each row) and gives all there is."""
        if k_BATD.shape[2] == self.window:
            k_BAKD, v_BAKD = k_BATD, v_BATD
        else:
            here_B1K1 = (ops.arange(self.window) == positions_BT).expand_dims(1).expand_dims(-1)
            k_BAKD = ops.select(here_B1K1, k_BATD, self.keys)
            v_BAKD = ops.select(here_B1K1, v_BATD, self.values)
        ops.assign(self.keys, k_BAKD)
        ops.assign(self.values, v_BAKD)
        return k_BAKD, v_BAKD


class CachedModel(nn.Cell):
    """A model whose attentions remember; for a fixed number of rows."""

    def __init__(self, model: Model, batch_size: int):
        super().__init__()
        self.model = model
        self.window = model.config.seq_length
        self.caches = []
        for name, cell in model.cells_and_names():
            if isinstance(cell, Attention):
                cell.memory = Cache(model.config, batch_size, f"cache.{name}")
                self.caches.append(cell.memory)

    def construct(self, ids_BT: Tensor, positions_BT: Tensor, last_B: Tensor) -> Tensor:
        """Ids, where they stand, and which of the T queries is wanted of each row -> logits [B, V].

        A query sees every position up to its own, whatever lies between: a prompt is one document.
        """
        hidden_B1TK = (ops.arange(self.window) > positions_BT.expand_dims(-1)).expand_dims(1)
        mask_B1TK = hidden_B1TK.astype(ms.float32) * MASKED_SCORE
        x_BTH = self.model.hidden(ids_BT, positions_BT, mask_B1TK, ms.Tensor(0, ms.int32))
        rows_B = ops.arange(x_BTH.shape[0]) * x_BTH.shape[1] + last_B
        x_BH = ops.gather(x_BTH.reshape(-1, x_BTH.shape[2]), rows_B, 0)
        return self.model.logits(x_BH)


class GraphDecoder:
    """One model and what it remembers of a batch of rows; graphs are compiled once per batch size."""

    def __init__(self, model: Model):
        ms.set_context(mode=ms.GRAPH_MODE)
        self.model = model
        self.window = model.config.seq_length
        self.lengths = np.zeros(0, np.int32)
        """[B]: tokens in each row's cache."""
        self._cached: CachedModel | None = None
        self._batch_size = 0

    def prefill(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """Starts a new batch, a row a prompt (1 to `window` ids) -> logits [B, V] of each prompt's last token."""
        ids_BP = np.zeros((len(prompts), self.window), np.int32)
        for row, prompt in enumerate(prompts):
            ids_BP[row, : len(prompt)] = prompt
        positions_BP = np.broadcast_to(np.arange(self.window, dtype=np.int32), ids_BP.shape)
        self.lengths = np.array([len(prompt) for prompt in prompts], np.int32)
        return self._run(ids_BP, positions_BP, self.lengths - 1)

    def step(self, ids_B: np.ndarray) -> np.ndarray:
        """Appends a token to every row -> logits [B, V]; those of a row whose window was full mean nothing."""
        at_B = np.minimum(self.lengths, self.window - 1)
        self.lengths = at_B + 1
        return self._run(ids_B[:, None], at_B[:, None], np.zeros_like(at_B))

    def reorder(self, rows: Sequence[int]) -> None:
        """Row i becomes a copy of what row rows[i] was; there may be more or fewer rows than before."""
        old = self._for_rows(len(self.lengths))
        kept = [(cache.keys.asnumpy()[list(rows)], cache.values.asnumpy()[list(rows)]) for cache in old.caches]
        self.lengths = self.lengths[list(rows)]
        for cache, (keys_BAKD, values_BAKD) in zip(self._for_rows(len(rows)).caches, kept, strict=True):
            cache.keys.set_data(ms.Tensor(keys_BAKD))
            cache.values.set_data(ms.Tensor(values_BAKD))

    def _for_rows(self, batch_size: int) -> CachedModel:
        if self._cached is None or self._batch_size != batch_size:
            self._batch_size = batch_size
            self._cached = CachedModel(self.model, batch_size).set_train(False)
        return self._cached

    def _run(self, ids_BT: np.ndarray, positions_BT: np.ndarray, last_B: np.ndarray) -> np.ndarray:
        cached = self._for_rows(len(ids_BT))
        arguments = (ms.Tensor(np.ascontiguousarray(array), ms.int32) for array in (ids_BT, positions_BT, last_B))
        return cached(*arguments).asnumpy()
