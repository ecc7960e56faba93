"""Completions from a file: read, matched with tasks, and everything odd about them said."""

import gzip
import json
from pathlib import Path

import pytest

from mindgeex.common.errors import UserError
from mindgeex.eval import generations
from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.benchmarks.translation import TRANSLATION
from mindgeex.eval.reports.scores import figures, tally
from mindgeex.eval.runner import run

PROBLEMS = HUMANEVAL_X.load().problems


def write(path: Path, rows: list[object], packed: bool = False) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    return path


def rows(count: int = 1) -> list[object]:
    return [{"task_id": p.task_id, "generation": p.canonical_solution} for p in PROBLEMS for _ in range(count)]


@pytest.mark.parametrize("packed", [False, True])
def test_samples_of_a_task_are_its_lines_plain_or_packed_whatever_the_name(tmp_path, packed):
    found = generations.read(write(tmp_path / "generations.txt", rows(3), packed), PROBLEMS)
    assert found.num_samples == 3
    assert found.completions["Python/4"] == [PROBLEMS[4].canonical_solution] * 3
    assert found.warnings == ()
    assert len(str(found.description["sha256"])) == 64


def test_unknown_missing_repeated_and_fewer_are_said(tmp_path):
    lines = [
        {"task_id": "Python/0", "generation": "a", "completion_id": 0},
        {"task_id": "Python/0", "generation": "b", "completion_id": 1},
        {"task_id": "Python/0", "generation": "c", "completion_id": 1},
        {"task_id": "Python/1", "completion": "d"},
        {"task_id": "Python/999", "generation": "e"},
    ]
    found = generations.read(write(tmp_path / "g.jsonl", lines), PROBLEMS)
    assert found.completions["Python/0"] == ["a", "b"]
    assert found.completions["Python/1"] == ["d"]
    unknown, missing, repeated, fewer = found.warnings
    assert "1 tasks that the benchmark does not have" in unknown and "Python/999" in unknown
    assert "4 tasks have no generation and count as unsolved: Python/2, Python/3, Python/4, Python/5" in missing
    assert "1 tasks have the same completion_id again" in repeated and "Python/0" in repeated
    assert "1 tasks have fewer than 2 generations: Python/1" in fewer
    assert found.description["missing"] == ["Python/2", "Python/3", "Python/4", "Python/5"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"{broken\n", "line 1: not valid JSON"),
        (b"[1]\n", "line 1: expected an object with the keys task_id and generation"),
        (b'{"task_id": "Python/0", "generation": null}\n', "line 1: key 'generation' is missing or not a text"),
        (b'{"task_id": "Rust/0", "generation": ""}\n', "such as 'Rust/0'; its tasks have names like 'Python/0'"),
        (b"\x1f\x8b damaged", "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_named_with_its_line(tmp_path, content, message):
    (tmp_path / "g.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message):
        generations.read(tmp_path / "g.jsonl", PROBLEMS)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="No such file or directory: --generations wants"):
        generations.read(tmp_path / "none", PROBLEMS)


def test_a_translation_is_known_by_its_source_or_its_target(tmp_path):
    problems = TRANSLATION.load(["python-go"]).problems
    lines = [{"task_id": "Python/0", "generation": "a"}, {"task_id": "Go/1", "generation": "b"}]
    found = generations.read(write(tmp_path / "g.jsonl", lines), problems)
    assert found.completions["python-go/0"] == ["a"]
    assert found.completions["python-go/1"] == ["b"]
    two = TRANSLATION.load(["python-go", "python-java"]).problems
    with pytest.raises(UserError, match="such as 'Python/0'"):
        generations.read(write(tmp_path / "g.jsonl", lines[:1]), two)


@pytest.mark.toolchain
@pytest.mark.usefixtures("sandbox")
def test_a_task_without_generations_counts_as_unsolved(tmp_path):
    path = write(tmp_path / "g.jsonl", rows()[:3] + rows()[:2])
    done = run(
        HUMANEVAL_X,
        HUMANEVAL_X.load(),
        tmp_path / "out",
        generations=generations.read(path, PROBLEMS),
        rules=["codegeex"],
    )
    assert figures(done, "python")["pass@1"].mean == 0.5
    assert tally(done, "codegeex")["Python/0"] == (2.0, 2)
    assert tally(done, "codegeex")["Python/5"] == (0.0, 0)
    assert done.settings["model"]["generations"] == str(path)
