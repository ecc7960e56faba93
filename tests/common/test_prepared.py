"""What is compiled is made once, whole or not at all, and again when what it depends on changes."""

import subprocess
import sys
import time

import pytest

from mindgeex.common import prepared as module
from mindgeex.common.errors import UserError
from mindgeex.common.prepared import build, prepared

MAKER = """
import sys, time
from pathlib import Path
from mindgeex.common.prepared import prepared

def make(folder):
    (Path(sys.argv[1]) / f"begun-{sys.argv[2]}").touch()
    while len(list(Path(sys.argv[1]).glob("begun-*"))) < 2:
        time.sleep(0.01)
    (folder / "maker").write_text(sys.argv[2])

print(prepared("thing", ["source"], make, Path(sys.argv[1]) / "cache"))
"""


def test_a_thing_is_made_once_and_anew_when_what_it_depends_on_changes(tmp_path):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "thing").write_text(str(len(made)))

    first = prepared("thing", ["g++ 12", "-O3"], make, tmp_path / "cache")
    assert prepared("thing", ["g++ 12", "-O3"], make, tmp_path / "cache") == first
    assert len(made) == 1
    other = prepared("thing", ["g++ 13", "-O3"], make, tmp_path / "cache")
    assert [(folder / "thing").read_text() for folder in (first, other)] == ["1", "2"]
    assert sorted((tmp_path / "cache").iterdir()) == sorted([first, other])


def test_what_cannot_be_made_leaves_nothing(tmp_path):
    def make(folder):
        (folder / "half").write_text("")
        raise UserError("no compiler")

    with pytest.raises(UserError, match="no compiler"):
        prepared("thing", [], make, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_processes_that_make_it_at_once_publish_one(tmp_path):
    command = [sys.executable, "-c", MAKER, str(tmp_path)]
    runs = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in ("a", "b")]
    said = {run.communicate(timeout=60)[0].strip() for run in runs}
    assert [run.returncode for run in runs] == [0, 0]
    assert said == {str(path) for path in (tmp_path / "cache").iterdir()}
    assert len(said) == 1


def test_nowhere_to_write_and_no_home_are_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        prepared("thing", [], lambda folder: None, tmp_path / "file")

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(module.Path, "home", homeless)
    with pytest.raises(UserError, match="set HOME"):
        prepared("thing", [], lambda folder: None)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["sh", "-c", "echo warning: old >&2; echo a.cc:1: error: no such thing >&2; exit 1"], "error: no such thing"),
        (["sh", "-c", "exit 3"], "exit code 3"),
        (["no-such-compiler"], "'no-such-compiler' does not work"),
        (["sh", "-c", "exec sleep 60"], "timed out"),
    ],
)
def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch, command, words):
    monkeypatch.setattr(module, "TIMEOUT_S", 0.5)
    began = time.monotonic()
    with pytest.raises(UserError, match=words):
        build(command, tmp_path)
    assert time.monotonic() - began < 30


def test_what_a_compiler_says_is_returned(tmp_path):
    assert build(["pwd"], tmp_path).strip() == str(tmp_path)
