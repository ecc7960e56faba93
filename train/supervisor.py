"""Watches a run's workers: whoever dies or hangs is named, the others are stopped, and the run goes on if it may.

    supervise(Job(("-m", "mindgeex.cli.main", "train", ...), run_folder, Reach(per_host=4), restarts=3), os.environ)

    RUN/logs/attempt-01/rank-00000.log    what each rank printed; rank 0's is shown as it comes
    RUN/heartbeats/rank-00000.json        what each rank does, and since when (callbacks/heartbeat.py)
    RUN/events.jsonl                      a line for each failure

SIGTERM and SIGINT are passed on, and the workers' orderly end is waited for.

Covers: one machine, or hosts that share the run's folder; restarts from the last whole checkpoint; hosts that are lost,
and spare ones in their place; a run that fails at the same step again and again.
Does not cover: going on with fewer hosts.
"""

import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.common.files import disk_errors, sole_writer
from mindgeex.train import launch
from mindgeex.train.callbacks.heartbeat import heartbeat_path, read_beats
from mindgeex.train.deadlines import Deadlines
from mindgeex.train.events import read_events, write_event
from mindgeex.train.fleet import Fleet, Lost
from mindgeex.train.reach import Reach
from mindgeex.train.watch import POLL_S, Failure, Watch

CRASHES_AT_ONE_STEP = 3
LONGEST_BACKOFF_S = 60.0


@dataclass(frozen=True)
class Job:
    """What to run, and how often to try."""

    worker: tuple[str, ...]
    """Arguments of Python, such as ("-m", "mindgeex.cli.main", "train", ...); `--resume` is added at a restart."""
    run_folder: Path
    reach: Reach = field(default_factory=Reach)
    """Where."""
    restarts: int = 0
    max_time_s: float | None = None
    """Of all attempts together; what is left of it is added as `--max-time`."""
    deadlines: Deadlines = field(default_factory=Deadlines)
    spare_hosts: tuple[str, ...] = ()
    """Take the place of hosts that are lost."""
    workdir: Path = Path()
    """Folder that the workers run in, the same on every host."""
    explain: Callable[[Mapping[int, Path]], Sequence[str]] | None = None
    """Rank -> log: what the error codes there mean, a line each."""

    def __post_init__(self) -> None:
        if self.reach.per_host < 1:
            raise UserError(f"--workers {self.reach.per_host}: it must be at least 1")
        if self.restarts < 0:
            raise UserError(f"--restarts {self.restarts}: it must be at least 0")
        if self.spare_hosts and not self.reach.hosts:
            raise UserError("--spare-hosts without --hosts: name the hosts of the run, too")
        if self.spare_hosts and not self.restarts:
            raise UserError("--spare-hosts without --restarts: a spare host takes over at a restart, so allow some")
        replace(self.reach, hosts=(*self.reach.hosts, *self.spare_hosts))  # which checks all names

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
    with sole_writer(job.run_folder / "logs"), Signals() as signals:
        crash_steps: list[int] = []
        spares = Spares(job.reach, list(job.spare_hosts))
        started = time.monotonic()
        for restart in range(job.restarts + 1):
            noted = len(read_events(job.run_folder))
            words = job.words(restart > 0, time.monotonic() - started)
            failure = _attempt(job, spares.reach, words, environment, signals)
            if failure is None or failure.is_user_error:
                return 2 if failure else 0
            if failure.lost is None:
                crash_steps.append(failure.step)
            then = _what_next(job, restart, crash_steps, bool(signals.count), time.monotonic() - started)
            if failure.lost and then.startswith("restart"):
                then += spares.replace(failure.lost)
            _report(job, failure, then, noted)
            if not then.startswith("restart"):
                return 1
            _pause(min(LONGEST_BACKOFF_S, 2.0**restart), signals)
            if signals.count:
                return 0  # stopped on request, between two attempts
    return 1


class Spares:
    """Which hosts are used, and which wait; one that was lost waits at the end, for it may come back."""

    def __init__(self, reach: Reach, waiting: list[str]):
        self.reach, self.waiting = reach, waiting
        self.suspected: Counter[str] = Counter()

    def replace(self, lost: Lost) -> str:
        """Puts the first spare host in the place of a lost one.

        Where two did not reach each other, either may be to blame: that which was suspected more often, or the lost.

        Returns:
            A clause that says so; empty without spare hosts.
        """
        hosts, node = list(self.reach.hosts), lost.node
        if lost.other is not None:
            self.suspected.update((hosts[node], hosts[lost.other]))
            if self.suspected[hosts[lost.other]] > self.suspected[hosts[node]]:
                node = lost.other
        if not self.waiting:
            return ""
        self.waiting.append(hosts[node])
        replaced, hosts[node] = hosts[node], self.waiting.pop(0)
        self.reach = replace(self.reach, hosts=tuple(hosts))
        return f" with {hosts[node]} in the place of {replaced}"


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


def _attempt(
    job: Job, reach: Reach, worker: Sequence[str], environment: Mapping[str, str], signals: Signals
) -> Failure | None:
    logs = _new_logs(job.run_folder)
    for rank in read_beats(job.run_folder):
        heartbeat_path(job.run_folder, rank).unlink(missing_ok=True)
    deadlines = job.deadlines
    order = {
        "worker": list(worker),
        "run_folder": str(job.run_folder.absolute()),
        "logs": str(logs.absolute()),
        "meeting_s": deadlines.meeting_s,
    }
    fleet = Fleet(reach, order, logs, environment, job.workdir, deadlines.answering_s, deadlines.reaching_s)
    watch = Watch(deadlines, fleet, logs)
    try:
        failure = watch.until_end(lambda: signals.count)
        if failure:
            if failure.lost:
                print(f"{failure.what}: ending the workers of all hosts", flush=True)
            watch.stop_others()
            if failure.excerpt:
                print(f"--- the end of {launch.log_path(logs, failure.rank)}:\n{failure.excerpt}\n---", flush=True)
            if job.explain:
                paths = {rank: launch.log_path(logs, rank) for rank in fleet.workers}
                print("".join(f"{line}\n" for line in job.explain(paths)), end="", flush=True)
        return failure
    finally:
        for trouble in fleet.close():
            print(trouble, flush=True)
        watch.console.relay()


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
