import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mindgeex.data import packing
from mindgeex.data.packing import packed, windows

EOD = 0
documents = st.lists(st.lists(st.integers(1, 99), max_size=70).map(lambda ids: np.array(ids, np.int32)), max_size=12)


@given(documents, st.integers(1, 9), st.integers(1, 5))
def test_packed_rows_joined_are_the_documents_joined_by_eod(docs, seq_length, block_rows):
    packing.BLOCK_ROWS, before = block_rows, packing.BLOCK_ROWS
    try:
        rows = [row for block in packed(iter(docs), seq_length, EOD) for row in block]
    finally:
        packing.BLOCK_ROWS = before
    stream = [id for doc in docs for id in [*doc.tolist(), EOD]]
    flat = [id for row in rows for id in row.tolist()]
    assert all(len(row) == seq_length + 1 and row.dtype == np.int32 for row in rows)
    assert flat[: len(stream)] == stream
    assert len(flat) - len(stream) < seq_length + 1 and set(flat[len(stream) :]) <= {EOD}


@given(documents, st.integers(1, 9), st.integers(1, 12))
def test_windows_cover_each_document_and_never_mix_two(docs, seq_length, stride):
    width = seq_length + 1
    blocks = list(windows(iter(docs), seq_length, EOD, stride))
    assert len(blocks) == len(docs)
    for doc, block in zip(docs, blocks, strict=True):
        tokens = [*doc.tolist(), EOD]
        if len(tokens) <= width:
            assert block.tolist() == [tokens + [EOD] * (width - len(tokens))]
        else:
            starts = [*range(0, len(tokens) - width, stride), len(tokens) - width]
            assert block.tolist() == [tokens[start : start + width] for start in starts]


def test_a_long_file_gives_as_many_windows_as_published():
    (block,) = windows([np.ones(19_999, np.int32)], 2048, EOD, 200)
    assert block.shape == (91, 2049)
