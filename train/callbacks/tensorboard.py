"""The same figures as metrics.jsonl, for TensorBoard."""

from pathlib import Path
from typing import Any

from mindgeex.train.callbacks.base import Callback, StepRecord


class TensorBoard(Callback):
    """Writes scalars below RUN/tensorboard."""

    def __init__(self, run_folder: Path):
        self.folder = run_folder / "tensorboard"
        self.writer: Any = None

    def begin(self, record: StepRecord) -> None:
        """Opens an event file; a resumed run hides the steps that it does again."""
        # tensorboardX loads google.protobuf, which must not come before mindspore.
        import mindspore  # noqa: F401
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(self.folder), purge_step=record.step + 1 if record.step else None)
        self._write(record)

    def after_step(self, record: StepRecord) -> None:
        """One scalar a figure."""
        self._write(record)

    def end(self) -> None:
        """Flushes and closes the event file."""
        if self.writer is not None:
            self.writer.close()

    def _write(self, record: StepRecord) -> None:
        for name, value in record.values.items():
            self.writer.add_scalar(name, value, record.step)
