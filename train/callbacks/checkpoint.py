"""A checkpoint every so many steps and after the last."""

from pathlib import Path

from mindgeex.train import checkpointing
from mindgeex.train.callbacks.base import Callback, StepRecord
from mindgeex.train.config import CadenceConfig


class Checkpoint(Callback):
    """Publishes RUN/checkpoints/step-...; must come after the callbacks that write the step's record."""

    def __init__(self, run_folder: Path, state: checkpointing.TrainState, cadence: CadenceConfig, total_steps: int):
        self.folder = run_folder / "checkpoints"
        self.state, self.cadence, self.total_steps = state, cadence, total_steps

    def after_step(self, record: StepRecord) -> None:
        """At the cadence and at the end."""
        if record.step % self.cadence.checkpoint_steps == 0 or record.step == self.total_steps:
            self.state.step = record.step
            checkpointing.save(self.folder, self.state, self.cadence.keep_checkpoints)
