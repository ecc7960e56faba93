"""How the next token is chosen: greedy, temperature, top-k, top-p."""

# Shapes: V vocabulary
import math
from dataclasses import dataclass

import numpy as np

from mindgeex.common.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen."""

    temperature: float = 0.8
    """0 takes the most likely token."""
    top_k: int = 0
    """Only the k most likely tokens; 0 is all."""
    top_p: float = 0.95
    """Only the most likely tokens that together reach this probability; 1 is all."""
    max_new_tokens: int = 128

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature is {self.temperature}: it must be a number of at least 0 (0 is greedy)")
        if self.top_k < 0:
            raise UserError(f"top-k is {self.top_k}: it must be at least 0 (0 is all tokens)")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top-p is {self.top_p}: it must be greater than 0 and at most 1")
        if self.max_new_tokens < 1:
            raise UserError(f"max-new-tokens is {self.max_new_tokens}: it must be at least 1")


def choose(logits_V: np.ndarray, sampling: Sampling, generator: np.random.Generator) -> int:
    """The next token's id.

    Top-k keeps the k largest logits, then top-p the smallest set of most likely tokens whose probability reaches p
    (Holtzman et al. 2020); the rest is renormalised.
    """
    if sampling.temperature == 0:
        return int(np.argmax(logits_V))
    scaled_V = logits_V.astype(np.float64) / sampling.temperature
    order = np.argsort(-scaled_V, kind="stable")
    if sampling.top_k:
        order = order[: sampling.top_k]
    probabilities = np.exp(scaled_V[order] - scaled_V[order[0]])
    probabilities /= probabilities.sum()
    cumulative = np.cumsum(probabilities)
    kept = int(np.searchsorted(cumulative, sampling.top_p)) + 1
    kept = min(kept, len(order))
    drawn = np.searchsorted(cumulative[:kept], generator.random() * cumulative[kept - 1], side="right")
    return int(order[min(drawn, kept - 1)])
