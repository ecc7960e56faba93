"""What LoRA adds to which layers (lora.py); readable without MindSpore."""

import math
from dataclasses import dataclass

from mindgeex.common.errors import UserError, did_you_mean

TARGETS = ("query", "key", "value", "output", "up", "down", "head")
"""Names of linear layers: four of attention, two of the feed-forward layer, GPT-NeoX's head."""


@dataclass(frozen=True)
class LoraConfig:
    """What is added to which layers."""

    rank: int = 8
    """Width of the addition; its parameters are rank x (in + out) a layer."""
    alpha: float = 16.0
    """The addition is scaled by alpha / rank, so that another rank needs no other learning rate."""
    targets: tuple[str, ...] = ("query", "value")
    """Which layers: query, key, value, output (attention), up, down (feed-forward), head (gpt_neox)."""
    dropout: float = 0.0
    """Share of a layer's input that its addition does not see in training; every layer drops its own."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UserError(f"lora.rank is {self.rank}: it must be at least 1")
        if not 0 < self.alpha < math.inf:
            raise UserError(f"lora.alpha is {self.alpha}: it must be a number greater than 0")
        if not 0 <= self.dropout < 1:
            raise UserError(f"lora.dropout is {self.dropout}: it must be at least 0 and less than 1")
        if not self.targets:
            raise UserError(f"lora.targets is empty: name at least one of {', '.join(TARGETS)}")
        for target in self.targets:
            if target not in TARGETS:
                raise UserError(f"lora.targets has {target!r}{did_you_mean(target, TARGETS)}")

    @property
    def scale(self) -> float:
        """What the addition is multiplied with."""
        return self.alpha / self.rank
