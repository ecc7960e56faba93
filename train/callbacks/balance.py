"""Tells the data's balance of tasks each held-out loss, so that it may weigh them anew."""

from typing import TYPE_CHECKING

from mindgeex.train.callbacks.base import Callback, StepRecord
from mindgeex.train.checkpointing import TrainState

if TYPE_CHECKING:
    from mindgeex.train.run_data import RunData


class Balance(Callback):
    """Must come behind the evaluation, and before what saves."""

    def __init__(self, data: "RunData", state: TrainState):
        self.data, self.state = data, state

    def begin(self, record: StepRecord) -> None:
        """The losses before training are the first."""
        self.after_step(record)

    def after_step(self, record: StepRecord) -> None:
        """Passes on what was measured."""
        if losses := record.values.get("heldout_loss"):
            self.data.observe(record.step, losses)
            self.state.progress.feed = self.data.state()
