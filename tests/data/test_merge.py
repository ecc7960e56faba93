import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mindgeex.common.errors import UserError
from mindgeex.common.files import write_json
from mindgeex.data.document import file_entry
from mindgeex.data.merge import added, agreed, merge
from mindgeex.data.mindrecord import Corpus, verify
from tests.data.test_loader import make_corpus, make_rows


def counts(train: int, **more) -> dict:
    return {
        "documents": {"in": 10 * train, "kept": train, "dropped": {"too_small": train}, "examples": {}},
        "licences": {"MIT": train},
        "duplicates": {
            "groups": 1,
            "copies": train,
            "largest": [{"kept": f"{train}", "copies": train, "examples": []}],
        },
        **more,
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("two")
    mixture = {"target_tokens": 100, "tokens": 90, "short": ["Go"], "groups": {
        "Go": {"share": 1.0, "available_tokens": 45, "wanted_tokens": 100, "tokens": 90, "epochs": 2.0}}}  # fmt: skip
    one = make_corpus(root / "one", make_rows(250, seed=1), 100, 3, **counts(3, mixture=mixture))
    other = make_corpus(
        root / "other", make_rows(120, seed=2), 100, 4, **counts(4, mixture=mixture, sample=[{"path": "a"}])
    )
    return one, other


@pytest.fixture
def merged(two, tmp_path) -> Path:
    merge(two, tmp_path / "merged")
    return tmp_path / "merged"


def rows_of(folder: Path) -> np.ndarray:
    corpus = Corpus.open(folder)
    batches = corpus.batches("train", 10, seed=1, shuffle=False, epochs=1)
    return np.concatenate(list(batches))[: corpus.num_rows("train")]


def change(folder: Path, **keys) -> Path:
    manifest = json.loads((folder / "manifest.json").read_text())
    for key, value in keys.items():
        *outer, last = key.split("__")
        inner = manifest
        for name in outer:
            inner = inner[name]
        inner[last] = value
    write_json(folder / "manifest.json", manifest)
    return folder


def test_a_merged_corpus_is_whole_and_holds_the_rows_and_documents_of_both(two, merged):
    assert list(verify(merged)) == []
    assert np.array_equal(rows_of(merged), np.concatenate([rows_of(folder) for folder in two]))
    texts = [[document.text for document in Corpus.open(folder).documents("train")] for folder in (*two, merged)]
    assert texts[2] == texts[0] + texts[1] and len(texts[2]) == 7
    assert (merged / "report.html").is_file()


def test_files_are_linked_and_the_corpora_stay_as_they_were(two, merged):
    for number, folder in enumerate(two):
        for path in (folder / "shards").iterdir():
            assert os.path.samefile(path, merged / "shards" / f"{number:04d}" / path.name)
        assert list(verify(folder)) == []


def test_counts_are_added_and_each_corpus_is_remembered(two, merged):
    manifest = json.loads((merged / "manifest.json").read_text())
    assert manifest["documents"]["in"] == 70 and manifest["documents"]["dropped"] == {"too_small": 7}
    assert manifest["splits"]["train"] == {"rows": 370, "documents": 7, "bytes": 80, "tokens": 40}
    assert manifest["tokenizer"]["vocab_size"] == 50_000 and manifest["tokenizer"]["bytes_per_token"] == 2.0
    assert manifest["duplicates"]["largest"][0] == {"kept": "4", "copies": 4, "examples": []}
    assert "sources" not in manifest["config"] and manifest["config"]["seq_length"] == 8
    assert [(each["name"], each["rows"], each["config"]["sources"]) for each in manifest["merged_from"]] == [
        ("one", {"train": 250}, ["one"]), ("other", {"train": 120}, ["other"])
    ]  # fmt: skip
    assert manifest["merged_from"][0]["fingerprint"] == Corpus.open(two[0]).fingerprint
    assert manifest["sample"] == [{"path": "a"}]
    assert manifest["mixture"]["groups"]["Go"] == {
        "share": 1.0, "available_tokens": 90, "wanted_tokens": 200, "tokens": 180, "epochs": 2.0
    }  # fmt: skip


def test_a_merged_corpus_can_be_merged_again(two, merged, tmp_path):
    third = make_corpus(tmp_path / "third", make_rows(30, seed=3), 100, **counts(1))
    manifest = merge([third, merged], tmp_path / "more")
    assert list(verify(tmp_path / "more")) == []
    assert np.array_equal(rows_of(tmp_path / "more"), np.concatenate([rows_of(third), rows_of(merged)]))
    assert [each["name"] for each in manifest["merged_from"][1]["merged_from"]] == ["one", "other"]
    assert manifest["mixture"] == {}


def test_lists_of_benchmark_hits_are_joined(two, tmp_path):
    folders = [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in two]
    for number, folder in enumerate(folders):
        (folder / "decontamination.jsonl").write_text(f'{{"hit": {number}}}\n')
        entry = file_entry(folder / "decontamination.jsonl", folder)
        change(folder, decontamination={"benchmarks": {"HumanEval": 164}, "hits": 1, "list": entry})
    about = merge(folders, tmp_path / "merged")["decontamination"]
    assert (about["benchmarks"], about["hits"]) == ({"HumanEval": 164}, 2)
    assert (tmp_path / "merged" / about["list"]["file"]).read_text() == '{"hit": 0}\n{"hit": 1}\n'
    assert list(verify(tmp_path / "merged")) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config__seq_length", 16), ("config__rows__packing", "windows"), ("tokenizer__fingerprint", "other"),
        ("config__rows__pad_id", 3),
    ],
)  # fmt: skip
def test_corpora_that_differ_are_refused_with_the_key(two, tmp_path, key, value):
    other = change(Path(shutil.copytree(two[1], tmp_path / "other")), **{key: value})
    with pytest.raises(UserError, match=rf"other: {key.replace('__', '.')}={value}, but .*one has"):
        merge([two[0], other], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_corpus_named_twice_a_single_one_and_a_folder_in_the_way_are_refused(two, tmp_path):
    with pytest.raises(UserError, match="one: named twice"):
        merge([two[0], two[1], two[1].parent / "." / "one"], tmp_path / "merged")
    with pytest.raises(UserError, match="name at least two"):
        merge([two[0]], tmp_path / "merged")
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError, match="is there already"):
        merge(two, tmp_path)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_corpus_that_lacks_a_file_is_not_merged(two, tmp_path):
    other = Path(shutil.copytree(two[1], tmp_path / "other"))
    (other / "documents" / "train-00000.jsonl.zst").unlink()
    with pytest.raises(UserError, match="train-00000.jsonl.zst: missing"):
        merge([two[0], other], tmp_path / "merged")
    assert not (tmp_path / "merged").exists() and not list(tmp_path.glob("*.partial"))


def test_numbers_histograms_and_words_are_added_and_what_differs_is_left_out():
    one = {"a": 1, "b": [1, 2], "c": ["x", "y"], "d": {"e": 1.5}, "f": "same", "g": True}
    other = {"a": 2, "b": [10, 20], "c": ["y", "w"], "d": {"e": 1, "h": 4}, "f": "same", "g": True}
    assert added([one, other]) == {
        "a": 3, "b": [11, 22], "c": ["w", "x", "y"], "d": {"e": 2.5, "h": 4}, "f": "same", "g": True
    }  # fmt: skip
    assert added([{"a": [1]}, {"a": [1, 2]}]) == {"a": [1, 1, 2]}
    assert agreed([{"a": 1, "b": {"c": 1, "d": 2}}, {"a": 2, "b": {"c": 1, "d": 3}}]) == {"b": {"c": 1}}
