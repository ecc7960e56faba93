"""The same figures as metrics.jsonl, for TensorBoard.

Events are written by this thread, not by the queue of tensorboardX's SummaryWriter: its thread dies on a full disk, and
the run would wait for it for ever.
"""

import contextlib
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mindgeex.common.files import disk_errors
from mindgeex.train.callbacks.base import Callback, StepRecord

FLUSH_INTERVAL_S = 10.0
"""Seconds between two moments at which the event file is forced to the disk."""


class TensorBoard(Callback):
    """Writes scalars below RUN/tensorboard."""

    def __init__(self, run_folder: Path):
        self.folder = run_folder / "tensorboard"
        self.writer: Any = None
        self.flushed = 0.0

    def begin(self, record: StepRecord) -> None:
        """Opens an event file; a resumed run hides the steps that it does again."""
        # tensorboardX loads google.protobuf, which must not come before mindspore.
        import mindspore  # noqa: F401

        with _without_torch():
            from tensorboardX.event_file_writer import EventsWriter

        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.writer = EventsWriter(str(self.folder / "events"))
        if record.step:
            self.rewind(record)
        self._write(record)

    def after_step(self, record: StepRecord) -> None:
        """One scalar a figure."""
        self._write(record)

    def rewind(self, record: StepRecord) -> None:
        """Hides the steps that are no more."""
        from tensorboardX.proto.event_pb2 import SessionLog

        self._put(record.step + 1, session_log=SessionLog(status=SessionLog.START))

    def end(self) -> None:
        """Flushes and closes the event file."""
        if self.writer is not None:
            with disk_errors(self.folder):
                self.writer.close()

    def _write(self, record: StepRecord) -> None:
        from tensorboardX.summary import scalar

        for name, value in _flat(record.values):
            self._put(record.step, summary=scalar(name, value))
        if time.monotonic() - self.flushed > FLUSH_INTERVAL_S:
            with disk_errors(self.folder):
                self.writer.flush()
            self.flushed = time.monotonic()

    def _put(self, step: int, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        with disk_errors(self.folder):
            self.writer.write_event(Event(wall_time=time.time(), step=step, **what))


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """PyTorch, which tensorboardX loads where it is installed, costs a second and brings threads, and is not needed."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Figures by name; those of a group as `group/name`."""
    for name, value in values.items():
        if isinstance(value, dict):  # tensorboardX warns of other characters, as in objective-c++
            yield from ((f"{name}/" + re.sub(r"[^-/.\w]", "_", key), inner) for key, inner in value.items())
        else:
            yield name, value
