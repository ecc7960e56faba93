"""The cache over the C++ passes: prompts in pieces, then a token at a time; no length or batch needs a compilation."""

# Shapes: B rows of a batch, N tokens of all prompts, V vocabulary
from collections.abc import Sequence

import numpy as np

from mindgeex.model_zoo.decoding.kernels.native import LANES, NativeModel
from mindgeex.model_zoo.families import Model

PIECE = 64
"""Tokens of prompts in one pass: enough to use each weight often, few enough to stay near the processor."""


class NativeDecoder:
    """One model and what it remembers of a batch of rows."""

    def __init__(self, model: Model, threads: int | None = None):
        """Uses `threads` threads, or as many as there are processors for this process.

        Raises:
            CannotCompile: there is no compiler, or nowhere to put what it makes.
        """
        self.window = model.config.seq_length
        self.lengths = np.zeros(0, np.int32)
        """[B]: tokens in each row's cache."""
        self.native = NativeModel(model, threads)
        self._keys, self._values = self.native.empty_cache(0)
        self._rows_B = np.zeros(0, np.int32)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """Starts a new batch, a row a prompt (1 to `window` ids) -> logits [B, V] of each prompt's last token.

        Raises:
            ValueError: a prompt of another length, or with an id that the model has no row for.
        """
        lengths = [len(prompt) for prompt in prompts]
        if not 1 <= min(lengths) <= max(lengths) <= self.window:
            raise ValueError(f"prompts of {min(lengths)} to {max(lengths)} ids: at least 1, at most {self.window}")
        self.native.bind()
        if self._keys.shape[1] != len(prompts):
            self._keys, self._values = self.native.empty_cache(len(prompts))
        self.lengths = np.array(lengths, np.int32)
        self._rows_B = np.arange(len(lengths), dtype=np.int32)
        ids_N = np.concatenate([np.asarray(prompt, np.int32) for prompt in prompts])
        rows_N = np.repeat(self._rows_B, self.lengths)
        positions_N = np.concatenate([np.arange(length) for length in self.lengths])
        last_B = np.cumsum(self.lengths) - 1
        logits = []
        for start in range(0, len(ids_N), PIECE):
            piece = slice(start, start + PIECE)
            wanted = last_B[(last_B >= start) & (last_B < start + PIECE)] - start
            logits.append(self._forward(ids_N[piece], rows_N[piece], positions_N[piece], wanted))
        return np.concatenate(logits)

    def step(self, ids_B: np.ndarray) -> np.ndarray:
        """Appends a token to every row -> logits [B, V]; those of a row whose window was full mean nothing."""
        at_B = np.minimum(self.lengths, self.window - 1)
        self.lengths = at_B + 1
        return self._forward(ids_B, self._rows_B, at_B, self._rows_B)

    def reorder(self, rows: Sequence[int]) -> None:
        """Row i becomes a copy of what row rows[i] was; there may be more or fewer rows than before."""
        source = np.asarray(rows)
        blocks = -(-int(self.lengths.max()) // LANES)
        keys, values = self._keys, self._values
        if len(source) != len(self.lengths):
            self._keys, self._values = self.native.empty_cache(len(source))
            target, moved = np.arange(len(source)), source
        else:
            target = np.flatnonzero(source != np.arange(len(source)))
            moved = source[target]
        self._keys[:, target, :, :blocks] = keys[:, moved, :, :blocks]
        self._values[:, target, :, : blocks * LANES] = values[:, moved, :, : blocks * LANES]
        self.lengths = self.lengths[source]
        self._rows_B = np.arange(len(source), dtype=np.int32)

    def _forward(
        self, ids_N: np.ndarray, rows_N: np.ndarray, positions_N: np.ndarray, wanted: np.ndarray
    ) -> np.ndarray:
        return self.native.forward(ids_N, rows_N, positions_N, wanted, (self._keys, self._values))
