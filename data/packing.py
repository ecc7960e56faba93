"""Documents' lengths -> which tokens stand in which row of seq_length + 1; and the rows, filled by any worker.

A row's first seq_length tokens are the input, its last the labels. Every document is closed by one EOD, which counts as
its last token here.

`plan_packed`: nothing is padded but the split's very last row, and few documents are cut. A document longer than a row
gives whole rows, then a remainder; remainders and short documents are laid into rows by best fit, longest first, some
thousand documents at a time ("Fewer Truncations Improve Language Modeling", arXiv 2404.10830). What is then still open
is filled from the rows that have the fewest whole documents: those documents are the ones cut, remainders first.

`plan_windows`: as CodeGeeX was trained; one document a row, padded; a longer one gives overlapping windows `stride`
apart and a last one that ends with it (CodeGeeX codegeex/data/data_utils.py, sliding_window). Its `minimum_code_len`
bounds how much of a prompt a window may hold; the training data had none, so it did nothing, and there is none here: a
last window begins as soon as one token is not covered by those before, and is always full.

Covers: any lengths, rows of any size, shards of any number of rows; memory grows with a window of documents.
Does not cover: masks between the documents of a row; a padding id other than EOD carries weight in the trainer's loss.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mindgeex.common.errors import UserError

WINDOW_DOCUMENTS = 1 << 14
"""Documents that best fit looks at together."""

CHUNK_DOCUMENTS = 1 << 12
"""Documents that `plan_windows` plans together."""


class Tokens(Protocol):
    """What `fill` reads from; see `tokens.TokenStore`."""

    def copy(
        self, document: np.ndarray, start: np.ndarray, count: np.ndarray, place: np.ndarray, out: np.ndarray
    ) -> None:
        """Copies pieces of documents to their places in `out`."""


@dataclass(frozen=True, eq=False)
class ShardPlan:
    """What the rows of a shard consist of: P pieces in the order they stand in."""

    num_rows: int
    width: int
    """Tokens a row: seq_length + 1."""

    document: np.ndarray
    """int64 [P]."""
    start: np.ndarray
    """int32 [P], a piece's first token in its document."""
    count: np.ndarray
    """int32 [P], its tokens, with EOD where it closes the document."""
    row: np.ndarray
    """int32 [P], ascending."""
    closes: np.ndarray
    """bool [P]: ends with EOD."""

    def renumbered(self, order: np.ndarray) -> "ShardPlan":
        """The same plan for documents `order[document]`."""
        return dataclasses.replace(self, document=order[self.document])


def plan_packed(lengths: np.ndarray, seq_length: int, rows_per_shard: int) -> Iterator[ShardPlan]:
    """Plans rows without padding: every token once, a document's pieces in order.

    Args:
        lengths: int64 [documents], tokens of each, without EOD.
        seq_length: tokens of input a row.
        rows_per_shard: rows in every shard but the last.
    """
    return _shards(_packed(lengths, seq_length + 1), lengths, seq_length + 1, rows_per_shard)


def plan_windows(lengths: np.ndarray, seq_length: int, rows_per_shard: int, stride: int) -> Iterator[ShardPlan]:
    """Plans rows of one document each.

    Args:
        lengths: int64 [documents], tokens of each, without EOD.
        seq_length: tokens of input a row.
        rows_per_shard: rows in every shard but the last.
        stride: tokens from the start of one window to the next; 200 as published.

    Raises:
        UserError: a stride with which some tokens would never be a label.
    """
    if stride > seq_length:
        raise UserError(f"rows.window_stride={stride}: passes over tokens: give at most seq_length={seq_length}")
    return _shards(_windows(lengths, seq_length + 1, stride), lengths, seq_length + 1, rows_per_shard)


