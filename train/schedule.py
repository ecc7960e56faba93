"""Learning rates as pure functions of the step, so that a resumed run needs no state for them."""

import math
from dataclasses import dataclass

from mindgeex.common.errors import UserError


@dataclass(frozen=True)
class ScheduleConfig:
    """Linear warm-up, then half a cosine."""

    peak: float
    """Learning rate at the end of the warm-up."""
    final: float
    """Learning rate at `decay_steps` and after."""
    warmup_steps: int
    decay_steps: int
    """Length of the cosine, counted from step 0: as published, it is not shifted by the warm-up."""

    def __post_init__(self) -> None:
        if not 0 <= self.final <= self.peak:
            raise UserError(f"schedule.final={self.final} must be between 0 and schedule.peak={self.peak}")
        if self.warmup_steps < 0 or self.decay_steps < 1:
            raise UserError(
                f"schedule.warmup_steps={self.warmup_steps} must be at least 0 and "
                f"schedule.decay_steps={self.decay_steps} at least 1"
            )


def learning_rate(config: ScheduleConfig, step: int) -> float:
    """The learning rate of step 0, 1, ...

    Source: CodeGeeX, codegeex/mindspore/src/utils.py, LearningRate. Warm-up gives peak * (step + 1) / warmup_steps.
    """
    if step < config.warmup_steps:
        return config.peak * (step + 1) / config.warmup_steps
    share = min(step, config.decay_steps) / config.decay_steps
    return config.final + (config.peak - config.final) * 0.5 * (1.0 + math.cos(math.pi * share))
