"""`mindgeex eval run`, as typed."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mindgeex.eval.benchmarks import BENCHMARKS
from mindgeex.eval.benchmarks.source import SHIPPED

pytestmark = [pytest.mark.toolchain, pytest.mark.usefixtures("sandbox")]


def mindgeex(*words: object, path: str | None = None, command: str = "run") -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **({} if path is None else {"PATH": path})}
    line = [sys.executable, "-m", "mindgeex.cli.main", "eval", command, *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, env=environment, check=False)


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
    for tool in ("bwrap", "prlimit"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    refused(mindgeex(*words, path=str(tmp_path)), "C++ needs 'g++'", "apt-get install g++")
    assert not (tmp_path / "out").exists()


def test_the_whole_benchmark_in_python_passes(reference_data, tmp_path):
    data = reference_data / "benchmarks" / "humaneval-x"
    done = mindgeex("humaneval-x", "--data", data, "--languages", "python", "--canonical", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("python: 164/164 canonical solutions pass\n")


def test_completions_from_a_file_are_scored_and_two_runs_compared(tmp_path):
    rows = [json.loads(line) for line in (SHIPPED / "humaneval_python.jsonl").read_text().splitlines()]
    lines = [{"task_id": row["task_id"], "generation": row["canonical_solution"]} for row in rows]
    for name, kept in (("a", lines), ("b", lines[:3])):
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept))
        words = ("--generations", tmp_path / f"{name}.jsonl.gz", "--rules", "codegeex", "--out", tmp_path / name)
        done = mindgeex("humaneval-x", *words)
        assert done.returncode == 0, done.stderr
        assert f"pass@1 = {100.0 if name == 'a' else 50.0}" in done.stdout
    assert "3 tasks have no generation and count as unsolved: Python/3, Python/4, Python/5" in done.stdout
    (tmp_path / "a" / "report.html").unlink()
    reported = mindgeex(tmp_path / "a", command="report")
    assert "pass@1 = 100.0" in reported.stdout, reported.stderr
    assert (tmp_path / "a" / "report.html").stat().st_size > 10_000
    refused(mindgeex(tmp_path, command="report"), "holds no run.json")
    compared = mindgeex(tmp_path / "a", tmp_path / "b", "--out", tmp_path / "page.html", command="compare")
    assert compared.stdout.startswith("pass@1, kept by codegeex: 100.0 -> 50.0 (-50.0 ± "), compared.stderr
    assert "worse: Python/3, Python/4, Python/5" in compared.stdout
    assert compared.stdout.endswith(f"comparison: {tmp_path / 'page.html'}\n")
    assert "<h2>Who solves what</h2>" in (tmp_path / "page.html").read_text()
    refused(mindgeex(tmp_path / "a", tmp_path, command="compare"), "holds no run.json", "mindgeex eval run")
    refused(mindgeex(tmp_path / "a", tmp_path / "b", "--out", tmp_path, command="compare"), str(tmp_path))
    words = ("--generations", tmp_path / "a.jsonl.gz", "--out", tmp_path / "c")
    refused(
        mindgeex("humaneval-x", "--rules", "codgeex", *words), "no post-processing 'codgeex'", "did you mean 'codegeex'"
    )


def test_benchmarks_are_listed():
    listed = mindgeex(command="list")
    assert listed.returncode == 0, listed.stderr
    for name in BENCHMARKS:
        assert f"{name}: " in listed.stdout


def test_the_doctor_names_what_a_language_lacks_with_its_package(tmp_path):
    well = mindgeex("--languages", "python", command="doctor")
    assert well.returncode == 0, well.stdout + well.stderr
    assert "as nobody" in well.stdout or "as the calling user" in well.stdout
    assert "passes in the sandbox" in well.stdout and "Rust" not in well.stdout
    for tool in ("bwrap", "prlimit"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    ill = mindgeex("--languages", "python", "rust", command="doctor", path=str(tmp_path))
    assert ill.returncode == 1, ill.stdout + ill.stderr
    [python, rust] = [line for line in ill.stdout.splitlines() if "evaluate Python" in line or "evaluate Rust" in line]
    assert " ok " in python and " missing " in rust and "apt-get install rustc" in rust
    refused(mindgeex("--languages", "perl", command="doctor"), "unknown language 'perl'")
