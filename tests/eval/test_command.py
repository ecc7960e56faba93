"""`mindgeex eval run`, as typed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mindgeex.eval.benchmarks.source import SHIPPED

pytestmark = [pytest.mark.toolchain, pytest.mark.usefixtures("sandbox")]


def mindgeex(*words: object, path: str | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **({} if path is None else {"PATH": path})}
    command = [sys.executable, "-m", "mindgeex.cli.main", "eval", "run", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def refused(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    assert done.returncode == 2, done
    message = done.stderr.strip()
    assert message.startswith("mindgeex: ") and "\n" not in message
    for word in words:
        assert word in message


def test_the_shipped_problems_pass_and_a_page_is_written(tmp_path):
    done = mindgeex("humaneval-x", "--languages", "python", "js", "--canonical", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        "python: 6/6 canonical solutions pass",
        "javascript: 6/6 canonical solutions pass",
    ]
    assert Path(done.stdout.splitlines()[-1].removeprefix("report: ")).is_file()
    assert json.loads((tmp_path / "score.json").read_text())["scores"]["python"]["canonical"] == {"passed": 6, "of": 6}


def test_a_wrong_canonical_solution_is_named_and_ends_with_code_1(tmp_path):
    lines = (SHIPPED / "humaneval_python.jsonl").read_text().splitlines()
    row = {**json.loads(lines[0]), "canonical_solution": "    return None\n"}
    (tmp_path / "humaneval_python.jsonl").write_text("\n".join([json.dumps(row), *lines[1:]]))
    done = mindgeex("humaneval-x", "--data", tmp_path, "--canonical", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "python: 5/6 canonical solutions pass" in done.stdout
    assert "left out: Python/0: wrong answer: AssertionError" in done.stdout


def test_bad_input_is_one_line_with_the_remedy(tmp_path):
    refused(mindgeex("humaneval-x", "--out", tmp_path), "--checkpoint", "--canonical")
    refused(mindgeex("humaneval-x", "--canonical", "--data", tmp_path / "no", "--out", tmp_path), "no such folder")
    refused(mindgeex("humaneval-x", "--canonical", "--languages", "perl", "--out", tmp_path), "unknown language 'perl'")
    refused(mindgeex("humaneval-x", "--canonical", "--num-samples", 0, "--out", tmp_path), "--num-samples 0")
    refused(mindgeex("humaneval-x", "--canonical", "--workers", -1, "--out", tmp_path), "--workers -1")
    (tmp_path / "humaneval_go.jsonl").write_text("{}\n")
    words = ("--canonical", "--languages", "go", "--data", tmp_path, "--out", tmp_path / "out")
    refused(mindgeex("humaneval-x", *words), "humaneval_go.jsonl, line 1: key 'task_id'")


def test_without_tools_the_package_is_named(tmp_path):
    words = ("humaneval-x", "--canonical", "--languages", "cpp", "--out", tmp_path / "out")
    refused(mindgeex(*words, path=""), "apt-get install bubblewrap")
    for tool in ("bwrap", "prlimit", "setpriv", "nsenter"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    refused(mindgeex(*words, path=str(tmp_path)), "C++ needs 'g++'", "apt-get install g++")
    assert not (tmp_path / "out").exists()


def test_the_whole_benchmark_in_python_passes(reference_data, tmp_path):
    data = reference_data / "benchmarks" / "humaneval-x"
    done = mindgeex("humaneval-x", "--data", data, "--languages", "python", "--canonical", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("python: 164/164 canonical solutions pass\n")
