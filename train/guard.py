"""Watches loss and gradient norm, and decides about steps that are broken or stand out.

A step whose loss or norm is not a number would break the weights; one whose loss or norm is far above those of the last
steps (a spike) may. Either is kept, skipped (its rows are behind us, the weights stay), or answered by a rollback: the
run goes back to its last checkpoint and goes on behind the rows seen since (Chowdhery et al. 2022, PaLM, section 5.1).

What is judged here depends on the figures of earlier steps only, and those travel with the checkpoints: a run that is
killed and resumed decides as it would have.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mindgeex.common.errors import UserError, did_you_mean

ACTIONS = ("keep", "skip", "rollback", "stop")
Action = Literal["keep", "skip", "rollback", "stop"]


@dataclass(frozen=True)
class GuardConfig:
    """What to do about steps that are broken or stand out."""

    on_not_finite: str = "skip"
    """Loss or gradient norm is not a finite number: skip, rollback, or stop."""
    on_spike: str = "keep"
    """Loss or gradient norm is far above what it was: keep (it is only noted), skip, rollback, or stop."""
    window: int = 128
    """Applied steps that a step is compared with; the first so many are not judged."""
    loss_deviations: float = 6.0
    """A loss so many standard deviations above the window's mean is a spike."""
    norm_factor: float = 10.0
    """A gradient norm so many times the window's median is a spike."""
    limit: int = 8
    """Steps in a row that may be skipped, and rollbacks to the same checkpoint; then the run stops."""

    def __post_init__(self) -> None:
        for name, actions in (("on_not_finite", ACTIONS[1:]), ("on_spike", ACTIONS)):
            value = getattr(self, name)
            if value not in actions:
                raise UserError(f"guard.{name} is {value!r}{did_you_mean(value, actions)}: one of {', '.join(actions)}")
        if self.window < 2 or self.limit < 1 or not self.loss_deviations > 0 or not self.norm_factor > 1:
            raise UserError(
                f"guard: window={self.window} must be at least 2, limit={self.limit} at least 1, "
                f"loss_deviations={self.loss_deviations} above 0 and norm_factor={self.norm_factor} above 1"
            )


@dataclass(frozen=True)
class Verdict:
    """What to do about a step, and why."""

    action: Action
    reason: str = ""


class Guard:
    """Judges one step after the other."""

    def __init__(self, config: GuardConfig):
        self.config = config
        self.losses: deque[float] = deque(maxlen=config.window)
        self.norms: deque[float] = deque(maxlen=config.window)
        self.skipped_in_a_row = 0
        self.rollbacks: dict[int, int] = {}
        """Step of a checkpoint -> how often this process has gone back to it."""

    def limits(self) -> tuple[float, float]:
        """Loss and gradient norm above which a step is a spike; infinite until there is a window to compare with."""
        if len(self.losses) < self.config.window:
            return math.inf, math.inf
        losses = np.array(self.losses)
        loss = float(losses.mean() + self.config.loss_deviations * losses.std())
        norm = self.config.norm_factor * np.median(self.norms)
        return float(np.float32(loss)), float(np.float32(norm))  # the step compares in float32

    def enforced(self) -> tuple[float, float]:
        """The limits beyond which the step itself is to change nothing."""
        return (math.inf, math.inf) if self.config.on_spike == "keep" else self.limits()

    def judge(self, loss: float, grad_norm: float) -> Verdict:
        """What to do about a step with these figures; those of a step that is kept are remembered."""
        verdict = self._verdict(loss, grad_norm)
        if verdict.action == "keep":
            self.losses.append(loss)
            self.norms.append(grad_norm)
            self.skipped_in_a_row = 0
        elif verdict.action == "skip":
            self.skipped_in_a_row += 1
            if self.skipped_in_a_row > self.config.limit:
                return Verdict("stop", f"{verdict.reason}, the {self.skipped_in_a_row}th step in a row that is skipped")
        return verdict

    def rolled_back(self, step: int) -> None:
        """After a rollback to a checkpoint.

        Raises:
            UserError: too often to the same one.
        """
        self.rollbacks[step] = self.rollbacks.get(step, 0) + 1
        if self.rollbacks[step] > self.config.limit:
            raise UserError(
                f"rolled back to step {step} more than guard.limit={self.config.limit} times: lower schedule.peak, or "
                "go on from an earlier checkpoint"
            )

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"losses": list(self.losses), "norms": list(self.norms), "skipped_in_a_row": self.skipped_in_a_row}

    def restore(self, state: dict[str, Any]) -> None:
        """Back to what `state` gave."""
        self.losses.clear()
        self.norms.clear()
        self.losses.extend(state["losses"])
        self.norms.extend(state["norms"])
        self.skipped_in_a_row = int(state["skipped_in_a_row"])

    def _verdict(self, loss: float, grad_norm: float) -> Verdict:
        on_not_finite, on_spike = self.config.on_not_finite, self.config.on_spike
        for name, value in (("loss", loss), ("gradient norm", grad_norm)):
            if not math.isfinite(value):
                return Verdict(on_not_finite, f"the {name} is {value}")  # type: ignore[arg-type]
        for name, value, limit in zip(("loss", "gradient norm"), (loss, grad_norm), self.limits(), strict=True):
            if value > limit:
                return Verdict(on_spike, f"the {name} {value:.4g} is above {limit:.4g}")  # type: ignore[arg-type]
        return Verdict("keep")
