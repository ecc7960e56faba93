"""A function over many tasks on several processes, with the results in the order of the tasks.

Covers: bounded memory (a few tasks ahead), a worker that is killed, a parent that is killed (no orphan stays).
Does not cover: several machines.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from mindgeex.common.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Generator[Result, None, None]:
    """`map(function, tasks)`; in this process with one worker, else in spawned ones.

    Args:
        function: at the top level of a module, so that it can be named in another process.
        tasks: anything that can be pickled; taken lazily, at most three a worker ahead.
        workers: how many processes.

    Raises:
        UserError: a worker was killed, usually for want of memory.
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                pending.append(pool.submit(function, task))
                if len(pending) >= 3 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                f"one of {workers} worker processes was killed (out of memory?): use fewer --workers"
            ) from None
        finally:
            for future in pending:
                future.cancel()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
