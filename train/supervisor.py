"""Watches a run's workers: whoever dies or hangs is named, the others are stopped, and the run goes on if it may.

    supervise(Job(("-m", "mindgeex.cli.main", "train", ...), run_folder, workers=4, restarts=3), os.environ)

    RUN/logs/attempt-01/rank-00000.log    what each rank printed; rank 0's is shown as it comes
    RUN/heartbeats/rank-00000.json        what each rank does, and since when (callbacks/heartbeat.py)
    RUN/events.jsonl                      a line for each failure

SIGTERM and SIGINT are passed on, and the workers' orderly end is waited for.

Covers: one machine; restarts from the last whole checkpoint; a run that fails at the same step again and again.
Does not cover: several machines.
"""

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.common.files import disk_errors, sole_writer
from mindgeex.train import launch
from mindgeex.train.callbacks.heartbeat import heartbeat_path, read_beats
from mindgeex.train.events import read_events, write_event
from mindgeex.train.watch import POLL_S, Deadlines, Failure, Watch

CRASHES_AT_ONE_STEP = 3
LONGEST_BACKOFF_S = 60.0


@dataclass(frozen=True)
class Job:
    """What to run, and how often to try."""

    worker: tuple[str, ...]
    """Arguments of Python, such as ("-m", "mindgeex.cli.main", "train", ...); `--resume` is added at a restart."""
    run_folder: Path
    workers: int = 1
    restarts: int = 0
    max_time_s: float | None = None
    """Of all attempts together; what is left of it is added as `--max-time`."""
    deadlines: Deadlines = field(default_factory=Deadlines)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"--workers {self.workers}: it must be at least 1")
        if self.restarts < 0:
            raise UserError(f"--restarts {self.restarts}: it must be at least 0")

    def words(self, is_restart: bool, spent_s: float) -> tuple[str, ...]:
        """Arguments of Python in the attempt that begins after so many seconds."""
        resume = () if not is_restart or "--resume" in self.worker else ("--resume",)
        limit = () if self.max_time_s is None else ("--max-time", f"{max(1.0, self.max_time_s - spent_s):.3f}")
        return (*self.worker, *resume, *limit)


class Signals:
    """Remembers SIGTERM and SIGINT instead of dying of them, inside `with`."""

    def __init__(self) -> None:
        self.count = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for number in (signal.SIGTERM, signal.SIGINT):
            self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


def supervise(job: Job, environment: Mapping[str, str]) -> int:
    """Runs a job to its end. Must be called in the main thread.

    Args:
        job: what to run.
        environment: of the workers.

    Returns:
        The exit code: 0 when all workers have finished or were stopped on request, 2 for a mistake that the user can
        fix (the worker has said which), 1 when no restart is left or none would help.

    Raises:
        UserError: another supervisor watches this run, or its folder cannot be written.
    """
    with sole_writer(job.run_folder / "logs"), launch.adopting_orphans(), Signals() as signals:
        crash_steps: list[int] = []
        started = time.monotonic()
        for restart in range(job.restarts + 1):
            noted = len(read_events(job.run_folder))
            failure = _attempt(job, job.words(restart > 0, time.monotonic() - started), environment, signals)
            if failure is None or failure.is_user_error:
                return 2 if failure else 0
            crash_steps.append(failure.step)
            then = _what_next(job, restart, crash_steps, bool(signals.count), time.monotonic() - started)
            _report(job, failure, then, noted)
            if not then.startswith("restart"):
                return 1
            _pause(min(LONGEST_BACKOFF_S, 2.0**restart), signals)
            if signals.count:
                return 0  # stopped on request, between two attempts
    return 1


def _what_next(job: Job, restart: int, steps: list[int], is_stopping: bool, spent_s: float) -> str:
    """Begins with `restart` if the run is to go on."""
    if is_stopping:
        return "not restarted: it was being stopped"
    if job.max_time_s is not None and spent_s >= job.max_time_s:
        return "not restarted: --max-time is over"
    if len(steps) >= CRASHES_AT_ONE_STEP and len(set(steps[-CRASHES_AT_ONE_STEP:])) == 1:
        return f"not restarted: it crashes at step {steps[-1]} every time"
    if restart == job.restarts:
        return "no restarts left" if job.restarts else "not restarted: give --restarts to go on after a failure"
    return f"restart {restart + 1} of {job.restarts}"


def _report(job: Job, failure: Failure, then: str, noted: int) -> None:
    """Says it, and writes an event unless the worker has: behind the first `noted` ones."""
    print(f"{failure.what}; {then}", flush=True)
    new = read_events(job.run_folder)[noted:]
    if any(event.get("event") == "failed" and event.get("rank") == failure.rank for event in new):
        return
    try:
        write_event(job.run_folder, failure.step, "failed", f"{failure.what}; {then}", failure.rank)
    except UserError as error:  # a full disk is no reason to give up: space may be found until the next checkpoint
        print(error, flush=True)


def _attempt(job: Job, worker: Sequence[str], environment: Mapping[str, str], signals: Signals) -> Failure | None:
    logs = _new_logs(job.run_folder)
    for rank in read_beats(job.run_folder):
        heartbeat_path(job.run_folder, rank).unlink(missing_ok=True)
    spared = launch.children()
    try:
        processes = launch.start(worker, job.workers, job.run_folder, logs, environment, job.deadlines.meeting_s)
    except launch.LaunchError as error:
        return Failure(0, 0, str(error))
    watch = Watch(job.run_folder, job.deadlines, processes, logs)
    try:
        failure = watch.until_end(lambda: signals.count)
        if failure:
            watch.stop_others()
            if failure.excerpt:
                print(f"--- the end of {launch.log_path(logs, failure.rank)}:\n{failure.excerpt}\n---", flush=True)
        return failure
    finally:
        if left := launch.kill_all(spared):
            print(f"processes {sorted(left)} cannot be killed", flush=True)
        watch.relay()


def _new_logs(run_folder: Path) -> Path:
    folder = run_folder / "logs"
    number = 1 + max((int(path.name[8:]) for path in folder.glob("attempt-*") if path.name[8:].isdigit()), default=0)
    logs = folder / f"attempt-{number:02d}"
    with disk_errors(logs):
        logs.mkdir(parents=True)
    return logs


def _pause(seconds: float, signals: Signals) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not signals.count:
        time.sleep(POLL_S)
