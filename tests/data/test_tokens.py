import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.data import tokens
from mindgeex.data.tokens import TokenStore, write_tokens

shards = st.lists(
    st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=20).map(lambda ids: np.array(ids, np.int32)), max_size=6),
    max_size=5,
)


def make_store(folder, documents_by_file) -> TokenStore:
    paths = [folder / f"{number:04d}.tokens" for number in range(len(documents_by_file))]
    for path, documents in zip(paths, documents_by_file, strict=True):
        lengths = write_tokens(path, iter(documents))
        assert lengths.dtype == np.int64 and lengths.tolist() == [len(document) for document in documents]
    return TokenStore(paths)


@settings(max_examples=60, deadline=None)
@given(shards, st.data())
def test_any_pieces_of_any_documents_come_back_in_any_order(tmp_path_factory, files, data):
    store = make_store(tmp_path_factory.mktemp("tokens"), files)
    documents = [document for file in files for document in file]
    assert len(store) == len(documents)
    assert store.lengths.dtype == np.int64 and store.lengths.tolist() == [len(document) for document in documents]
    if not documents:
        return
    numbers = data.draw(st.lists(st.integers(0, len(documents) - 1), max_size=12))
    starts = [data.draw(st.integers(0, len(documents[number]))) for number in numbers]
    counts = [data.draw(st.integers(0, len(documents[n]) - s)) for n, s in zip(numbers, starts, strict=True)]
    places = np.cumsum([0, *counts])
    out = np.full(int(places[-1]), -1, np.int32)
    store.copy(*(np.array(column, np.int64) for column in (numbers, starts, counts, places[:-1])), out)
    expected = [documents[n][s : s + c] for n, s, c in zip(numbers, starts, counts, strict=True)]
    assert out.tolist() == [token for piece in expected for token in piece.tolist()]
    for number, start, piece in zip(numbers, starts, expected, strict=True):
        assert np.array_equal(store.take(number, start, len(piece)), piece)


def test_more_files_than_may_be_open_are_read_with_few_descriptors(tmp_path):
    count = 3 * tokens.OPEN_FILES
    store = make_store(tmp_path, [[np.full(3, number, np.int32)] for number in range(count)])
    before = len(os.listdir("/proc/self/fd"))
    for number in (*range(count), *reversed(range(count))):
        assert store.take(number, 1, 2).tolist() == [number, number]
    assert len(os.listdir("/proc/self/fd")) <= before + tokens.OPEN_FILES


def test_a_failed_write_leaves_no_file(tmp_path):
    def documents():
        yield np.zeros(5, np.int32)
        raise RuntimeError("a document that cannot be told")

    with pytest.raises(RuntimeError):
        write_tokens(tmp_path / "a.tokens", documents())
    assert list(tmp_path.iterdir()) == []


def test_the_same_documents_give_the_same_bytes_whatever_their_integers_are(tmp_path):
    ids = [[1, 2, 3], [], [4]]
    write_tokens(tmp_path / "a", [np.array(row, np.int32) for row in ids])
    write_tokens(tmp_path / "b", [np.array(row, np.int64)[::1] for row in ids])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("damage", [lambda raw: raw[:-4], lambda raw: raw[:-1], lambda raw: b"", lambda raw: raw[4:]])
def test_a_file_that_is_not_whole_is_refused_by_name(tmp_path, damage):
    path = tmp_path / "a.tokens"
    write_tokens(path, [np.arange(5, dtype=np.int32), np.arange(70, dtype=np.int32)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="a.tokens: not a whole file of tokens"):
        _ = TokenStore([path]).lengths
    path.unlink()
    with pytest.raises(UserError, match="a.tokens: cannot be read"):
        TokenStore([path])


def test_an_unused_store_travels_to_a_worker(tmp_path):
    store = make_store(tmp_path, [[np.arange(9, dtype=np.int32)]])
    assert pickle.loads(pickle.dumps(store)).take(0, 3, 2).tolist() == [3, 4]
