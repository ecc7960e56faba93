"""Watching the workers of one attempt: who left with an error, who hangs, and whose fault it was.

A worker hangs when it makes no progress for longer than its stage may take; a step may take so many times the median.
All stand still when one does, so the one to name is found by what the others do not show: a stopped process, a
heartbeat that has ceased, fewer steps.

Covers: crashes, signals, deadlocks, processes that stand still, processes that cannot leave. Does not cover: progress
that is wrong rather than none.
"""

import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindgeex.train import launch
from mindgeex.train.callbacks.heartbeat import ENDED, INTERVAL_S, read_beats

POLL_S = 0.1
STATE_INTERVAL_S = 60.0
NEW_STATE_INTERVAL_S = 10.0
EVIDENCE_S = 5.0
"""How long a worker that only missed another is no culprit: the other may be slow to leave."""
MISSED_ANOTHER = re.compile(r"MissingRanks|Launch kernel failed: \S*(AllReduce|AllGather|Broadcast)")
"""What the log of such a worker says: ours, or MindSpore's."""
SILENT_BEATS = 5
"""So many beats left out in a row say that the whole process stands, not only its training."""
EXCERPT_LINES = 60


@dataclass(frozen=True)
class Deadlines:
    """How long a worker may go without progress."""

    meeting_s: float = 300.0
    """From its start until all workers have met, by MindSpore's own watch."""
    connecting_s: float = 3600.0
    """From its start until the model, the data and the checkpoint to go on from are there, too."""
    compiling_s: float = 3600.0
    """The first step."""
    evaluating_s: float = 3600.0
    saving_s: float = 3600.0
    training_s: float = 300.0
    """A step, at least ..."""
    training_medians: float = 20.0
    """... and at least so many times the median step."""
    leaving_s: float = 60.0
    """From the last word of the training until the process is gone."""
    killing_s: float = 10.0
    """From SIGTERM to SIGKILL, where another worker has failed."""

    def of(self, beat: Mapping[str, Any]) -> float:
        """The seconds that a worker has in its present stage."""
        stage = beat.get("stage", "connecting")
        if stage in ENDED:
            return self.leaving_s
        if stage == "training":
            return max(self.training_s, self.training_medians * beat.get("step_s", 0.0))
        return float(getattr(self, f"{stage}_s"))


@dataclass(frozen=True)
class Failure:
    """Why an attempt ended early."""

    rank: int
    """The first that failed."""
    step: int
    """Steps it had done."""
    what: str
    excerpt: str = ""
    """The end of its output, with the traceback."""
    is_user_error: bool = False


