"""Programs on threads of this machine: each waits for a sandbox, so the work is done by the sandboxes' processes."""

import concurrent.futures
from collections.abc import Generator, Sequence

from mindgeex.eval.execution.engines.engine import Tools, Work, Workshop, machine
from mindgeex.eval.execution.verdict import Outcome


class LocalEngine:
    """So many programs at once, here."""

    def __init__(self, workers: int = 2):
        self.workers = workers
        self.workshop = Workshop(())

    def describe(self) -> dict[str, object]:
        """See Engine."""
        return {"kind": "local", "workers": self.workers}

    def prepare(self, languages: Sequence[str]) -> Tools:
        """See Engine."""
        self.workshop = Workshop(languages)
        return self.workshop.tools

    def execute(self, works: Sequence[Work]) -> Generator[tuple[int, Outcome], None, None]:
        """See Engine. Whatever ends it early, no program runs on."""
        pool = concurrent.futures.ThreadPoolExecutor(self.workers)
        try:
            futures = {pool.submit(self.workshop.execute, work): place for place, work in enumerate(works)}
            for done in concurrent.futures.as_completed(futures):
                yield futures[done], done.result()
        except BaseException:
            if self.workshop.sandbox is not None:
                self.workshop.sandbox.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def machines(self) -> list[dict[str, object]]:
        """See Engine."""
        return [machine()]
