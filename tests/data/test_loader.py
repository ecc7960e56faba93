import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.common.files import write_json
from mindgeex.data import mindrecord, shards
from mindgeex.data.document import Document, file_entry, to_line
from mindgeex.data.document import write_shard as write_documents
from mindgeex.data.mindrecord import FORMAT, Corpus, verify, write_shard
from mindgeex.data.order import Order, permuted

SEQ_LENGTH = 8
EOD = 0
VOCAB_SIZE = 50_000


def make_rows(count: int, seed: int = 1) -> np.ndarray:
    """Rows that differ from each other: the first two ids tell which row it is."""
    rows = np.random.default_rng(seed).integers(1, VOCAB_SIZE, (count, SEQ_LENGTH + 1), dtype=np.int32)
    rows[:, 0], rows[:, 1] = np.divmod(np.arange(count), VOCAB_SIZE)
    return rows


def make_corpus(folder: Path, rows: np.ndarray, rows_per_shard: int, num_documents: int = 3, **more) -> Path:
    """A small corpus written shard by shard, its documents about nothing."""
    pieces = [rows[start : start + rows_per_shard] for start in range(0, len(rows), rows_per_shard)]
    entries = [write_shard(piece, folder / "shards", "train", number) for number, piece in enumerate(pieces)]
    texts = [Document(f"text {number}", "Python", "repo", f"{number}.py") for number in range(num_documents)]
    path = folder / "documents" / "train-00000.jsonl.zst"
    write_documents(path, map(to_line, texts))
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    manifest = {
        "format": FORMAT,
        "config": {"seq_length": SEQ_LENGTH, "rows": {"packing": "packed", "pad_id": None}, "sources": [folder.name]},
        "tokenizer": {
            "fingerprint": "f", "vocab_size": VOCAB_SIZE, "eod_id": EOD, "bytes_per_token": 2.0,
            "files": [file_entry(folder / "tokenizer" / "vocab.json", folder)],
        },
        "splits": {"train": {"rows": len(rows), "documents": num_documents, "bytes": 40, "tokens": 20}},
        "shards": entries,
        "document_shards": [{**file_entry(path, folder), "split": "train"}],
        **more,
    }  # fmt: skip
    write_json(folder / "manifest.json", manifest)
    return folder


ROWS = make_rows(1100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus") / "corpus", ROWS, 300)


@pytest.fixture(scope="module")
def corpus(folder) -> Corpus:
    return Corpus.open(folder)


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "corpus"))


def numbers(batches: list[np.ndarray]) -> list[int]:
    return [int(row) for batch in batches for row in batch[:, 0] * VOCAB_SIZE + batch[:, 1]]


def take(corpus: Corpus, steps: int, **options) -> list[np.ndarray]:
    return list(itertools.islice(corpus.batches("train", **options), steps))


def together(ranks: list[list[np.ndarray]]) -> list[int]:
    return numbers([batch for step in zip(*ranks, strict=True) for batch in step])


def global_order(count: int, seed: int, total: int = len(ROWS)) -> list[int]:
    return Order(total, seed).rows(np.arange(count)).tolist()


def test_batches_are_the_rows_of_the_order(corpus):
    batches = take(corpus, 300, batch_size=11, seed=4)  # three epochs
    expected = global_order(3300, 4)
    assert numbers(batches) == expected
    assert all(sorted(expected[start : start + 1100]) == list(range(1100)) for start in (0, 1100, 2200))
    assert np.array_equal(np.concatenate(batches), ROWS[expected])


def test_a_run_of_one_rank_goes_on_with_four_and_then_with_three(corpus):
    expected = global_order(700, 9)
    seen = numbers(take(corpus, 20, batch_size=6, seed=9))
    four = [take(corpus, 10, batch_size=3, seed=9, rank=rank, world=4, start_row=120) for rank in range(4)]
    seen += together(four)
    three = [take(corpus, 12, batch_size=5, seed=9, rank=rank, world=3, start_row=240) for rank in range(3)]
    seen += together(three)
    assert seen == expected[: 20 * 6 + 10 * 12 + 12 * 15]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2500), st.integers(1, 40), st.integers(1, 5), st.sampled_from([1, 2, 7, 256]), st.booleans())
def test_any_start_any_ranks_and_any_chunks_give_the_same_order(corpus, start, batch_size, world, chunk, shuffle):
    before, mindrecord.FIRST_CHUNK_ROWS = mindrecord.FIRST_CHUNK_ROWS, chunk
    try:
        options = {"batch_size": batch_size, "seed": 2, "start_row": start, "world": world, "shuffle": shuffle}
        seen = together([take(corpus, 3, rank=rank, **options) for rank in range(world)])
    finally:
        mindrecord.FIRST_CHUNK_ROWS = before
    assert seen == Order(1100, 2, shuffle).rows(np.arange(start, start + len(seen))).tolist()


