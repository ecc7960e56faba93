"""Dynamic loss scale: float16 gradients are computed of a multiple of the loss, as large as they can bear.

Source: Micikevicius et al. 2018, "Mixed Precision Training", section 3.2; start, factor and window as CodeGeeX's
(codegeex/mindspore/train.py). Whether a step overflowed is read off the loss and the gradient norm, which
works on every device.
"""

from dataclasses import dataclass

from mindgeex.common.errors import UserError


@dataclass(frozen=True)
class LossScaleConfig:
    """Of float16; with float32 and bfloat16 the scale stays at 1."""

    start: float = 2.0**32
    factor: float = 2.0
    """Divides the scale after an overflow, and multiplies it after `window` steps without one."""
    window: int = 1000
    lowest: float = 1.0
    """A step that is not finite at this scale is not an overflow, but a broken one."""

    def __post_init__(self) -> None:
        if not self.factor > 1 or not 0 < self.lowest <= self.start or self.window < 1:
            raise UserError(
                f"loss_scale: start={self.start}, factor={self.factor}, window={self.window}, lowest={self.lowest}: "
                "factor must be greater than 1, window at least 1, and 0 < lowest <= start"
            )


@dataclass
class LossScale:
    """The scale of the next step; a checkpoint holds both fields."""

    value: float = 1.0
    good_steps: int = 0
    """Steps without overflow since the scale last changed."""

    def can_shrink(self, config: LossScaleConfig) -> bool:
        """Whether a step that is not finite may be laid to the scale."""
        return self.value > config.lowest

    def overflowed(self, config: LossScaleConfig) -> None:
        """After a step that is skipped because it was not finite."""
        self.value, self.good_steps = max(config.lowest, self.value / config.factor), 0

    def went_well(self, config: LossScaleConfig) -> None:
        """After a step that was applied. A scale that is not dynamic (1 from the start) stays."""
        self.good_steps += 1
        if self.good_steps == config.window:
            self.value, self.good_steps = self.value * config.factor, 0
