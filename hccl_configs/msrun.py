"""MindSpore's msrun, for scripts: it takes the same options, but can be stopped, and ends when its workers have.

    python -m mindgeex.hccl_configs.msrun --worker_num=8 --local_worker_num=8 --join=True ... python -m ...

By itself msrun dies of SIGTERM and leaves its workers behind, and after a worker's failure it waits for MindSpore's
scheduler, which in turn waits up to MS_NODE_TIMEOUT for the workers that were just killed.

Covers: SIGTERM, which is passed on to the workers; workers of this server that fail, or end without a word to the
scheduler. Does not cover: workers of other servers, whose own msrun has to be told (the scripts of script.py do).
"""

import contextlib
import signal
import subprocess
import sys
from typing import Any

GRACE_S = 600
"""How long workers may take to save and end once asked. One in a collective whose others are gone never hears it."""
SCHEDULER_S = 30
"""How long the scheduler may take to see that all workers have ended."""


def main() -> None:
    """Runs msrun with the arguments of this process."""
    managers: list[Any] = []
    signal.signal(signal.SIGTERM, lambda *_: terminate(managers))
    from mindspore.parallel.cluster.process_entity import _ProcessManager
    from mindspore.parallel.cluster.run import get_args

    class Manager(_ProcessManager):
        """Does not wait for a scheduler whose workers are gone."""

        msn_process: Any

        def kill_worker_processes(self) -> None:
            super().kill_worker_processes()
            if self.msn_process:
                self.msn_process.kill()

        def kill_tail_log_processes(self) -> None:
            """Called when the workers of this server have ended."""
            super().kill_tail_log_processes()
            if self.msn_process and self.local_worker_num == self.worker_num:
                try:
                    self.msn_process.wait(SCHEDULER_S)
                except subprocess.TimeoutExpired:
                    self.msn_process.kill()
                    self.msn_process = None  # how it ended does not matter

    managers.append(Manager(get_args()))
    try:
        managers[0].run()
    except RuntimeError as error:
        sys.exit(str(error))


def terminate(managers: list[Any]) -> None:
    """Asks the workers to end, and later kills those that do not; the scheduler ends after them."""
    if not signal.getitimer(signal.ITIMER_REAL)[0]:
        signal.signal(signal.SIGALRM, lambda *_: [manager.kill_worker_processes() for manager in managers])
        signal.alarm(GRACE_S)
    for worker in [worker for manager in managers for worker in manager.cgn_processes]:
        with contextlib.suppress(ProcessLookupError):
            worker.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    main()