def fill(plan: ShardPlan, store: Tokens, eod_id: int, pad_id: int | None = None) -> np.ndarray:
    """The rows of a plan, int32 [rows, seq_length + 1].

    Args:
        plan: of one shard, its documents numbered as in the store.
        store: the documents' tokens.
        eod_id: closes a document.
        pad_id: fills what is left of a row; None: EOD.
    """
    out = np.full(plan.num_rows * plan.width, eod_id if pad_id is None else pad_id, np.int32)
    count = plan.count.astype(np.int64)
    begin = np.cumsum(count) - count
    place = plan.row.astype(np.int64) * plan.width + begin - begin[np.searchsorted(plan.row, plan.row)]
    store.copy(plan.document, plan.start, plan.count - plan.closes, place, out)
    out[(place + count - 1)[plan.closes]] = eod_id
    return out.reshape(plan.num_rows, plan.width)


# Pieces: int64 [P, 4], the columns document, start, count, row; rows ascend from 0 in each block of pieces, are
# complete in it, and are as many as the last one says. Items: int64 [I, 3], the first three of these.


def _shards(blocks: Iterable[np.ndarray], lengths: np.ndarray, width: int, rows_per_shard: int) -> Iterator[ShardPlan]:
    """Cuts the rows of all blocks into shards."""
    held: list[np.ndarray] = []
    num_rows = 0
    for block in blocks:
        if not len(block):
            continue
        block[:, 3] += num_rows
        held.append(block)
        num_rows = int(block[-1, 3]) + 1
        if num_rows >= rows_per_shard:
            pieces = np.concatenate(held)
            whole = num_rows // rows_per_shard
            bounds = np.searchsorted(pieces[:, 3], np.arange(whole + 1) * rows_per_shard)
            for shard in range(whole):
                part = pieces[bounds[shard] : bounds[shard + 1]]
                yield _shard(part, lengths, width, rows_per_shard, shard * rows_per_shard)
            rest = pieces[bounds[whole] :].copy()
            rest[:, 3] -= whole * rows_per_shard
            held, num_rows = [rest], num_rows - whole * rows_per_shard
    if num_rows:
        yield _shard(np.concatenate(held), lengths, width, num_rows, 0)


def _shard(pieces: np.ndarray, lengths: np.ndarray, width: int, num_rows: int, first_row: int) -> ShardPlan:
    document, start, count, row = pieces.T
    closes = start + count > lengths[document]
    narrow = (pieces[:, 1:] - [0, 0, first_row]).astype(np.int32)
    return ShardPlan(num_rows, width, document.copy(), narrow[:, 0], narrow[:, 1], narrow[:, 2], closes)


