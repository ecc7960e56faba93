"""Where tasks run: in this process, in processes of this machine, or on a Ray cluster; results in the tasks' order.

A task is a frozen dataclass that can be pickled, with a field `attempt`; a worker function takes one. When the worker
that runs a task dies (killed, out of memory, a fault in a parser), the task is given to another with `attempt` one
higher, so the function can find out where the last attempt stood; no other task is touched.

Covers: bounded look-ahead, workers that die, a parent that dies (no orphan stays), interrupts.
Does not cover: hung workers; a cluster whose nodes do not share the folder of the corpus.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mindgeex.common.errors import UserError

LOOK_AHEAD = 4
"""Tasks a worker that may be under way or done before the first of them is handed out."""

MAX_ATTEMPTS = 12
"""Workers that may die on one task before the whole is given up."""


@dataclass(frozen=True)
class EngineConfig:
    """Who does the work; the corpus does not depend on it."""

    kind: Literal["local", "ray"] = "local"
    """`local`: this machine; `ray`: a Ray cluster, whose nodes must share the folder of the corpus and the sources."""

    workers: int = 0
    """Processes; 0: in this process (local), or as many as the cluster has CPUs (ray)."""

    address: str | None = None
    """Of a running Ray cluster, such as `auto` or `10.0.0.1:6379`; None starts one on this machine."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UserError(f"workers={self.workers}: must be at least 0")
        if self.address is not None and self.kind != "ray":
            raise UserError(f"address={self.address}: only Ray has one: add --engine ray")


class Task(Protocol):
    """What a worker function takes; a frozen dataclass."""

    @property
    def attempt(self) -> int:
        """How many workers died on it before."""


class Pool(Protocol):
    """Workers that take one task each."""

    width: int
    """How many tasks may be under way."""

    def submit(self, function: Callable[[Any], Any], task: Any) -> "Future[Any]":
        """Gives a task to an idle worker; called at most `width` times before one of the futures is done."""

    def settle(self, future: "Future[Any]") -> bool:
        """Takes back the worker of a future that is done; true if the worker died, and then another stands ready."""


@dataclass(frozen=True)
class Engine:
    """Made by `open_engine`."""

    pool: Pool | None
    """None: tasks run in this process."""

    def map(self, function: Callable[[Any], Any], tasks: Iterable[Task]) -> Generator[Any, None, None]:
        """`map(function, tasks)`, in order.

        Args:
            function: at the top level of a module, so that it can be named in another process.
            tasks: taken lazily, a few a worker ahead.

        Raises:
            UserError: MAX_ATTEMPTS workers died on one task.
        """
        if self.pool is None:
            yield from map(function, tasks)
            return
        source = enumerate(tasks)
        waiting: deque[tuple[int, Any]] = deque()
        running: dict[Future[Any], tuple[int, Any]] = {}
        done: dict[int, Any] = {}
        handed_out, exhausted = 0, False
        while True:
            while len(running) < self.pool.width:
                if not waiting and not exhausted and len(done) + len(running) < LOOK_AHEAD * self.pool.width:
                    waiting.extend([item] if (item := next(source, None)) else [])
                    exhausted = item is None
                if not waiting:
                    break
                number, task = waiting.popleft()
                running[self.pool.submit(function, task)] = (number, task)
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number, task = running.pop(future)
                if self.pool.settle(future):
                    waiting.appendleft((number, _again(task)))
                else:
                    done[number] = future.result()
            while handed_out in done:
                yield done.pop(handed_out)
                handed_out += 1


def _again(task: Any) -> Any:
    if task.attempt + 1 >= MAX_ATTEMPTS:
        raise UserError(
            f"{MAX_ATTEMPTS} workers died one after the other on the same task (out of memory?): use fewer --workers, "
            "or give them more memory; the same command goes on from here"
        )
    return dataclasses.replace(task, attempt=task.attempt + 1)


@contextlib.contextmanager
def open_engine(config: EngineConfig) -> Iterator[Engine]:
    """Workers for the block.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
    """
    if config.kind == "ray":
        from mindgeex.data.ray_engine import ray_pool

        with ray_pool(config.workers, config.address) as cluster:
            yield Engine(cluster)
    elif config.workers == 0:
        yield Engine(None)
    else:
        pool = _LocalPool(config.workers)
        try:
            yield Engine(pool)
        finally:
            pool.close()


class _LocalPool:
    """Executors of one process each: one that dies takes nothing but its own task with it."""

    def __init__(self, width: int):
        self.width = width
        self._context = multiprocessing.get_context("spawn")
        self._idle = [self._start() for _ in range(width)]
        self._busy: dict[Future[Any], ProcessPoolExecutor] = {}

    def submit(self, function: Callable[[Any], Any], task: Any) -> "Future[Any]":
        executor = self._idle.pop()
        with _interrupts_held():  # a worker inherits this: Ctrl-C is its parent's, from its first moment on
            try:
                future = executor.submit(function, task)
            except BrokenProcessPool:  # died while it had nothing to do
                executor = self._start()
                future = executor.submit(function, task)
        self._busy[future] = executor
        return future

    def settle(self, future: "Future[Any]") -> bool:
        executor = self._busy.pop(future)
        died = isinstance(future.exception(), BrokenProcessPool)
        if died:
            executor.shutdown(wait=False)
            executor = self._start()
        self._idle.append(executor)
        return died

    def close(self) -> None:
        """Ends the workers at once, whatever they do."""
        for executor in (*self._idle, *self._busy.values()):
            processes = list((executor._processes or {}).values())
            executor.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=self._context, initializer=_prepare_worker)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C comes after the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_worker() -> None:
    """A worker ends with its parent."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
