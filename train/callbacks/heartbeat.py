"""A sign of life of each worker: RUN/heartbeats/rank-00000.json, written anew every second and step.

    {"time": ..., "progress": ..., "rank": 0, "host": "a", "pid": 4, "stage": "training", "step": 120, "step_s": 0.41}

A thread writes it, so `time` says that the process runs; `progress` is when the training itself last got on, for a
thread goes on beating beside a main thread that hangs. The supervisor judges by `progress`, and by the stage.

Covers: hanging collectives and deadlocks, and what was done last. Does not cover: progress within one long step.
"""

import collections
import contextlib
import json
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from mindgeex.common.errors import UserError
from mindgeex.common.files import read_json
from mindgeex.train.callbacks.base import Callback, StepRecord

Stage = Literal[
    "connecting", "loading", "compiling", "training", "evaluating", "saving", "finished", "stopped", "failed"
]

FOLDER = "heartbeats"
ENDED = ("finished", "stopped", "failed")
"""Stages after which a worker only has to leave."""

INTERVAL_S = 1.0
LEAST_INTERVAL_S = 0.02
"""The step is written at its end, too, unless that is sooner than this after the last time."""
REMEMBERED_STEPS = 101
"""Steps whose median `step_s` is."""


class Heartbeat(Callback):
    """Keeps this worker's file; must come first among the callbacks, so that it sees a step's end before they work.

    Made before the worker connects; `begin` says that it compiles, the first step that it trains. `end` says that it
    has finished, or has failed if an error is on its way, unless the loop has said `stopped`.
    """

    def __init__(self, run_folder: Path, rank: int):
        self.path = heartbeat_path(run_folder, rank)
        self.beat = first_beat(rank)
        self.step_seconds: collections.deque[float] = collections.deque(maxlen=REMEMBERED_STEPS)
        self.last_step_end = 0.0
        self.lock = threading.Lock()
        self.over = threading.Event()
        write_beat(self.path, self.beat)
        self.thread = threading.Thread(target=self._go_on, name="heartbeat", daemon=True)
        self.thread.start()

    def enter(self, stage: Stage) -> None:
        """The training got on, to `stage`; written at once, for what follows may keep the thread from running."""
        self._progress(stage)
        self._write()

    @contextlib.contextmanager
    def during(self, stage: Stage) -> Iterator[None]:
        """Names what the block does; afterwards the stage is again what it was."""
        before = self.beat["stage"]
        self._progress(stage)
        try:
            yield
            self._progress(before)
        finally:
            self.last_step_end = 0.0  # what was between two steps is not a step's time

    def begin(self, record: StepRecord) -> None:
        """The first step is compiled."""
        self.beat["step"] = record.step
        self.enter("compiling")

    def after_step(self, record: StepRecord) -> None:
        """The training got on."""
        now = time.monotonic()
        if self.last_step_end:
            self.step_seconds.append(now - self.last_step_end)
            self.beat["step_s"] = round(statistics.median(self.step_seconds), 6)
        self.last_step_end = now
        self.beat["step"] = record.step
        self._progress("training")
        if time.time() - self.beat["time"] > LEAST_INTERVAL_S:
            self._write()

    def rewind(self, record: StepRecord) -> None:
        """The run goes on from an earlier step."""
        self.beat["step"] = record.step
        self._progress("training")

    def end(self) -> None:
        """The last beat."""
        if self.beat["stage"] not in ENDED:
            self._progress("finished" if sys.exc_info()[0] is None else "failed")
        self.over.set()
        self.thread.join()
        self._write()

    def _progress(self, stage: Stage) -> None:
        self.beat["stage"], self.beat["progress"] = stage, round(time.time(), 3)

    def _go_on(self) -> None:
        while not self.over.wait(INTERVAL_S):
            self._write()

    def _write(self) -> None:
        with self.lock:
            self.beat["time"] = round(time.time(), 3)
            write_beat(self.path, self.beat)


class Staged(Callback):
    """Another callback, whose work is a stage of its own: it may take longer than a step."""

    def __init__(self, heartbeat: Heartbeat, stage: Stage, callback: Callback):
        self.heartbeat, self.stage, self.callback = heartbeat, stage, callback

    def begin(self, record: StepRecord) -> None:
        """Passes it on."""
        with self.heartbeat.during(self.stage):
            self.callback.begin(record)

    def after_step(self, record: StepRecord) -> None:
        """Passes it on."""
        with self.heartbeat.during(self.stage):
            self.callback.after_step(record)

    def rewind(self, record: StepRecord) -> None:
        """Passes it on."""
        self.callback.rewind(record)

    def end(self) -> None:
        """Passes it on."""
        with self.heartbeat.during(self.stage):
            self.callback.end()


def heartbeat_path(run_folder: Path, rank: int) -> Path:
    """Where a rank's sign of life is."""
    return run_folder / FOLDER / f"rank-{rank:05d}.json"


def first_beat(rank: int) -> dict[str, Any]:
    """A process that has just begun."""
    now = round(time.time(), 3)
    place = {"rank": rank, "host": socket.gethostname(), "pid": os.getpid()}
    return {"time": now, "progress": now, **place, "stage": "connecting", "step": 0}


def write_beat(path: Path, beat: dict[str, Any]) -> None:
    """Replaces the file. Not flushed to disk, and a full disk is no reason to end a run: the beat is then missing."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(beat), encoding="utf-8")
        os.replace(partial, path)


def read_beats(run_folder: Path) -> dict[int, dict[str, Any]]:
    """Rank -> its last beat, in the order of ranks."""
    beats = {}
    for path in sorted((run_folder / FOLDER).glob("rank-*.json")):
        with contextlib.suppress(UserError, KeyError, TypeError):  # being deleted, or cut by a crash of the machine
            beat = read_json(path)
            beats[int(beat["rank"])] = beat
    return beats
