import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.data import packing
from mindgeex.data.packing import ShardPlan, fill, plan_packed, plan_windows

EOD, PAD = 0, -7
some_lengths = st.lists(st.integers(0, 40), max_size=60).map(lambda lengths: np.array(lengths, np.int64))
few = settings(max_examples=60, deadline=None)


class Documents:
    """A store in memory; every token of every document is another number."""

    def __init__(self, lengths: np.ndarray):
        ends = np.cumsum(lengths)
        self.documents = [
            np.arange(end - length, end, dtype=np.int32) + 1 for end, length in zip(ends, lengths, strict=True)
        ]

    def copy(self, document, start, count, place, out):
        for number, first, length, target in zip(document, start, count, place, strict=True):
            piece = self.documents[number][first : first + length]
            assert len(piece) == length
            out[target : target + length] = piece


def rows_of(plans: list[ShardPlan], lengths: np.ndarray, pad_id: int | None = None) -> np.ndarray:
    store = Documents(lengths)
    return np.concatenate(
        [np.zeros((0, plans[0].width if plans else 1)), *(fill(p, store, EOD, pad_id) for p in plans)]
    )


def packed_pieces(lengths, seq_length, rows_per_shard=3):
    plans = list(plan_packed(lengths, seq_length, rows_per_shard))
    pieces = [
        (int(document), int(start), int(count), bool(closes), number * rows_per_shard + int(row))
        for number, plan in enumerate(plans)
        for document, start, count, row, closes in zip(
            plan.document, plan.start, plan.count, plan.row, plan.closes, strict=True
        )
    ]
    return plans, pieces


@few
@given(some_lengths, st.integers(1, 12), st.sampled_from([1, 5, 1 << 14]))
def test_every_token_stands_once_and_a_documents_pieces_in_order(lengths, seq_length, window):
    before, packing.WINDOW_DOCUMENTS = packing.WINDOW_DOCUMENTS, window
    try:
        _, pieces = packed_pieces(lengths, seq_length)
    finally:
        packing.WINDOW_DOCUMENTS = before
    reached = [0] * len(lengths)
    for document, start, count, closes, _ in pieces:
        assert start == reached[document] and count > 0
        reached[document] += count
        assert closes == (reached[document] == lengths[document] + 1)
    assert reached == (lengths + 1).tolist()
    rows = [row for *_, row in pieces]
    assert rows == sorted(rows)


@few
@given(some_lengths, st.integers(1, 12), st.integers(1, 7))
@example(np.array([0, 4, 6, 17, 30, 40]), 10, 1)  # a lone EOD beside a piece that is cut
def test_no_row_but_the_last_is_padded_and_eod_stands_behind_each_last_token(lengths, seq_length, rows_per_shard):
    plans = list(plan_packed(lengths, seq_length, rows_per_shard))
    rows = rows_of(plans, lengths, PAD)
    assert all(plan.num_rows == rows_per_shard for plan in plans[:-1])
    total = int((lengths + 1).sum())
    assert len(rows) == -(-total // (seq_length + 1))
    flat = rows.ravel()
    assert (flat[:total] != PAD).all() and (flat[total:] == PAD).all()
    assert (flat == EOD).sum() == len(lengths)
    assert sorted(flat[flat > 0]) == list(range(1, int(lengths.sum()) + 1))
    last = {EOD, *np.cumsum(lengths).tolist()}
    assert set(rows[:, :-1][rows[:, 1:] == EOD].tolist()) <= last  # inside a row, only a last token or an EOD precedes


@few
@given(some_lengths, st.integers(1, 12), st.integers(1, 50), st.integers(1, 50))
def test_the_rows_do_not_depend_on_how_they_are_sharded(lengths, seq_length, one, other):
    rows = [rows_of(list(plan_packed(lengths, seq_length, size)), lengths) for size in (one, other)]
    assert np.array_equal(*rows)


def test_documents_that_fit_together_are_not_cut():
    lengths = np.array([5, 1, 4, 2, 3, 3, 6, 0], np.int64)  # with EOD: 6+2, 5+3, 4+4, 7+1
    _, pieces = packed_pieces(lengths, 7)
    assert len(pieces) == len(lengths) and all(closes for *_, closes, _ in pieces)


def test_far_fewer_documents_are_cut_than_by_joining_them():
    lengths = np.random.default_rng(1).lognormal(6.8, 1.1, 20_000).astype(np.int64)
    width = 2049
    plans = list(plan_packed(lengths, width - 1, 1 << 16))
    pieces = np.bincount(np.concatenate([plan.document for plan in plans]), minlength=len(lengths))
    ends = np.cumsum(lengths + 1)
    joined = (ends - 1) // width - (ends - lengths - 1) // width + 1
    short = lengths < width
    assert (joined[short] > 1).mean() > 0.30
    assert (pieces[short] > 1).mean() < 0.001
    needed = -(-(lengths + 1) // width)
    assert (pieces > needed).mean() < 0.02 < 0.3 < (joined > needed).mean()


def test_a_document_longer_than_a_row_gives_whole_rows_first():
    lengths = np.array([25, 3, 6], np.int64)
    _, pieces = packed_pieces(lengths, 9)
    assert [(start, count) for document, start, count, *_ in pieces if document == 0] == [(0, 10), (10, 10), (20, 6)]


def test_a_plan_travels_to_a_worker_and_repeats_documents_as_ordered():
    order = np.array([2, 0, 2], np.int64)
    lengths = np.array([3, 50, 2], np.int64)
    (plan,) = plan_packed(lengths[order], 9, 100)
    row = fill(pickle.loads(pickle.dumps(plan)).renumbered(order), Documents(lengths), EOD)
    first, third = [1, 2, 3, EOD], [54, 55, EOD]
    assert row.tolist() == [[*third, *first, *third]]


@few
@given(some_lengths, st.integers(1, 9), st.data(), st.integers(1, 7), st.sampled_from([None, PAD]))
def test_windows_cover_each_document_and_never_mix_two(lengths, seq_length, data, rows_per_shard, pad_id):
    stride = data.draw(st.integers(1, seq_length))
    plans = list(plan_windows(lengths, seq_length, rows_per_shard, stride))
    assert all(plan.num_rows == rows_per_shard for plan in plans[:-1])
    width, pad = seq_length + 1, EOD if pad_id is None else pad_id
    expected = []
    for document in Documents(lengths).documents:
        tokens = [*document.tolist(), EOD]
        last = max(0, len(tokens) - width)
        starts = [*range(0, last, stride), last]
        expected += [(tokens[start : start + width] + [pad] * width)[:width] for start in starts]
    assert rows_of(plans, lengths, pad_id).tolist() == expected


def test_a_long_file_gives_as_many_windows_as_published():
    (plan,) = plan_windows(np.array([19_999], np.int64), 2048, 1000, 200)
    assert (plan.num_rows, plan.width) == (91, 2049)


def test_a_stride_that_would_pass_over_tokens_is_refused():
    with pytest.raises(UserError, match="rows.window_stride=9.*at most seq_length=8"):
        plan_windows(np.array([20], np.int64), 8, 10, 9)
