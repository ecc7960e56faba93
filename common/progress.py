"""One progress bar for every long stage, on standard error; plain lines where there is no terminal.

The speed, and the time left by it, are those of the last minute: what a resumed stage finds done is soon forgotten.
"""

import collections
import contextlib
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

PLAIN_INTERVAL_S = 10.0
"""Seconds between two lines where standard error is not a terminal."""

SPEED_LINES = 6
"""The speed in a line is that since so many lines before."""


class Bar:
    """Counts the units done in one stage. Made by `progress`."""

    def __init__(self, title: str, total: float | None, done: float, bar: Progress | None):
        self.title, self.total, self.done = title, total, done
        self._bar = bar
        self._task = bar.add_task(title, total=total, completed=int(done), note="") if bar else None
        self._start = self._last = time.monotonic()
        self._marks = collections.deque([(self._start, done)], SPEED_LINES)

    def advance(self, units: float = 1, note: str = "") -> None:
        """Adds `units`; `note` is a short text shown behind the bar, such as the loss."""
        self.done += units
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done)
            if note:
                self._bar.update(self._task, note=note)
        elif time.monotonic() - self._last >= PLAIN_INTERVAL_S:
            self._last = time.monotonic()
            self._print_line(note)

    def _print_line(self, note: str) -> None:
        before, done_before = self._marks[0]
        self._marks.append((self._last, self.done))
        total = f"/{self.total:.0f}" if self.total else ""
        speed = (self.done - done_before) / max(self._last - before, 1e-9)
        left = f", {_duration((self.total - self.done) / speed)} left" if self.total and speed > 0 else ""
        took = _duration(self._last - self._start)
        line = f"{self.title}: {self.done:.0f}{total} in {took}, {speed:,.1f}/s{left} {note}"
        print(line.rstrip(), file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.1f}/s" if task.speed else "")


@contextlib.contextmanager
def progress(title: str, total: float | None = None, done: float = 0) -> Iterator[Bar]:
    """A progress bar for the block. `done` units of `total` are already behind us (a resumed stage)."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Bar(title, total, done, None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn(), _Speed())
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console) as rich_bar:
        yield Bar(title, total, done, rich_bar)
