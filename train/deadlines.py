"""How long the workers of a supervised run may take, stage by stage (callbacks/heartbeat.py names the stages)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mindgeex.train.callbacks.heartbeat import ENDED


@dataclass(frozen=True)
class Deadlines:
    """How long a worker may go without progress."""

    meeting_s: float = 300.0
    """From its start until all workers have met, by MindSpore's own watch."""
    connecting_s: float = 3600.0
    """From its start until the others and the data are there."""
    loading_s: float = 3600.0
    """The model, and the checkpoint to go on from."""
    compiling_s: float = 3600.0
    """The first step."""
    evaluating_s: float = 3600.0
    saving_s: float = 3600.0
    training_s: float = 300.0
    """A step, at least ..."""
    training_medians: float = 20.0
    """... and at least so many times the median step."""
    leaving_s: float = 60.0
    """From the last word of the training until the process is gone."""
    killing_s: float = 10.0
    """From SIGTERM to SIGKILL, where another worker has failed."""
    answering_s: float = 60.0
    """How long a host may be silent, or out of the first one's reach; so long cut off, it ends its workers itself."""
    reaching_s: float = 180.0
    """From the start until a host answers for the first time."""

    def of(self, beat: Mapping[str, Any]) -> float:
        """The seconds that a worker has in its present stage."""
        stage = beat.get("stage", "connecting")
        if stage in ENDED:
            return self.leaving_s
        if stage == "training":
            return max(self.training_s, self.training_medians * beat.get("step_s", 0.0))
        return float(getattr(self, f"{stage}_s"))