def _windows(lengths: np.ndarray, width: int, stride: int) -> Iterator[np.ndarray]:
    for first in range(0, len(lengths), CHUNK_DOCUMENTS):
        totals = lengths[first : first + CHUNK_DOCUMENTS] + 1
        last = np.maximum(totals - width, 0)
        document, nth = _expand(-(-last // stride) + 1)
        start = np.minimum(nth * stride, last[document])
        count = np.minimum(totals[document] - start, width)
        yield np.stack([document + first, start, count, np.arange(len(document))], axis=1)


def _packed(lengths: np.ndarray, width: int) -> Iterator[np.ndarray]:
    carried = np.zeros((0, 3), np.int64)
    for first in range(0, len(lengths), WINDOW_DOCUMENTS):
        totals = lengths[first : first + WINDOW_DOCUMENTS] + 1
        document, nth = _expand(totals // width)
        yield np.stack([document + first, nth * width, np.full_like(nth, width), np.arange(len(nth))], axis=1)
        numbers = np.arange(len(totals))
        remainders = np.stack([numbers + first, totals // width * width, totals % width], axis=1)
        items = np.concatenate([carried, remainders[remainders[:, 2] > 0]])
        pieces, carried = _best_fit(items, lengths, width)
        yield pieces
    yield np.insert(carried, 3, 0, axis=1)


def _expand(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each index as often as `times` says, and how many of the same stand before."""
    index = np.repeat(np.arange(len(times)), times)
    return index, np.arange(len(index)) - (np.cumsum(times) - times)[index]


def _best_fit(items: np.ndarray, lengths: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Full rows of as few cut items as can be.

    Args:
        items: at most `width` long each.
        lengths: of all documents.
        width: of a row.

    Returns:
        Pieces, and the items left: less than a row.
    """
    num_rows = int(items[:, 2].sum()) // width
    items = items[np.argsort(-items[:, 2], kind="stable")]
    rows = _Rows(width)
    row_of = np.array([rows.place(length, always=True) for length in items[:, 2].tolist()], np.int64)
    open_ = width - np.bincount(row_of, items[:, 2], minlength=1).astype(np.int64)
    is_whole = items[:, 2] > lengths[items[:, 0]]
    num_whole = np.bincount(row_of, is_whole, minlength=1)
    kept = np.lexsort((open_, -num_whole, open_ > 0))[:num_rows]
    kept = kept[np.argsort(_least(items[:, 0], row_of)[kept], kind="stable")]
    new_row = np.full(len(open_), -1)
    new_row[kept] = np.arange(num_rows)
    row_of, open_ = new_row[row_of], open_[kept]

    rows = _Rows(width, open_)
    for item in np.flatnonzero((row_of < 0) & is_whole).tolist():
        row_of[item] = rows.place(int(items[item, 2]), always=False)
    placed = row_of >= 0
    open_ = width - np.bincount(row_of[placed], items[placed, 2], minlength=num_rows).astype(np.int64)
    stream = np.argsort(is_whole[~placed], kind="stable")  # what is cut already first, then the longest
    fillers, left = _pour(items[~placed][stream], open_)
    pieces = np.concatenate([np.column_stack([items, row_of])[placed], fillers])
    is_filler = np.arange(len(pieces)) >= placed.sum()
    # In a row: what is placed by document, then fillers as they were poured, so that a piece that is cut stands last
    # and no other document's EOD behind it.
    within = np.where(is_filler, np.arange(len(pieces)), pieces[:, 0])
    return pieces[np.lexsort((within, is_filler, pieces[:, 3]))], left


def _least(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The least value of each group; no group is empty."""
    if not len(values):
        return values
    order = np.argsort(group, kind="stable")
    return np.minimum.reduceat(values[order], np.flatnonzero(np.diff(group[order], prepend=-1)))


def _pour(items: np.ndarray, open_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fills what is open in each row from the items, one behind the other, cutting where a row ends.

    Returns:
        Pieces, and what is left of the items.
    """
    item_ends, row_ends = np.cumsum(items[:, 2]), np.cumsum(open_)
    total = int(open_.sum())
    bounds = np.unique(np.concatenate([[0], row_ends, item_ends[item_ends < total]]))
    begin, count = bounds[:-1], np.diff(bounds)
    item, row = (np.searchsorted(ends, begin, side="right") for ends in (item_ends, row_ends))
    start = items[item, 1] + begin - (item_ends - items[:, 2])[item]
    poured = np.clip(total - (item_ends - items[:, 2]), 0, items[:, 2])
    left = items + np.outer(poured, [0, 1, -1])
    return np.stack([items[item, 0], start, count, row], axis=1), left[left[:, 2] > 0]


class _Rows:
    """Best fit: rows by what is open in them; the fullest that has room is found by bits of one large integer."""

    def __init__(self, width: int, open_: Iterable[int] = ()):
        self.width = width
        self.num_rows = 0
        self._by_open: list[list[int]] = [[] for _ in range(width + 1)]
        self._bits = 0
        for tokens in open_:
            self._add(self.num_rows, int(tokens))
            self.num_rows += 1

    def place(self, length: int, always: bool) -> int:
        """Number of the row that an item goes to; if none has room, a new one, or -1 unless `always`."""
        fitting = self._bits >> length
        if fitting:
            tokens = length + (fitting & -fitting).bit_length() - 1
            rows = self._by_open[tokens]
            row = rows.pop()
            if not rows:
                self._bits ^= 1 << tokens
        elif always:
            row, tokens = self.num_rows, self.width
            self.num_rows += 1
        else:
            return -1
        self._add(row, tokens - length)
        return row

    def _add(self, row: int, tokens: int) -> None:
        if tokens:
            self._by_open[tokens].append(row)
            self._bits |= 1 << tokens
