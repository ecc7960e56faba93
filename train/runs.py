"""Runs as they lie on disk: finding them, what state each is in, and its figures so far.

A run says of itself what it does: in events.jsonl, in its heartbeats, and by the lock it holds while it lives. The lock
is only ever looked at with a shared one, let go at once, which a running run does not notice.

Covers: running, silent, stopped, finished, failed and crashed runs, on this machine and on others that share the
folder; files that are missing or cut. Does not cover: clocks of machines that differ by more than FRESH_S.
"""

import contextlib
import fcntl
import functools
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mindgeex.common.config import read_yaml
from mindgeex.common.errors import UserError
from mindgeex.common.files import LOCK
from mindgeex.train.callbacks.heartbeat import ENDED, FOLDER, read_beats
from mindgeex.train.callbacks.metrics import METRICS_FILE, read_metrics
from mindgeex.train.checkpointing import CONFIG_FILE
from mindgeex.train.events import EVENTS_FILE, read_events
from mindgeex.train.run_folder import dotted

FRESH_S = 30.0
"""A younger heartbeat is one of a living process; an older one of a process that is dead or hangs."""

LIVES = ("started", "resumed", *ENDED)
"""Events that begin or end a run's process."""


@dataclass(frozen=True)
class State:
    """What became of a run."""

    name: Literal["running", "finished", "stopped", "failed", "crashed"]
    detail: str = ""
    """Who runs it and what it does, or why it ended."""


@dataclass(frozen=True, eq=False)
class Run:
    """What a run's folder holds."""

    folder: Path
    name: str
    config: dict[str, Any]
    """run.yaml; empty if it cannot be read."""
    metrics: list[dict[str, Any]]
    """One of each step, in their order; a step that was done again is as it was the last time."""
    events: list[dict[str, Any]]
    beats: dict[int, dict[str, Any]]
    state: State
    missing: list[str] = field(default_factory=list)
    """What a run usually has and this one has not, in words."""

    @property
    def step(self) -> int:
        """Steps done."""
        return max(
            [line["step"] for line in self.metrics[-1:]] + [beat.get("step", 0) for beat in self.beats.values()],
            default=0,
        )

    @property
    def steps(self) -> int | None:
        """Steps that were asked for."""
        return self.config.get("steps")

    @property
    def model(self) -> str:
        """Its name, or that of its file, or the checkpoint it comes from."""
        model, init = self.config.get("model"), self.config.get("init")
        return Path(model).stem if model else f"of {init}" if init else "?"

    @functools.cached_property
    def updated(self) -> float:
        """When it last said anything, in seconds since 1970."""
        times = [line["time"] for line in (*self.events[-1:], *self.beats.values()) if "time" in line]
        for name in (METRICS_FILE, CONFIG_FILE):
            with contextlib.suppress(OSError):
                times.append((self.folder / name).stat().st_mtime)
        return max(times, default=0.0)

    def curve(self, name: str, of: str | None = None) -> tuple[list[int], list[float]]:
        """Steps and values of a figure; `of` names a part of it, such as a language of `heldout`."""
        found = [(line["step"], line[name]) for line in self.metrics if line.get(name) is not None]
        if of is not None:
            found = [(step, parts[of]) for step, parts in found if of in parts]
        return [step for step, _ in found], [value for _, value in found]

    def last(self, name: str) -> Any:
        """The newest value of a figure; None if there is none."""
        return next((line[name] for line in reversed(self.metrics) if line.get(name) is not None), None)

    def tokens(self, line: Mapping[str, Any]) -> int | None:
        """Tokens of input up to a line of the metrics, all workers together."""
        batch = self.config.get("batch")
        per_step = batch.get("tokens_per_step") if isinstance(batch, dict) else None
        return line["tokens"] if line.get("tokens") is not None else line["step"] * per_step if per_step else None

    def hours(self) -> dict[int, float]:
        """Step -> hours of training up to it, by tokens_per_s: what was evaluated, saved and waited for not counted."""
        total, before, hours = 0.0, 0, {}
        for line in self.metrics:
            if (tokens := self.tokens(line)) is not None and line.get("tokens_per_s"):
                total += (tokens - before) / line["tokens_per_s"] / 3600
                before = tokens
            hours[line["step"]] = total
        return hours

    def summary(self) -> dict[str, Any]:
        """The figures of a list of runs, as JSON has them."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "model": self.model,
            "step": self.step,
            "steps": self.steps,
            "loss": self.last("loss"),
            "heldout_bits_per_byte": self.last("heldout_bits_per_byte"),
            "heldout": self.last("heldout") or {},
            "tokens": self.tokens({"tokens": self.last("tokens"), "step": self.step}),
            "state": self.state.name,
            "detail": self.state.detail,
            "updated": round(self.updated, 3),
            "checkpoint_bytes": checkpoint_bytes(self.folder),
        }


def find_runs(folder: Path) -> list[Path]:
    """The folders of all runs below a folder, itself included, by name.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: name one that runs are in, as `mindgeex train --out` has it")
    found = []
    for path, inner, files in os.walk(folder):
        inner.sort()
        if METRICS_FILE in files or (CONFIG_FILE in files and {LOCK, EVENTS_FILE} & set(files)):
            found.append(Path(path))
            inner.clear()
    return found


