"""The stages of a build. Each turns the files of the one before into files of its own, task by task, on any worker.

A task whose files are there is not done again; that is how a killed build goes on. What a task writes depends on the
task alone, so neither the order of tasks nor who does them shows in the corpus.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mindgeex.common.progress import progress
from mindgeex.data.engines import Engine, Task


def run_stage(
    engine: Engine,
    function: Callable[[Any], Any],
    tasks: Sequence[Task],
    title: str,
    units: Sequence[int] | None = None,
    note: Callable[[Any], str] = lambda result: "",
) -> Iterator[Any]:
    """The results of a stage's tasks, in order, behind a progress bar.

    Args:
        engine: who does the tasks.
        function: does one; it finds out itself whether the task was done before.
        tasks: all of them.
        title: of the bar.
        units: how far each task moves the bar; one step each without it.
        note: from a result, what the bar shows behind its numbers.
    """
    with progress(title, len(tasks) if units is None else sum(units)) as bar:
        for number, result in enumerate(engine.map(function, tasks)):
            bar.advance(1 if units is None else units[number], note(result))
            yield result
