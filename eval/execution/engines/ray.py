"""Programs on machines of a Ray cluster: a process there has a sandbox and toolchains of its own, and one program.

The pool of workers comes from whoever opens one (the command line takes that of data/, the same that builds corpora).
Covers: workers and nodes that die, whose programs are given to others; nodes whose tools differ from the first one's,
which are refused by name, since a verdict could depend on them. Does not cover: nodes of different speed: CPU limits
are calibrated on whichever node ran the canonical solution.
"""

import functools
import platform
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, Protocol

from mindgeex.common.errors import UserError
from mindgeex.eval.execution.engines.engine import Tools, Work, Workshop, machine
from mindgeex.eval.execution.verdict import Outcome

MAX_ATTEMPTS = 5
"""Workers that may die on one program before the run is given up."""


class Pool(Protocol):
    """Workers that take one task each, as data/ray_engine.py has them."""

    width: int
    """How many tasks may be under way."""

    def submit(self, function: Callable[[Any], Any], task: Any) -> "Future[Any]":
        """Gives a task to an idle worker."""
        ...

    def settle(self, future: "Future[Any]") -> bool:
        """Takes back the worker of a future that is done; true if the worker died."""
        ...


@dataclass(frozen=True)
class Task:
    """What a worker is given."""

    languages: tuple[str, ...]
    """Of the whole run: a worker finds all toolchains at its first task."""
    tools: Tools | None = None
    """What it has to have; None asks it what it has."""
    work: Work | None = None


class RayEngine:
    """As many programs at once as the pool is wide."""

    def __init__(self, pool: Pool):
        self.pool = pool
        self.languages: tuple[str, ...] = ()
        self.tools = Tools(None, {})
        self._machines: list[dict[str, object]] = []

    def describe(self) -> dict[str, object]:
        """See Engine."""
        return {"kind": "ray", "workers": self.pool.width}

    def prepare(self, languages: Sequence[str]) -> Tools:
        """See Engine; the answer is that of one worker."""
        self.languages = tuple(languages)
        [(_, self.tools)] = self._run([Task(self.languages)])
        return self.tools

    def execute(self, works: Sequence[Work]) -> Generator[tuple[int, Outcome], None, None]:
        """See Engine."""
        return self._run([Task(self.languages, self.tools, work) for work in works])

    def machines(self) -> list[dict[str, object]]:
        """See Engine."""
        return list(self._machines)

    def _run(self, tasks: Sequence[Task]) -> Generator[tuple[int, Any], None, None]:
        waiting = deque((place, task, 1) for place, task in enumerate(tasks))
        running: dict[Future[Any], tuple[int, Task, int]] = {}
        while waiting or running:
            while waiting and len(running) < self.pool.width:
                place, task, attempt = waiting.popleft()
                running[self.pool.submit(perform, task)] = (place, task, attempt)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                place, task, attempt = running.pop(future)
                if not self.pool.settle(future):
                    found, where = future.result()
                    if where not in self._machines:
                        self._machines.append(where)
                    yield place, found
                elif attempt < MAX_ATTEMPTS:
                    waiting.appendleft((place, task, attempt + 1))
                else:
                    raise UserError(
                        f"{MAX_ATTEMPTS} workers died one after the other on the same program (out of memory?): use "
                        "fewer --workers, or give them more memory; the same command goes on from here"
                    )


def perform(task: Task) -> tuple[Any, dict[str, object]]:
    """What a worker does: tells its tools, or executes a program; and on which machine.

    Raises:
        UserError: a tool is missing here, or differs from what the run began with.
    """
    try:
        workshop = _workshop(task.languages)
    except UserError as error:
        raise UserError(f"node {platform.node()}: {error}") from None
    if task.work is None:
        return workshop.tools, machine()
    if workshop.tools != task.tools:
        raise UserError(
            f"node {platform.node()} has other tools than the run began with ({workshop.tools}, before: {task.tools}): "
            "install the same versions on every node"
        )
    return workshop.execute(task.work), machine()


@functools.cache
def _workshop(languages: tuple[str, ...]) -> Workshop:
    return Workshop(languages)
