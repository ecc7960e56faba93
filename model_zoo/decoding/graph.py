"""The cache as a MindSpore graph: on every device and in every type, compiled once per batch size.

Prompts of different lengths share a batch: each row is padded on the right, and a row's position says how much of
its cache is real. Covers: batches of any size, reordering and copying rows. Does not cover: going on beyond the window.
"""

# Shapes: B batch, P window, T queries (P, or 1 after the prompt), K keys (P), A heads, D head width, V vocabulary
import contextlib
from collections.abc import Iterator, Sequence

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
        self.attentions = [cell for _, cell in model.cells_and_names() if isinstance(cell, Attention)]
        self.caches = [Cache(model.config, batch_size, f"cache.{index}") for index in range(len(self.attentions))]

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The model remembers here, and afterwards as before: a graph is compiled with what is in place."""
        before = [attention.memory for attention in self.attentions]
        self._place(self.caches)
        try:
            yield
        finally:
            self._place(before)

    def _place(self, memories: Sequence[nn.Cell]) -> None:
        for index, (attention, memory) in enumerate(zip(self.attentions, memories, strict=True)):
            attention.memory = memory
            for name, parameter in memory.parameters_and_names():  # which a new place renamed, all alike
                parameter.name = f"cache.{index}.{name}"

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
    """One model and what it remembers of a batch of rows.

    Two graphs are compiled: one reads a single prompt of any length, one steps a number of rows (one a number).
    """

    def __init__(self, model: Model):
        ms.set_context(mode=ms.GRAPH_MODE)
        self.model = model
        self.window = model.config.seq_length
        self.lengths = np.zeros(0, np.int32)
        """[B]: tokens in each row's cache."""
        self._reader = CachedModel(model, 1).set_train(False)
        self._cached = self._reader

    def prefill(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """Starts a new batch, a row a prompt (1 to `window` ids) -> logits [B, V] of each prompt's last token.

        One by one: the scores of a window's attention take a gigabyte or more a row, all layers together.
        """
        self.lengths = np.array([len(prompt) for prompt in prompts], np.int32)
        positions_1P = np.arange(self.window, dtype=np.int32)[None]
        logits, kept = [], []
        for prompt in prompts:
            ids_1P = np.zeros((1, self.window), np.int32)
            ids_1P[0, : len(prompt)] = prompt
            logits.append(self._run(self._reader, ids_1P, positions_1P, np.array([len(prompt) - 1])))
            if len(prompts) > 1:
                kept.append([(c.keys.asnumpy().copy(), c.values.asnumpy().copy()) for c in self._reader.caches])
        self._cached = self._for_rows(len(prompts))
        if kept:
            joined = [tuple(map(np.concatenate, zip(*layer, strict=True))) for layer in zip(*kept, strict=True)]
            self._fill(joined)
        return np.concatenate(logits)

    def step(self, ids_B: np.ndarray) -> np.ndarray:
        """Appends a token to every row -> logits [B, V]; those of a row whose window was full mean nothing."""
        at_B = np.minimum(self.lengths, self.window - 1)
        self.lengths = at_B + 1
        return self._run(self._cached, ids_B[:, None], at_B[:, None], np.zeros_like(at_B))

    def reorder(self, rows: Sequence[int]) -> None:
        """Row i becomes a copy of what row rows[i] was; there may be more or fewer rows than before."""
        kept = [(cache.keys.asnumpy()[list(rows)], cache.values.asnumpy()[list(rows)]) for cache in self._cached.caches]
        self.lengths = self.lengths[list(rows)]
        self._cached = self._for_rows(len(rows))
        self._fill(kept)

    def _for_rows(self, batch_size: int) -> CachedModel:
        if batch_size == 1:
            return self._reader
        if self._cached.caches[0].keys.shape[0] == batch_size:
            return self._cached
        return CachedModel(self.model, batch_size).set_train(False)

    def _fill(self, caches: Sequence[tuple[np.ndarray, ...]]) -> None:
        for cache, (keys_BAKD, values_BAKD) in zip(self._cached.caches, caches, strict=True):
            cache.keys.set_data(ms.Tensor(keys_BAKD))
            cache.values.set_data(ms.Tensor(values_BAKD))

    def _run(self, cached: CachedModel, ids_BT: np.ndarray, positions_BT: np.ndarray, last_B: np.ndarray) -> np.ndarray:
        arguments = (ms.Tensor(np.ascontiguousarray(array), ms.int32) for array in (ids_BT, positions_BT, last_B))
        with cached.in_place():
            return cached(*arguments).asnumpy()
