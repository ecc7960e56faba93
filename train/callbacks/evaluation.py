"""The held-out loss, before the first step, every so many steps, and after the last."""

from mindgeex.train.callbacks.base import Callback, StepRecord
from mindgeex.train.evaluation import Evaluator


class Evaluation(Callback):
    """Adds `heldout_bits_per_byte` to the records of the steps at which it is measured."""

    def __init__(self, evaluator: Evaluator, evaluate_steps: int, total_steps: int):
        self.evaluator, self.evaluate_steps, self.total_steps = evaluator, evaluate_steps, total_steps

    def begin(self, record: StepRecord) -> None:
        """Before training; a resumed run has this figure already."""
        if record.step == 0:
            record.values["heldout_bits_per_byte"] = self.evaluator.bits_per_byte()

    def after_step(self, record: StepRecord) -> None:
        """At the cadence and at the end."""
        if record.step % self.evaluate_steps == 0 or record.step == self.total_steps:
            record.values["heldout_bits_per_byte"] = self.evaluator.bits_per_byte()
