"""`mindgeex data`: signals, bad input, and what a damaged corpus is told to be."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mindgeex.cli.main import main
from tests.data.conftest import make_tree

Capture = pytest.CaptureFixture[str]
MINDGEEX = [sys.executable, "-m", "mindgeex.cli.main", "data"]
SETTINGS = ["--set", "seq_length=32", "tokenizer.vocab_size=400", "rows.rows_per_shard=100"]


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("code") / "code", repositories=4)


@pytest.fixture(scope="module")
def corpus(code: Path) -> Path:
    out = code.parent / "corpus"
    result = run("build", *SETTINGS, "--source", f"local:{code}", "--out", str(out), "--workers", "2")
    assert result.returncode == 0, result.stderr
    return out


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MINDGEEX, *arguments], capture_output=True, text=True, timeout=200)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("engine", "number", "said"),
    [
        ("local", signal.SIGINT, "interrupted"),
        ("local", signal.SIGTERM, "terminated"),
        pytest.param("ray", signal.SIGINT, "interrupted", marks=pytest.mark.slow),
        pytest.param("ray", signal.SIGTERM, "terminated", marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_build_in_one_line_and_the_same_command_goes_on(
    code: Path, corpus: Path, tmp_path: Path, engine: str, number: int, said: str
) -> None:
    """Ctrl-C goes to the whole process group, as a terminal sends it."""
    if engine == "ray":
        pytest.importorskip("ray", reason="no Ray here: make test EXTRAS=ray")
    out = tmp_path / "corpus"
    command = ["build", *SETTINGS, "--source", f"local:{code}", "--out", str(out), "--workers", "2"]
    process = subprocess.Popen(
        [*MINDGEEX, *command, "--engine", engine],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    parts = tmp_path / "corpus.partial" / "work" / "read"
    while not list(parts.glob("*.at")) and process.poll() is None:
        time.sleep(0.002)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert process.communicate(timeout=100) == ("", f"mindgeex: {said}\n")
    assert process.returncode == 128 + number and not out.exists()
    assert run(*command).returncode == 0
    assert contents(out) == contents(corpus)


def test_bad_input_is_one_line_and_exit_code_2(corpus: Path, tmp_path: Path, capsys: Capture) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.json").write_text("{}")
    for command, message in (
        (["stats", str(tmp_path)], "no manifest.json"),
        (["inspect", str(other)], "format is not"),
        (["inspect", str(corpus), "--start", "1000000"], "start below that"),
        (["inspect", str(corpus), "--rows", "0"], "at least one row"),
        (["verify", str(other)], "format is not"),
        (["merge", str(corpus), "--out", str(tmp_path / "new")], "at least two"),
        (["merge", str(corpus), str(corpus), "--out", str(tmp_path / "new")], "named twice"),
        (["build", "--out", str(other)], "is there and is not a corpus"),
    ):
        code = main(["data", *command])
        said = capsys.readouterr()
        assert code == 2 and said.out == "", command
        assert message in said.err and said.err.count("\n") == 1 and said.err.startswith("mindgeex: ")


def test_verify_names_every_damaged_file_and_inspect_refuses_them(
    corpus: Path, tmp_path: Path, capsys: Capture
) -> None:
    def told(*words: str) -> tuple[int, str]:
        code = main(["data", *words])
        captured = capsys.readouterr()
        return code, captured.err if code == 2 else captured.out

    assert told("verify", str(corpus)) == (0, f"{corpus}: as it was built\n")
    damaged = Path(shutil.copytree(corpus, tmp_path / "damaged"))
    shard = damaged / "shards" / "train-00000.mindrecord"
    os.truncate(shard, 100)
    (damaged / "documents" / "train-00000.jsonl.zst").unlink()
    code, said = told("verify", str(damaged))
    assert code == 1 and "2 problems" in said
    assert f"{shard}: has 100 bytes" in said and "train-00000.jsonl.zst: missing" in said
    code, said = told("inspect", str(damaged))
    assert code == 2 and said.startswith(f"mindgeex: {shard}: has 100 bytes")
    code, said = told("inspect", str(corpus), "--rows", "2", "--ids")
    assert code == 0 and "train row 1 of" in said
