import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.data.fim import FimRules, encode_document
from mindgeex.data.languages import language_tag
from mindgeex.data.mindrecord import Corpus, verify
from mindgeex.data.order import Order
from mindgeex.data.packing import fill, plan_packed
from mindgeex.data.tokens import TokenStore, write_tokens


@pytest.fixture(scope="module")
def corpus(built) -> Corpus:
    return Corpus.open(built.folder)


def take(corpus: Corpus, steps: int, **options) -> list[np.ndarray]:
    return list(itertools.islice(corpus.batches("train", **options), steps))


def flat(batches: list[np.ndarray]) -> list[tuple[int, ...]]:
    return [tuple(row) for batch in batches for row in batch.tolist()]


def in_order(corpus: Corpus) -> list[tuple[int, ...]]:
    rows = flat(list(corpus.batches("train", 16, seed=0, shuffle=False, epochs=1)))
    return rows[: corpus.num_rows("train")]


def test_rows_are_the_documents_tokens(corpus, tmp_path):
    tokenizer = corpus.tokenizer()
    documents = list(corpus.documents("train"))
    tokens = [encode_document(d.text, language_tag(d.language), tokenizer, FimRules(), ()) for d in documents]
    write_tokens(tmp_path / "tokens", tokens)
    store = TokenStore([tmp_path / "tokens"])
    (plan,) = plan_packed(store.lengths, corpus.seq_length, 1 << 16)
    expected = fill(plan, store, corpus.eod_id)
    assert np.array_equal(expected, np.array(in_order(corpus), np.int32))
    assert corpus.num_rows("train") == len(expected) > 200
    assert corpus.vocab_size == tokenizer.vocab_size == 400 and corpus.eod_id == tokenizer.eod_id
    assert (expected == corpus.eod_id).sum() >= len(documents)
    first = tokenizer.decode(expected[0].tolist())
    assert any(f"{language_tag(document.language)}\n{document.text}".startswith(first) for document in documents)


def test_a_built_corpus_has_no_problems(built):
    assert list(verify(built.folder)) == []


def test_each_epoch_has_every_row_once_in_another_order(corpus):
    total = corpus.num_rows("train")
    rows = flat(take(corpus, 3 * total, batch_size=1, seed=5))
    everything = sorted(in_order(corpus))
    epochs = [rows[start : start + total] for start in (0, total, 2 * total)]
    assert all(sorted(epoch) == everything for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3 and sorted(epochs[0]) != epochs[0]
    assert flat(take(corpus, total, batch_size=1, seed=5)) == epochs[0]
    assert flat(take(corpus, total, batch_size=1, seed=6)) != epochs[0]


def test_the_global_order_is_the_same_for_one_rank_four_ranks_and_a_restart_with_three(corpus):
    total = corpus.num_rows("train")
    steps = 2 * total // 12
    alone = flat(take(corpus, steps * 12, batch_size=1, seed=9))
    four = [take(corpus, steps, batch_size=3, seed=9, rank=rank, world=4) for rank in range(4)]
    together = flat([batch for step in zip(*four, strict=True) for batch in step])
    assert together == alone[: len(together)]
    half = steps // 2 * 12
    three = [take(corpus, 5, batch_size=2, seed=9, rank=rank, world=3, start_row=half) for rank in range(3)]
    resumed = flat([batch for step in zip(*three, strict=True) for batch in step])
    assert resumed == alone[half : half + 30]


@pytest.mark.parametrize(("batch_size", "world"), [(7, 1), (16, 3), (1000, 2)])
def test_the_last_step_of_the_last_epoch_is_filled_with_eod(corpus, batch_size, world):
    total, width = corpus.num_rows("train"), corpus.seq_length + 1
    ranks = [
        list(corpus.batches("train", batch_size, seed=3, rank=rank, world=world, epochs=1)) for rank in range(world)
    ]
    assert {len(batches) for batches in ranks} == {-(-total // (batch_size * world))}
    assert all(batch.shape == (batch_size, width) and batch.dtype == np.int32 for r in ranks for batch in r)
    rows = flat([batch for step in zip(*ranks, strict=True) for batch in step])
    assert set(rows[total:]) <= {(corpus.eod_id,) * width}
    assert sorted(rows[:total]) == sorted(in_order(corpus))


def test_a_batch_may_be_larger_than_the_corpus(corpus):
    total = corpus.num_rows("train")
    (batch,) = take(corpus, 1, batch_size=2 * total + 5, seed=1)
    assert flat([batch])[:total] == flat(take(corpus, total, batch_size=1, seed=1))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32), st.lists(st.integers(0, 120), min_size=1, max_size=50))
def test_order_answers_the_same_for_any_question(total, seed, slots):
    whole = Order(total, seed).rows(np.arange(121))
    assert np.array_equal(Order(total, seed).rows(np.array(slots)), whole[slots])
    assert all(sorted(whole[start : start + total]) == list(range(total)) for start in range(0, 121 - total, total))


@pytest.fixture
def copied(built, tmp_path) -> Path:
    return Path(shutil.copytree(built.folder, tmp_path / "corpus"))


def shard_names(folder: Path) -> list[str]:
    shards = json.loads((folder / "manifest.json").read_text())["shards"]
    return [e["file"] for shard in shards for e in (shard, shard["index"], shard["checksums"])]


def test_a_moved_corpus_reads_the_same(built, copied):
    moved, here = Corpus.open(copied), Corpus.open(built.folder)
    assert moved.fingerprint == here.fingerprint
    assert flat(take(moved, 4, batch_size=8, seed=1)) == flat(take(here, 4, batch_size=8, seed=1))


def test_every_altered_truncated_or_missing_file_is_named(copied):
    names = shard_names(copied)
    assert len(names) >= 6
    for name in [*names, "tokenizer/vocab.json"]:
        path = copied / name
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[len(changed) // 2] ^= 1
        path.write_bytes(changed)
        with pytest.raises(UserError, match=f"{name}: SHA-256 differs"):
            Corpus.open(copied)
        path.write_bytes(whole[:-1])
        with pytest.raises(UserError, match=rf"{name}: has {len(whole) - 1} bytes, the manifest says {len(whole)}"):
            Corpus.open(copied)
        path.unlink()
        with pytest.raises(UserError, match=f"{name}: missing"):
            Corpus.open(copied)
        path.write_bytes(whole)
    Corpus.open(copied)


def test_altered_documents_are_named(copied):
    path = next((copied / "documents").glob("train-*"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{path.name}: has"):
        list(Corpus.open(copied).documents("train"))


def test_what_is_not_a_corpus_is_refused(tmp_path, copied):
    with pytest.raises(UserError, match="no manifest.json"):
        Corpus.open(tmp_path)
    manifest = json.loads((copied / "manifest.json").read_text())
    del manifest["shards"][0]["sha256"]
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="manifest.json: altered .'sha256'"):
        Corpus.open(copied)
    (copied / "manifest.json").write_text('{"format": "other"}')
    with pytest.raises(UserError, match="format is not"):
        Corpus.open(copied)
    (copied / "manifest.json").write_text('{"format": ')
    with pytest.raises(UserError, match="not valid JSON"):
        Corpus.open(copied)
