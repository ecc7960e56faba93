"""What a callback is."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class StepRecord:
    """One step's figures; callbacks add theirs, and later ones write what earlier ones added."""

    step: int
    """Steps done, this one included; 0 before the first."""
    values: dict[str, Any] = field(default_factory=dict)
    applied: bool = True
    """Whether the weights were changed."""
    stops: bool = False
    """Whether the run stops after this step, before its last."""


class Callback:
    """Does one thing beside the training loop. All hooks are optional."""

    def begin(self, record: StepRecord) -> None:
        """Before the first step of this process; record.step is 0, or where a resumed run goes on."""

    def after_step(self, record: StepRecord) -> None:
        """After every step."""

    def rewind(self, record: StepRecord) -> None:
        """The run has gone back to record.step."""

    def end(self) -> None:
        """After the last step, also when an error ends the run."""