@pytest.mark.parametrize(("batch_size", "world", "epochs"), [(7, 1, 1), (16, 3, 2), (1000, 2, 1)])
def test_the_last_step_of_the_last_epoch_is_filled_with_eod_on_every_rank(corpus, batch_size, world, epochs):
    ranks = [
        list(corpus.batches("train", batch_size, seed=3, rank=rank, world=world, epochs=epochs))
        for rank in range(world)
    ]
    total = 1100 * epochs
    assert {len(batches) for batches in ranks} == {-(-total // (batch_size * world))}
    rows = np.concatenate([batch for step in zip(*ranks, strict=True) for batch in step])
    assert np.array_equal(rows[:total], ROWS[global_order(total, 3)]) and (rows[total:] == EOD).all()
    assert rows.dtype == np.int32 and len(rows) > total


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.integers(0, 2**64 - 1), st.integers(0, 50))
def test_the_permutation_takes_every_number_once(total, seed, epoch):
    assert sorted(permuted(np.arange(total), total, seed, epoch).tolist()) == list(range(total))


@pytest.mark.parametrize("total", [2**16, 2**16 + 1, 1_000_003])
def test_a_large_permutation_takes_every_number_once_and_looks_shuffled(total):
    result = permuted(np.arange(total), total, 7, 0)
    assert np.array_equal(np.sort(result), np.arange(total))
    other = permuted(np.arange(total), total, 7, 1)
    for values in (result, np.argsort(result), result[other]):
        assert (values == np.arange(total)).sum() < 10
        assert (np.abs(np.diff(values)) < 100).mean() < 300 / total
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 5 / total**0.5
        assert abs(np.corrcoef(values, np.arange(total))[0, 1]) < 5 / total**0.5
        tenths = np.bincount(values[: total // 10] * 10 // total, minlength=10)
        assert np.abs(tenths - total / 100).max() < 5 * (total / 100) ** 0.5


def test_a_billion_rows_need_no_array():
    places = np.array([0, 1, 10**9, 2**40 - 1])
    assert len(set(permuted(places, 2**40, 3, 5).tolist())) == 4
    assert Order(2**40, 3).rows(places + 2**41).max() < 2**40


def test_all_orders_of_a_few_rows_occur_about_as_often():
    total, epochs = 4, 1200
    orders = [tuple(permuted(np.arange(total), total, 1, epoch).tolist()) for epoch in range(epochs)]
    counts = np.array([orders.count(order) for order in itertools.permutations(range(total))])
    expected = epochs / 24
    assert ((counts - expected) ** 2 / expected).sum() < 49.7  # chi-square, 23 degrees of freedom, p = 0.001


def test_the_order_of_a_run_is_what_it_was():
    first, second = [6, 4, 7, 0, 1, 9, 5, 3, 8, 2], [6, 5, 2, 8, 7, 1, 3, 0, 4, 9]
    assert Order(10, 1).rows(np.arange(20)).tolist() == first + second


def test_a_shard_is_the_same_bytes_wherever_and_however_often_it_is_written(tmp_path):
    rows = make_rows(2500)
    one = write_shard(rows, tmp_path / "a" / "shards", "train", 3)
    other = write_shard(lambda: rows, tmp_path / "b" / "deeper" / "shards", "train", 3)
    assert one == other and one["rows"] == 2500 and one["split"] == "train"
    assert sorted(path.name for path in (tmp_path / "a" / "shards").iterdir()) == [
        "train-00003.mindrecord", "train-00003.mindrecord.crc32", "train-00003.mindrecord.db"
    ]  # fmt: skip
    assert all(one[key]["file"].startswith("shards/train-00003") for key in ("index", "checksums"))

    def never() -> np.ndarray:
        raise AssertionError("a shard that is there was made again")

    assert write_shard(never, tmp_path / "a" / "shards", "train", 3) == one


def test_a_kill_before_any_rename_leaves_no_shard_and_the_next_writer_makes_the_same(tmp_path, monkeypatch):
    rows, replace = make_rows(50), os.replace
    states: list[Path] = []

    def observed(*names: Path) -> None:
        states.append(Path(shutil.copytree(tmp_path / "whole", tmp_path / str(len(states)))))
        replace(*names)

    monkeypatch.setattr(os, "replace", observed)
    entry = write_shard(rows, tmp_path / "whole" / "shards", "train", 0)
    monkeypatch.undo()
    assert len(states) == 6
    for state in states:
        assert not (state / "shards" / "train-00000.mindrecord").exists()
        assert write_shard(rows, state / "shards", "train", 0) == entry
        assert len(list((state / "shards").iterdir())) == 3


def test_shards_of_many_pages_keep_their_order(tmp_path):
    rows = np.random.default_rng(0).integers(0, 2**31 - 1, (3000, 1025), dtype=np.int32)  # 12 MB, pages of 4 MB
    entry = write_shard(rows, tmp_path / "shards", "train", 0)
    assert np.array_equal(shards.read_rows(tmp_path, entry, np.arange(3000)), rows)
    some = np.arange(7, 3000, 131)
    assert np.array_equal(shards.read_rows(tmp_path, entry, some), rows[some])


def altered(path: Path, places: Iterator[int]) -> None:
    changed = bytearray(path.read_bytes())
    for place in places:
        changed[place] ^= 1
    path.write_bytes(changed)


def test_an_altered_row_is_never_handed_out_though_only_sizes_were_checked(copied):
    path = copied / "shards" / "train-00001.mindrecord"
    places = [place for place, byte in enumerate(path.read_bytes()) if byte and place >= shards.HEADER_BYTES]
    altered(path, iter([places[len(places) // 2]]))
    corpus = Corpus.open(copied, check="sizes")
    with pytest.raises(UserError, match="train-00001.mindrecord: (CRC-32 of row|cannot be read)"):
        list(corpus.batches("train", 50, seed=1, epochs=1))
    assert numbers(take(corpus, 5, batch_size=50, seed=1, shuffle=False)) == list(range(250))
    for check in ("auto", "full"):
        with pytest.raises(UserError, match="train-00001.mindrecord: SHA-256 differs"):
            Corpus.open(copied, check=check)


def test_large_corpora_are_opened_by_their_sizes(copied, monkeypatch):
    path = copied / "shards" / "train-00000.mindrecord.crc32"
    altered(path, iter([5]))
    with pytest.raises(UserError, match="train-00000.mindrecord.crc32: SHA-256 differs"):
        Corpus.open(copied)
    monkeypatch.setattr(mindrecord, "HASHED_BYTES", 1000)
    Corpus.open(copied)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="train-00000.mindrecord.crc32: has 0 bytes"):
        Corpus.open(copied)


@pytest.mark.parametrize(("end", "place"), [("", 300), (".db", 4096), (".crc32", 5)])
def test_a_broken_frame_of_a_shard_is_named_before_mindspore_sees_it(copied, end, place):
    altered(copied / "shards" / f"train-00000.mindrecord{end}", iter([place]))
    corpus = Corpus.open(copied, check="sizes")
    with pytest.raises(UserError, match=rf"train-00000.mindrecord{end}: SHA-256 (of its header )?differs"):
        take(corpus, 1, batch_size=2, seed=0, shuffle=False)


@pytest.mark.parametrize("seed", range(20))
def test_rows_of_a_damaged_shard_are_right_or_refused(copied, seed):
    path = copied / "shards" / "train-00000.mindrecord"
    raw = np.frombuffer(path.read_bytes(), np.uint8)
    used = np.flatnonzero(raw[shards.HEADER_BYTES :]) + shards.HEADER_BYTES
    altered(path, iter(np.random.default_rng(seed).choice(used, 1 + 7 * (seed % 2), replace=False).tolist()))
    entry = json.loads((copied / "manifest.json").read_text())["shards"][0]
    try:
        rows = shards.read_rows(copied, entry, np.arange(300))
    except UserError as error:
        assert "train-00000.mindrecord: " in str(error)
    else:
        assert np.array_equal(rows, ROWS[:300])


def test_a_whole_corpus_has_no_problems(folder):
    assert list(verify(folder)) == []


def test_verify_names_every_problem(copied):
    altered(copied / "shards" / "train-00000.mindrecord.db", iter([4096]))
    (copied / "shards" / "train-00001.mindrecord").unlink()
    (copied / "shards" / "train-00009.mindrecord").write_text("left over")
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["splits"]["train"].update(rows=5, documents=7)
    manifest["tokenizer"]["vocab_size"] = 100
    write_json(copied / "manifest.json", manifest)
    problems = "\n".join(verify(copied))
    assert "train-00000.mindrecord.db: SHA-256 differs" in problems
    assert "train-00001.mindrecord: missing" in problems
    assert "train-00009.mindrecord: not in the manifest" in problems
    assert "train-00002.mindrecord: row 0 holds id" in problems and "the tokenizer has 100" in problems
    assert "splits.train.rows=5, its shards have 1100" in problems
    assert "splits.train.documents=7, its files hold 3" in problems
    assert len(problems.splitlines()) == 7  # train-00003 holds such ids, too


def test_verify_reads_what_sizes_and_hashes_do_not_show(copied):
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["shards"][0]["rows"] = 299
    shard, checksums = manifest["shards"][1], copied / manifest["shards"][1]["checksums"]["file"]
    altered(checksums, iter([4 * 17]))
    shard["checksums"].update(file_entry(checksums, copied))
    write_json(copied / "manifest.json", manifest)
    problems = "\n".join(verify(copied))
    assert "train-00000.mindrecord: has 300 rows, the manifest says 299" in problems
    assert "train-00001.mindrecord: CRC-32 of row 17 is not the one written" in problems
    assert "splits.train.rows=1100, its shards have 1099" in problems
