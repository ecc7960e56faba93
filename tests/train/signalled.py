"""`python signalled.py FAULTS MARKS WORDS...`: the command line, whose process signals itself in the midst of a step.

FAULTS is a JSON object of steps and [rank, signal]: after that step, while the next one runs, the worker of that rank
gets the signal, once: a file in the folder MARKS says that it did. Nobody has to watch from outside and be in time.
"""

import json
import os
import sys
import threading
from pathlib import Path

from mindgeex.cli.main import main
from mindgeex.train.callbacks.heartbeat import Heartbeat

DELAY_S = 0.01
LATEST = 3
"""The signal has been sent before so many more steps are done, however busy the machine is."""


def signal_after(faults: dict[str, list[int]], marks: Path) -> None:
    """Makes the heartbeat, which every worker has, send what is due."""
    after_step, timers = Heartbeat.after_step, {}

    def then_signal(self, record):
        after_step(self, record)
        rank, number = faults.get(str(record.step), (-1, 0))
        mark = marks / f"signal-{record.step}"
        if rank == int(os.environ.get("RANK_ID", "0")) and not mark.exists():
            mark.touch()
            timers[record.step] = threading.Timer(DELAY_S, os.kill, (os.getpid(), number))
            timers[record.step].start()
        if record.step - LATEST in timers:
            timers[record.step - LATEST].join()

    Heartbeat.after_step = then_signal


if __name__ == "__main__":
    signal_after(json.loads(sys.argv[1]), Path(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
