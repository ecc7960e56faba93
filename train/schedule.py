"""Learning rates as pure functions of the step, so that a resumed run needs no state for them."""

import math
from dataclasses import dataclass

from mindgeex.common.errors import UserError, did_you_mean

KINDS = ("cosine", "linear", "constant", "wsd")


@dataclass(frozen=True)
class ScheduleConfig:
    """Linear warm-up, then one of four curves from `peak` to `final`."""

    peak: float
    """Learning rate at the end of the warm-up."""
    final: float
    """Learning rate at `decay_steps` and after; constant does not use it."""
    warmup_steps: int
    decay_steps: int
    """Step at which `final` is reached, counted from step 0: as published, the cosine is not shifted by the warm-up."""
    kind: str = "cosine"
    """cosine (half a cosine over `decay_steps`, as published), linear (from the end of the warm-up), constant, or wsd
    (warm-up, stable, decay: at `peak` until `stable_share` of `decay_steps`, then linear)."""
    stable_share: float = 0.8
    """wsd: the share of `decay_steps` that lies before the decay."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"schedule.kind is {self.kind!r}{did_you_mean(self.kind, KINDS)}")
        if not 0 <= self.final <= self.peak or not math.isfinite(self.peak):
            raise UserError(f"schedule.final={self.final} must be between 0 and schedule.peak={self.peak}")
        if self.warmup_steps < 0 or self.decay_steps < 1:
            raise UserError(
                f"schedule.warmup_steps={self.warmup_steps} must be at least 0 and "
                f"schedule.decay_steps={self.decay_steps} at least 1"
            )
        if not 0 <= self.stable_share < 1:
            raise UserError(f"schedule.stable_share is {self.stable_share}: it must be at least 0 and below 1")


def learning_rate(config: ScheduleConfig, step: int) -> float:
    """The learning rate of step 0, 1, ...

    Sources: warm-up (peak * (step + 1) / warmup_steps) and cosine: CodeGeeX, codegeex/mindspore/src/utils.py,
    LearningRate; wsd: Hu et al. 2024 (MiniCPM), section 4, with a linear decay.
    """
    if step < config.warmup_steps:
        return config.peak * (step + 1) / config.warmup_steps
    if config.kind == "constant":
        return config.peak
    step = min(step, config.decay_steps)
    if config.kind == "cosine":
        return config.final + (config.peak - config.final) * 0.5 * (1.0 + math.cos(math.pi * step / config.decay_steps))
    start = config.warmup_steps if config.kind == "linear" else config.stable_share * config.decay_steps
    share = (step - start) / (config.decay_steps - start) if config.decay_steps > start else 1.0
    return config.peak + (config.final - config.peak) * min(1.0, max(0.0, share))
