"""A checkpoint every so many steps and after the last, written beside the next steps."""

import threading
from pathlib import Path

from mindgeex.train import checkpointing
from mindgeex.train.callbacks.base import Callback, StepRecord
from mindgeex.train.config import CadenceConfig
from mindgeex.train.events import write_event


class Checkpoint(Callback):
    """Publishes RUN/checkpoints/step-...; must come after the callbacks that write the step's record."""

    def __init__(self, run_folder: Path, state: checkpointing.TrainState, cadence: CadenceConfig, total_steps: int):
        self.run_folder, self.folder = run_folder, run_folder / "checkpoints"
        self.state, self.cadence, self.total_steps = state, cadence, total_steps
        self.writer: threading.Thread | None = None
        self.error: BaseException | None = None
        self.is_due = False

    def after_step(self, record: StepRecord) -> None:
        """At the cadence (after a step that was skipped, with the next that is not), when stopping, and at the end."""
        is_last = record.stops or record.step == self.total_steps
        self.is_due |= record.step % self.cadence.checkpoint_steps == 0
        if is_last or (self.is_due and record.applied):
            self.save()
        elif self.error is not None:
            self.wait()

    def save(self) -> None:
        """Copies the state and begins to write the copy, when the one before is written."""
        self.wait()
        self.is_due = False
        snapshot = self.state.snapshot()
        self.writer = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint writer")
        self.writer.start()

    def wait(self) -> None:
        """Waits for the copy that is being written.

        Raises:
            UserError: it could not be written.
        """
        if self.writer is not None:
            self.writer.join()
            self.writer = None
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def rewind(self, record: StepRecord) -> None:
        """What was due is no more."""
        self.is_due = False

    def end(self) -> None:
        """Waits."""
        self.wait()

    def _write(self, snapshot: checkpointing.TrainState) -> None:
        try:
            path = checkpointing.save(
                self.folder, snapshot, self.cadence.keep_checkpoints, self.cadence.keep_every_steps
            )
            write_event(self.run_folder, snapshot.progress.step, "checkpoint", str(path))
        except BaseException as error:  # noqa: BLE001  raised in the thread that trains
            self.error = error
