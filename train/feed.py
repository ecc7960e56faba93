"""What a step is fed: rows of tokens, how much each label counts, and the rows' places in one endless order.

Data position and dropout masks follow from a row's place alone: they are the same for every number of workers and every
micro batch, and a resumed run needs nothing but the place at which it goes on.
"""

# Shapes: B batch, S sequence
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.data.mindrecord import Corpus


@dataclass(frozen=True, eq=False)
class Batch:
    """The rows of one worker in one step."""

    rows_BS1: np.ndarray
    """int32 [B, S + 1]: the first S are the input, the last S the labels."""
    weights_BS: np.ndarray
    """float32 [B, S]: how much each label counts in the loss."""
    slots_B: np.ndarray
    """int64 [B]: the rows' places in the endless order."""


class Feed(Protocol):
    """Where batches come from."""

    @property
    def name(self) -> str:
        """What to call it in an error."""

    @property
    def seq_length(self) -> int:
        """Tokens of input a row."""

    @property
    def vocab_size(self) -> int:
        """Ids are below this."""

    @property
    def eod_id(self) -> int:
        """The id that closes a document."""

    @property
    def fingerprint(self) -> str:
        """Equal for equal feeds; a resumed run must have the same."""

    @property
    def tokenizer_folder(self) -> Path:
        """The vocabulary that travels with the checkpoints."""

    def batches(self, rows: int, start_row: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Endless batches of one worker: a step takes the next `rows * world` places, rank 0 the first `rows`."""


@dataclass(frozen=True)
class CorpusFeed:
    """A corpus of MindRecord shards, every label weighted as CodeGeeX was trained.

    A label whose input is the end of a document does not count: so neither padding is trained, nor the first token of a
    document, which nothing predicts; the end of a document itself is trained. Padding of another id does not, either.
    Source: CodeGeeX, codegeex/mindspore/src/pangu_alpha.py, PanguAlphaWithLoss.
    """

    corpus: Corpus
    seed: int
    """Of the order of the rows."""

    def __post_init__(self) -> None:
        if self.corpus.num_rows("train") == 0:
            raise UserError(f"{self.corpus.folder}: no rows in split train: build it from more repositories")
        if self.pad_id is not None and self.pad_id >= self.corpus.vocab_size:
            raise UserError(
                f"{self.corpus.folder}: padded with id {self.pad_id}, but the tokenizer has {self.corpus.vocab_size}: "
                "build it again with another rows.pad_id"
            )

    @property
    def name(self) -> str:
        """The corpus's folder."""
        return str(self.corpus.folder)

    @property
    def seq_length(self) -> int:
        """Tokens of input a row."""
        return self.corpus.seq_length

    @property
    def vocab_size(self) -> int:
        """Ids are below this."""
        return self.corpus.vocab_size

    @property
    def eod_id(self) -> int:
        """The id that closes a document."""
        return self.corpus.eod_id

    @property
    def pad_id(self) -> int | None:
        """The id that fills rows, if it is not the end of a document."""
        pad_id = self.corpus.manifest["config"].get("rows", {}).get("pad_id")
        return None if pad_id in (None, self.eod_id) else int(pad_id)

    @property
    def fingerprint(self) -> str:
        """The corpus's own."""
        return self.corpus.fingerprint

    @property
    def tokenizer_folder(self) -> Path:
        """The corpus's own."""
        return self.corpus.folder / "tokenizer"

    def batches(self, rows: int, start_row: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """See `Feed.batches`."""
        first = start_row + rank * rows
        for rows_BS1 in self.corpus.batches("train", rows, self.seed, start_row, rank, world):
            yield Batch(rows_BS1, label_weights(rows_BS1, self.eod_id, self.pad_id), first + np.arange(rows))
            first += rows * world


def label_weights(rows_BS1: np.ndarray, eod_id: int, pad_id: int | None = None) -> np.ndarray:
    """1 where a label counts, 0 where its input is an end of document or it is padding; float32 [B, S]."""
    counts_BS = rows_BS1[:, :-1] != eod_id
    if pad_id is not None:
        padding_BS1 = np.logical_and.accumulate(rows_BS1[:, ::-1] == pad_id, axis=1)[:, ::-1]
        counts_BS &= ~padding_BS1[:, 1:]
    return counts_BS.astype(np.float32)


def dropout_seeds(seed: int, slots_B: np.ndarray) -> np.ndarray:
    """The dropout seed of each row, int32 [B] in [0, 2^31): a mixture (splitmix64) of the run's seed and its place."""
    mixed = slots_B.astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(33)).astype(np.int32)
