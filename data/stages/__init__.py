"""The stages of a build. Each turns the files of the one before into files of its own, task by task, on any worker.

A task whose files are there is not done again; that is how a killed build goes on. What a task writes depends on the
task alone, so neither the order of tasks nor who does them shows in the corpus.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from mindgeex.common.progress import progress
from mindgeex.data.engines import Engine, Task

T = TypeVar("T")

_kept: list[Any] = []


def kept_by_worker(function: Callable[[Path], T]) -> Callable[[Path], T]:
    """Decorates what reads a file of the build: a worker that needs the same one again does not read it again."""
    cached = functools.lru_cache(maxsize=1)(function)
    _kept.append(cached)
    return cached


def forget() -> None:
    """Lets go of it: the next build in this process may have other files of the same names."""
    for cached in _kept:
        cached.cache_clear()


def run_stage(
    engine: Engine,
    function: Callable[[Any], Any],
    tasks: Iterable[Task],
    title: str,
    total: float | None = None,
    units: Callable[[int], float] = lambda number: 1,
    note: Callable[[Any], str] = lambda result: "",
) -> Iterator[Any]:
    """The results of a stage's tasks, in order, behind a progress bar.

    Args:
        engine: who does the tasks.
        function: does one; it finds out itself whether the task was done before.
        tasks: all of them.
        title: of the bar.
        total: of the bar, in units; None where it is not known.
        units: how far the task of this number moves the bar.
        note: from a result, what the bar shows behind its numbers.
    """
    with progress(title, total) as bar:
        for number, result in enumerate(engine.map(function, tasks)):
            bar.advance(units(number), note(result))
            yield result