def read_run(folder: Path, name: str | None = None) -> Run:
    """What there is of a run, in whatever state.

    Args:
        folder: the run's.
        name: what to call it; the folder's name by default.

    Raises:
        UserError: it holds nothing of a run.
    """
    missing, config = [], {}
    if not any((folder / file).exists() for file in (CONFIG_FILE, METRICS_FILE, EVENTS_FILE)):
        raise UserError(f"{folder}: no run: neither {CONFIG_FILE} nor {METRICS_FILE} is there")
    try:
        config = read_yaml(folder / CONFIG_FILE)
    except UserError as error:
        missing.append(str(error))
    by_step = {line["step"]: line for line in read_metrics(folder / METRICS_FILE) if "step" in line}
    metrics = [by_step[step] for step in sorted(by_step)]
    events = [event for event in read_events(folder) if "event" in event]
    beats = read_beats(folder)
    for have, what in ((metrics, METRICS_FILE), (events, EVENTS_FILE), (beats, f"{FOLDER}/")):
        if not have:
            missing.append(f"{folder / what}: nothing there")
    is_done = bool(metrics) and metrics[-1]["step"] == config.get("steps")
    state = judge(is_locked(folder), events, list(beats.values()), is_done, time.time(), socket.gethostname())
    return Run(folder, name or folder.resolve().name, config, metrics, events, beats, state, missing)


def judge(
    locked: bool,
    events: Sequence[Mapping[str, Any]],
    beats: Sequence[Mapping[str, Any]],
    is_done: bool,
    now: float,
    host: str,
) -> State:
    """The state of a run.

    Args:
        locked: whether a process on this machine, or one that shares its locks, holds the folder.
        events: of the run, in their order.
        beats: the last one of each rank.
        is_done: whether all steps have been done, as far as figures tell.
        now: seconds since 1970.
        host: the name of this machine.
    """
    alive = [beat for beat in beats if now - beat.get("time", 0) < FRESH_S and beat.get("stage") not in ENDED]
    elsewhere = [beat for beat in alive if beat.get("host") != host]
    if locked or elsewhere:
        return State("running", _doing(elsewhere if not locked else beats, now))
    last = next((event for event in reversed(events) if event["event"] in LIVES), None)
    if last is not None and last["event"] in ENDED:
        return State(last["event"], str(last.get("detail", "")))
    ended = [beat["stage"] for beat in beats if beat.get("stage") in ENDED]
    if is_done and (last is None or ended):
        return State("finished")
    where = f"at step {max((beat.get('step', 0) for beat in beats), default=0)}" if beats else ""
    stage = f"while {beats[0].get('stage')}" if beats and beats[0].get("stage") not in (None, *ENDED) else ""
    return State("crashed", " ".join(filter(None, (stage, where))))


def _doing(beats: Sequence[Mapping[str, Any]], now: float) -> str:
    """Who runs it, since when nothing was heard, and what it does."""
    if not beats:
        return "no heartbeat yet"
    first = beats[0]
    place = f"{first.get('host', '?')}:{first.get('pid', '?')}" + (
        f" and {len(beats) - 1} more" if len(beats) > 1 else ""
    )
    slowest = min(beats, key=lambda beat: beat.get("progress", beat.get("time", now)))
    silent = now - slowest.get("progress", slowest.get("time", now))
    rank = f" of rank {slowest.get('rank')}" if len(beats) > 1 else ""
    return f"{first.get('stage', '?')} on {place}, last progress{rank} {duration(silent)} ago"


def is_locked(folder: Path) -> bool:
    """Whether a process holds the folder (`common.files.sole_writer`); False where that cannot be found out."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def checkpoint_bytes(folder: Path) -> int:
    """Bytes on the disk below the run's checkpoints; a file with two names counts once."""
    sizes = {}
    for path, _, files in os.walk(folder / "checkpoints"):
        for name in files:
            with contextlib.suppress(OSError):  # an old checkpoint is being deleted
                status = os.lstat(os.path.join(path, name))
                sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def duration(seconds: float) -> str:
    """A time span in one unit, as people say it."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{max(0, seconds) / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} days"


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Keys of run.yaml, dotted, in which runs differ, and each run's value; None where it has none."""
    flat = [dotted(run.config) for run in runs]
    keys = dict.fromkeys(key for tree in flat for key in tree)
    values = {key: [tree.get(key) for tree in flat] for key in keys}
    return {key: of for key, of in values.items() if any(value != of[0] for value in of)}


def named(folders: Sequence[Path]) -> list[Run]:
    """Several runs, each under the shortest end of its path that tells it from the others."""
    parts = [folder.resolve().parts for folder in folders]
    length = next((n for n in range(1, 100) if len({path[-n:] for path in parts}) == len(parts)), 1)
    return [read_run(folder, "/".join(path[-length:])) for folder, path in zip(folders, parts, strict=True)]
