"""The held-out figures, before the first step, every so many steps, and after the last."""

from mindgeex.train.callbacks.base import Callback, StepRecord
from mindgeex.train.evaluation import Evaluator, Reduce


class Evaluation(Callback):
    """Adds `heldout_bits_per_byte` and the figures by language to the records of the steps at which it is measured."""

    def __init__(
        self,
        evaluator: Evaluator,
        evaluate_steps: int,
        total_steps: int,
        rank: int = 0,
        world: int = 1,
        reduce: Reduce = lambda nats_R: nats_R,
    ):
        self.evaluator, self.evaluate_steps, self.total_steps = evaluator, evaluate_steps, total_steps
        self.rank, self.world, self.reduce = rank, world, reduce

    def begin(self, record: StepRecord) -> None:
        """Before training; a resumed run has these figures already."""
        if record.step == 0:
            self._measure(record)

    def after_step(self, record: StepRecord) -> None:
        """At the cadence and at the end."""
        if record.step % self.evaluate_steps == 0 or record.step == self.total_steps:
            self._measure(record)

    def _measure(self, record: StepRecord) -> None:
        record.values.update(self.evaluator.scores(self.rank, self.world, self.reduce))
