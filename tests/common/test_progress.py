"""Progress: plain lines where nobody watches, a bar on a terminal."""

import collections
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from mindgeex.common import progress as module
from mindgeex.common.progress import Bar, progress


def test_plain_lines_say_how_far_and_how_long(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress("train", total=4000, done=1000) as bar:
        wait(bar, monkeypatch, 10)
        bar.advance(1000, note="loss 2.5")
        wait(bar, monkeypatch, 790)
        bar.advance(600)
    out, err = capfd.readouterr()
    assert out == ""
    lines = ["train: 2000/4000 in 10 s, 100.0/s, 20 s left loss 2.5", "train: 2600/4000 in 13 min, 2.0/s, 12 min left"]
    assert err.splitlines() == lines
    assert bar.done == 2600


def wait(bar: Bar, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(bar, "_start", bar._start - seconds)
    monkeypatch.setattr(bar, "_last", bar._last - seconds)
    bar._marks = collections.deque([(when - seconds, done) for when, done in bar._marks], module.SPEED_LINES)


def test_what_a_resumed_stage_found_done_is_soon_forgotten(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress("read", total=1000) as bar:
        wait(bar, monkeypatch, 10)
        bar.advance(500)
        for _ in range(module.SPEED_LINES):
            wait(bar, monkeypatch, 10)
            bar.advance(10)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "read: 500/1000 in 10 s, 50.0/s, 10 s left"
    assert lines[-1] == "read: 560/1000 in 70 s, 1.0/s, 440 s left"


def test_what_was_done_before_does_not_make_the_rest_look_quick(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress("train", total=1000, done=900) as bar:
        wait(bar, monkeypatch, 50)
        bar.advance(5)
    assert capfd.readouterr().err == "train: 905/1000 in 50 s, 0.1/s, 16 min left\n"


def test_without_a_total_only_the_count_is_said(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress("read") as bar:
        wait(bar, monkeypatch, 10)
        bar.advance(7)
    assert capfd.readouterr().err == "read: 7 in 10 s, 0.7/s\n"


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
