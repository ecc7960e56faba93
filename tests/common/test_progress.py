"""Progress: plain lines where nobody watches, a bar on a terminal."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from mindgeex.common import progress as module
from mindgeex.common.progress import progress


def test_plain_lines_say_how_far_and_how_long(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLAIN_INTERVAL_S", 0.0)
    with progress("train", total=4, done=1) as bar:
        bar.advance(1, note="loss 2.5")
        bar.advance(2)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["train: 2/4 in 0 s, 0 s left loss 2.5", "train: 4/4 in 0 s, 0 s left"]
    assert bar.done == 4


def test_what_was_done_before_does_not_make_the_rest_look_quick(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress("train", total=1000, done=900) as bar:
        monkeypatch.setattr(bar, "_start", bar._start - 50)
        monkeypatch.setattr(bar, "_last", bar._last - 50)
        bar.advance(5)
    assert capfd.readouterr().err == "train: 905/1000 in 50 s, 950 s left\n"


def test_without_a_total_only_the_count_is_said(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLAIN_INTERVAL_S", 0.0)
    with progress("read") as bar:
        bar.advance(7)
    assert capfd.readouterr().err == "read: 7 in 0 s\n"


def test_lines_keep_their_distance(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("read", total=1000) as bar:
        for _ in range(1000):
            bar.advance()
    assert capfd.readouterr().err == "" and bar.done == 1000


def test_a_terminal_gets_a_bar_with_the_note(tmp_path: Path) -> None:
    script = """
from mindgeex.common.progress import progress
with progress("train", total=4, done=1) as bar:
    bar.advance(3, note="loss 2.5")
"""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    subprocess.run([sys.executable, "-c", script], stderr=theirs, env=environment, check=True, cwd=tmp_path)
    os.close(theirs)
    text = b""
    try:
        while block := os.read(ours, 65536):
            text += block
    except OSError:  # the other side is closed
        pass
    os.close(ours)
    assert b"train" in text and b"4/4" in text and b"100%" in text and b"loss 2.5" in text