class Watch:
    """One attempt: its processes, what they last said, and since when."""

    def __init__(self, run_folder: Path, deadlines: Deadlines, processes: launch.Processes, logs: Path):
        self.run_folder, self.deadlines, self.processes, self.logs = run_folder, deadlines, processes, logs
        self.codes: dict[int, int] = {}
        """Rank -> exit code of those that have left, first to last."""
        self.beats: dict[int, dict[str, Any]] = {}
        now = time.monotonic()
        self.progress_at = dict.fromkeys(processes.workers, now)
        """Rank -> when this process saw it get on; other clocks may jump."""
        self.beat_at = dict.fromkeys(processes.workers, now)
        self.relayed_bytes = 0
        self.shown, self.shown_at = "", now - STATE_INTERVAL_S
        self.stops = 0
        """How often the workers were asked to stop."""

    @property
    def live(self) -> list[int]:
        """Ranks whose process has not ended."""
        return [rank for rank in self.processes.workers if rank not in self.codes]

    def until_end(self, stops: Callable[[], int]) -> Failure | None:
        """Waits for the last worker's end, or the first failure.

        Args:
            stops: how often the run was asked to stop; each is passed on.
        """
        while self.live:
            time.sleep(POLL_S)
            self.relay()
            self.look()
            if stops() > self.stops:
                self.stops = stops()
                print(f"stopping {len(self.live)} workers in good order", flush=True)
                self.signal_all(signal.SIGTERM)
            failure = self.exited() or self.hanging() or self.without_scheduler()
            if failure:
                return failure
            if self.stops and -signal.SIGTERM in self.codes.values():
                self.stop_others()  # one was stopped before it could handle it, so none has begun to train
                return None
            self.show_state()
        return None

    def look(self) -> None:
        """Reads exit codes and heartbeats."""
        now = time.monotonic()
        for rank in self.live:
            code = launch.exit_code(self.processes.workers[rank])
            if code is not None:
                self.codes[rank] = code
                self.progress_at[rank] = now
        for rank, beat in read_beats(self.run_folder).items():
            before = self.beats.get(rank, {})
            if rank in self.progress_at:
                if _place(beat) != _place(before):
                    self.progress_at[rank] = now
                if beat.get("time") != before.get("time"):
                    self.beat_at[rank] = now
                self.beats[rank] = beat

    def exited(self) -> Failure | None:
        """The first worker that left with an error, unless it only missed another that is still to be found."""
        bad = {r: c for r, c in self.codes.items() if c and not (self.stops and c == -signal.SIGTERM)}
        if not bad:
            return None
        logs = {rank: _excerpt(launch.log_path(self.logs, rank)) for rank in bad}
        victims = [rank for rank in bad if self._is_victim(bad[rank], logs[rank])]
        if len(victims) == len(bad) and self.live:
            if time.monotonic() - self.progress_at[victims[0]] < EVIDENCE_S:
                return None
            if (worst := self._worst(self.live)) is not None:
                return self._failure(worst, self._hang(worst))
        rank = next((r for r in bad if r not in victims), victims[0] if victims else 0)
        code = bad[rank]
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        return self._failure(rank, f"rank {rank} (process {self.processes.workers[rank]}) {how}", logs[rank], code == 2)

    def hanging(self) -> Failure | None:
        """The worker that holds the others up, once one of them has overstepped its deadline."""
        now = time.monotonic()
        late = [r for r in self.live if now - self.progress_at[r] > self.deadlines.of(self.beats.get(r, {}))]
        for rank in list(late):
            if self.beats.get(rank, {}).get("stage") in ("finished", "stopped"):
                self._kill(rank)  # its work is done and saved: only leaving it cannot
                self.codes[rank] = 0
                late.remove(rank)
        if all(self._may_wait(rank, late) for rank in late):
            return None
        worst = self._worst(self.live)
        return None if worst is None else self._failure(worst, self._hang(worst))

    def without_scheduler(self) -> Failure | None:
        """MindSpore's scheduler notices a worker that stands still after half a minute, and gives up."""
        pid = self.processes.scheduler
        code = None if pid is None else launch.exit_code(pid)
        if code is None:
            return None
        self.processes = launch.Processes(self.processes.workers, None)
        rank = self._worst(self.live)
        if code == 0 or rank is None:
            return None
        return self._failure(rank, f"MindSpore's scheduler has given up: {self._hang(rank)}")

    def stop_others(self) -> None:
        """SIGTERM; who is still there at the deadline is killed by the caller."""
        self.signal_all(signal.SIGTERM)
        deadline = time.monotonic() + self.deadlines.killing_s
        while self.live and time.monotonic() < deadline:
            time.sleep(POLL_S)
            self.look()

    def signal_all(self, number: signal.Signals) -> None:
        """To every worker that lives."""
        for rank in self.live:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.processes.workers[rank], number)

    def relay(self) -> None:
        """Shows what rank 0 has printed since."""
        with contextlib.suppress(FileNotFoundError), launch.log_path(self.logs, 0).open("rb") as file:
            file.seek(self.relayed_bytes)
            data = file.read()
            self.relayed_bytes += len(data)
            if data:
                print(data.decode(errors="replace"), end="", flush=True)

    def show_state(self) -> None:
        """One line about all ranks: once a minute, and sooner when one enters another stage."""
        if len(self.processes.workers) == 1 or not self.beats:
            return
        stages = Counter(beat["stage"] for beat in self.beats.values())
        now, line = time.monotonic(), ", ".join(f"{count} {stage}" for stage, count in stages.items())
        if now - self.shown_at < (STATE_INTERVAL_S if line == self.shown else NEW_STATE_INTERVAL_S):
            return
        self.shown, self.shown_at = line, now
        last = max(beat["step"] for beat in self.beats.values())
        slowest = min(self.beats.values(), key=lambda beat: (beat["step"], -beat.get("step_s", 0.0)))
        pace = f", {slowest['step_s']:.3g} s a step" if "step_s" in slowest else ""
        print(
            f"workers: {line}; step {last} (slowest: rank {slowest['rank']}, step {slowest['step']}{pace})", flush=True
        )

    def _may_wait(self, rank: int, late: list[int]) -> bool:
        """Whether it waits for one that is in time in a stage that may take longer than a step."""
        if self._stands(rank) or self.beats.get(rank, {}).get("stage") != "training":
            return False
        others = [self.beats.get(r, {}).get("stage", "connecting") for r in self.live if r not in late]
        return any(stage in ("connecting", "compiling", "evaluating", "saving") for stage in others)

    def _stands(self, rank: int) -> bool:
        return launch.is_stopped(self.processes.workers[rank]) or self._is_silent(rank)

    def _is_victim(self, code: int, log: str) -> bool:
        """Whether it left because another did not come, as MindSpore's own SIGTERM says where one stands still."""
        missed = MISSED_ANOTHER.search(log) is not None
        return missed or (code == -signal.SIGTERM and any(self._stands(other) for other in self.live))

    def _worst(self, ranks: list[int]) -> int | None:
        """Who holds the others up: stopped or silent before waiting, then the fewest steps, the longest at them."""

        def order(rank: int) -> tuple[bool, bool, int, float, int]:
            pid, beat = self.processes.workers[rank], self.beats.get(rank, {})
            return (
                not launch.is_stopped(pid),
                not self._is_silent(rank),
                beat.get("step", 0),
                self.progress_at[rank],
                rank,
            )

        return min(ranks, key=order, default=None)

    def _is_silent(self, rank: int) -> bool:
        return time.monotonic() - self.beat_at[rank] > SILENT_BEATS * INTERVAL_S

    def _hang(self, rank: int) -> str:
        beat = self.beats.get(rank)
        if beat is None:
            return f"rank {rank} has not started"
        pid = self.processes.workers[rank]
        state = ""
        if launch.is_stopped(pid):
            state = ", stopped by a signal"
        elif self._is_silent(rank):
            state = ", the whole process stands"
        seconds = time.monotonic() - self.progress_at[rank]
        others = [f"rank {r} {b['stage']} at step {b['step']}" for r, b in self.beats.items() if r != rank]
        waiting = f" (others: {', '.join(others[:8])}{', ...' * (len(others) > 8)})" if others else ""
        return (
            f"rank {rank} (process {pid}) hangs: no progress for {seconds:.0f} s while {beat['stage']}, "
            f"step {beat['step']}{state}{waiting}"
        )

    def _failure(self, rank: int, what: str, excerpt: str | None = None, is_user_error: bool = False) -> Failure:
        if excerpt is None:
            excerpt = _excerpt(launch.log_path(self.logs, rank))
        self.relay()
        shown = "" if rank == 0 else excerpt
        return Failure(rank, self.beats.get(rank, {}).get("step", 0), what, shown, is_user_error)

    def _kill(self, rank: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.processes.workers[rank], signal.SIGKILL)


def _place(beat: Mapping[str, Any]) -> tuple[object, ...]:
    return beat.get("pid"), beat.get("stage"), beat.get("step"), beat.get("progress")


def _signal_name(number: int) -> str:
    known = {int(member): member.name for member in signal.Signals}
    return known.get(number, f"signal {number}")


def _excerpt(log: Path) -> str:
    """The last traceback, and what follows it; without one, the last lines."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    lines = lines[starts[-1] :] if starts else lines[-EXCERPT_LINES // 2 :]
    if len(lines) > EXCERPT_LINES:
        lines = [*lines[: EXCERPT_LINES // 4], "...", *lines[-EXCERPT_LINES * 3 // 4 :]]
    return "\n".join(lines)
