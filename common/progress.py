"""One progress bar for every long stage, on standard error; plain lines where there is no terminal."""

import contextlib
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

PLAIN_INTERVAL_S = 10.0
"""Seconds between two lines where standard error is not a terminal."""


class Bar:
    """Counts the units done in one stage. Made by `progress`."""

    def __init__(self, title: str, total: int | None, done: int, bar: Progress | None):
        self.title, self.total, self.done = title, total, done
        self._done_before = done
        self._bar = bar
        self._task = bar.add_task(title, total=total, completed=done, note="") if bar else None
        self._start = self._last = time.monotonic()

    def advance(self, units: int = 1, note: str = "") -> None:
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
        elapsed = time.monotonic() - self._start
        total = f"/{self.total}" if self.total else ""
        new = self.done - self._done_before
        left = f", {elapsed * (self.total - self.done) / new:.0f} s left" if self.total and new else ""
        print(f"{self.title}: {self.done}{total} in {elapsed:.0f} s{left} {note}".rstrip(), file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(title: str, total: int | None = None, done: int = 0) -> Iterator[Bar]:
    """A progress bar for the block. `done` units of `total` are already behind us (a resumed stage)."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Bar(title, total, done, None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console) as rich_bar:
        yield Bar(title, total, done, rich_bar)
