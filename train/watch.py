"""Watching the workers of one attempt: who left with an error, who hangs, which host is lost, and whose fault it was.

A worker hangs when it makes no progress for longer than its stage may take; a step may take so many times the median.
All stand still when one does, so the one to name is found by what the others do not show: a stopped process, a
heartbeat that has ceased, fewer steps.

Covers: crashes, signals, deadlocks, processes that stand still, processes that cannot leave, hosts that do not answer
or do not reach the first one. Does not cover: progress that is wrong rather than none.
"""

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mindgeex.train import launch
from mindgeex.train.callbacks.heartbeat import INTERVAL_S
from mindgeex.train.console import Console
from mindgeex.train.deadlines import Deadlines
from mindgeex.train.fleet import Fleet, Lost
from mindgeex.train.rank_log import excerpt_of, missed_another

POLL_S = 0.1
EVIDENCE_S = 5.0
"""How long a worker that only missed another is no culprit: the other may be slow to leave."""
SILENT_BEATS = 5
"""So many beats left out in a row say that the whole process stands, not only its training."""


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
    lost: Lost | None = None
    """The host that is to blame."""


class Watch:
    """One attempt: its workers, what they last said, and since when."""

    def __init__(self, deadlines: Deadlines, fleet: Fleet, logs: Path):
        self.deadlines, self.fleet, self.logs = deadlines, fleet, logs
        self.codes: dict[int, int] = {}
        """Rank -> exit code of those that have left, first to last."""
        self.beats: dict[int, dict[str, Any]] = {}
        now = time.monotonic()
        self.progress_at = dict.fromkeys(fleet.workers, now)
        """Rank -> when this process saw it get on; other clocks may jump."""
        self.beat_at = dict.fromkeys(fleet.workers, now)
        self.scheduler_is_known = False
        """Whether its end has been dealt with."""
        self.console = Console(fleet, logs)
        self.stops = 0
        """How often the workers were asked to stop."""

    @property
    def live(self) -> list[int]:
        """Ranks whose process has not ended."""
        return [rank for rank in self.fleet.workers if rank not in self.codes]

    def until_end(self, stops: Callable[[], int]) -> Failure | None:
        """Waits for the last worker's end, or the first failure.

        Args:
            stops: how often the run was asked to stop; each is passed on.
        """
        while self.live or any(self.codes.values()):
            time.sleep(POLL_S)
            self.console.relay()
            self.look()
            if stops() > self.stops:
                self.stops = stops()
                print(f"stopping {len(self.live)} workers in good order", flush=True)
                self.signal_all(signal.SIGTERM)
            failure = (
                self.not_started() or self.exited() or self.without_host() or self.hanging() or self.without_scheduler()
            )
            if failure:
                return failure
            if self.stops and self.is_starting:
                return None
            if self.stops and -signal.SIGTERM in self.codes.values():
                self.stop_others()  # one was stopped before it could handle it, so none has begun to train
                return None
            self.console.show(self.beats)
        return None

    @property
    def is_starting(self) -> bool:
        """Whether any worker is not there yet."""
        return any(worker.pid is None for worker in self.fleet.workers.values())

    def look(self) -> None:
        """Reads exit codes and heartbeats."""
        self.fleet.look()
        now = time.monotonic()
        for rank in self.live:
            worker, before = self.fleet.workers[rank], self.beats.get(rank, {})
            if worker.code is not None:
                self.codes[rank] = worker.code
                self.progress_at[rank] = now
            if worker.beat:
                if _place(worker.beat) != _place(before):
                    self.progress_at[rank] = now
                if worker.beat.get("time") != before.get("time"):
                    self.beat_at[rank] = now
                self.beats[rank] = worker.beat

    def not_started(self) -> Failure | None:
        """Workers that msrun did not start."""
        for node, error in self.fleet.errors().items():
            rank, lost = node * self.fleet.reach.per_host, self.fleet.never_linked()
            way = f"{lost.why}; " if lost and lost.node == node else ""
            what = f"{way}rank {rank} ({self.fleet.where(rank)}): {error}"
            return Failure(rank, 0, what, lost=lost if way else None)
        return None

    def without_host(self, patience_s: float | None = None) -> Failure | None:
        """A host that is lost while workers are left there; given less patience, one that explains what others say."""
        lost = self.fleet.lost(patience_s)
        if lost is None:
            return None
        there = [rank for rank in self.live if self.fleet.workers[rank].node == lost.node]
        if not there and patience_s is None:
            return None
        rank = there[0] if there else lost.node * self.fleet.reach.per_host
        step = max((beat.get("step", 0) for beat in self.beats.values()), default=0)
        return Failure(rank, step, f"host {lost.why}{self._others(rank)}", lost=lost)

    def exited(self) -> Failure | None:
        """The first worker that left with an error, unless it only missed another that is still to be found."""
        bad = {r: c for r, c in self.codes.items() if c and not (self.stops and c == -signal.SIGTERM)}
        if not bad:
            return None
        logs = {rank: excerpt_of(launch.log_path(self.logs, rank)) for rank in bad}
        victims = [rank for rank in bad if self._is_victim(bad[rank], logs[rank])]
        if len(victims) == len(bad) and (self.live or self.fleet.is_remote):
            if time.monotonic() - self.progress_at[victims[0]] < EVIDENCE_S:
                return None
            if failure := self.without_host(EVIDENCE_S / 2):
                return failure
            if (worst := self._worst(self.live)) is not None:
                return self._failure(worst, self._hang(worst))
        rank = next((r for r in bad if r not in victims), victims[0] if victims else 0)
        code = bad[rank]
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        return self._failure(rank, f"rank {rank} ({self.fleet.where(rank)}) {how}", logs[rank], code == 2)

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
        return None if worst is None else self._hung(worst)

    def without_scheduler(self) -> Failure | None:
        """MindSpore's scheduler notices a worker that stands still after half a minute, and gives up."""
        code = self.fleet.scheduler_code()
        if code is None or self.scheduler_is_known:
            return None
        self.scheduler_is_known = True
        rank = self._worst(self.live)
        if code == 0 or rank is None:
            return None
        return self._hung(rank, "MindSpore's scheduler has given up: ")

    def stop_others(self) -> None:
        """SIGTERM; who is still there at the deadline is killed by the caller."""
        self.signal_all(signal.SIGTERM)
        deadline = time.monotonic() + self.deadlines.killing_s
        while self.live and time.monotonic() < deadline:
            time.sleep(POLL_S)
            self.look()

    def signal_all(self, number: signal.Signals) -> None:
        """To every worker that lives."""
        self.fleet.signal(self.live, number)

    def _may_wait(self, rank: int, late: list[int]) -> bool:
        """Whether it waits for one that is in time in a stage that may take longer than a step."""
        if self._stands(rank) or self.beats.get(rank, {}).get("stage") != "training":
            return False
        others = [self.beats.get(r, {}).get("stage", "connecting") for r in self.live if r not in late]
        return any(stage in ("connecting", "loading", "compiling", "evaluating", "saving") for stage in others)

    def _stands(self, rank: int) -> bool:
        return self.fleet.workers[rank].is_stopped or self._is_silent(rank)

    def _is_victim(self, code: int, log: str) -> bool:
        """Whether it left because another did not come, as MindSpore's own SIGTERM says where one stands still."""
        missed = missed_another(log)
        return missed or (code == -signal.SIGTERM and any(self._stands(other) for other in self.live))

    def _worst(self, ranks: list[int]) -> int | None:
        """Who holds the others up: stopped or silent before waiting, then the fewest steps, the longest at them."""

        def order(rank: int) -> tuple[bool, bool, int, float, int]:
            beat = self.beats.get(rank, {})
            return (
                not self.fleet.workers[rank].is_stopped,
                not self._is_silent(rank),
                beat.get("step", 0),
                self.progress_at[rank],
                rank,
            )

        return min(ranks, key=order, default=None)

    def _is_silent(self, rank: int) -> bool:
        return time.monotonic() - self.beat_at[rank] > SILENT_BEATS * INTERVAL_S

    def _hung(self, rank: int, reason: str = "") -> Failure:
        """Workers that never met have most often no way to each other."""
        lost = self.fleet.never_linked() if self.beats.get(rank, {}).get("stage") == "connecting" else None
        way = "" if lost is None else f"; {lost.why}"
        return replace(self._failure(rank, f"{reason}{self._hang(rank)}{way}"), lost=lost)

    def _hang(self, rank: int) -> str:
        beat = self.beats.get(rank)
        if beat is None:
            return f"rank {rank}{self.fleet.on_host(rank)} has not started"
        state = ""
        if self.fleet.workers[rank].is_stopped:
            state = ", stopped by a signal"
        elif self._is_silent(rank):
            state = ", the whole process stands"
        seconds = time.monotonic() - self.progress_at[rank]
        return (
            f"rank {rank} ({self.fleet.where(rank)}) hangs: no progress for {seconds:.0f} s while {beat['stage']}, "
            f"step {beat['step']}{state}{self._others(rank)}"
        )

    def _others(self, rank: int) -> str:
        others = [f"rank {r} {b['stage']} at step {b['step']}" for r, b in self.beats.items() if r != rank]
        return f" (others: {', '.join(others[:8])}{', ...' * (len(others) > 8)})" if others else ""

    def _failure(self, rank: int, what: str, excerpt: str | None = None, is_user_error: bool = False) -> Failure:
        if excerpt is None:
            excerpt = excerpt_of(launch.log_path(self.logs, rank))
        self.console.relay()
        shown = "" if rank == 0 else excerpt
        return Failure(rank, self.beats.get(rank, {}).get("step", 0), what, shown, is_user_error)

    def _kill(self, rank: int) -> None:
        self.fleet.signal([rank], signal.SIGKILL)


def _place(beat: Mapping[str, Any]) -> tuple[object, ...]:
    return beat.get("pid"), beat.get("stage"), beat.get("step"), beat.get("progress")


def _signal_name(number: int) -> str:
    known = {int(member): member.name for member in signal.Signals}
    return known.get(number, f"signal {number}")
