"""How a continuation is chosen: the settings, and what values they may have.

Covers: greedy, temperature, top-k, top-p, repetition penalty, beams. Does not cover: presence and frequency penalties,
beams that sample. choice.py and beams.py apply them; this file imports nothing big, so that a command's help can show
them.
"""

import math
from dataclasses import dataclass

from mindgeex.common.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and how many there may be."""

    temperature: float = 0.8
    """0 takes the most likely token; higher is more varied."""
    top_k: int = 0
    """Only the k most likely tokens; 0 is all."""
    top_p: float = 0.95
    """Only the most likely tokens that together reach this probability; 1 is all."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens less likely that the prompt or the continuation already has; 1 is off."""
    max_new_tokens: int = 128
    """Tokens a continuation has at the most."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature is {self.temperature}: it must be a number of at least 0 (0 is greedy)")
        if self.top_k < 0:
            raise UserError(f"top-k is {self.top_k}: it must be at least 0 (0 is all tokens)")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top-p is {self.top_p}: it must be greater than 0 and at most 1")
        _check_penalty(self.repetition_penalty)
        _check_positive("max-new-tokens", self.max_new_tokens)


@dataclass(frozen=True)
class Beams:
    """How beam search goes; nothing in it is random."""

    num_beams: int = 4
    """Continuations that are followed at once."""
    num_return: int = 1
    """The best so many of them are the answer."""
    length_penalty: float = 1.0
    """A continuation of n tokens scores its log-probability / n^penalty: above 0 favours long ones, 0 is the sum."""
    early_stopping: bool = False
    """Ends when num_beams continuations are complete, without asking whether a better one may follow."""
    repetition_penalty: float = 1.0
    """As for Sampling, on log-probabilities."""
    max_new_tokens: int = 128
    """Tokens a continuation has at the most."""

    def __post_init__(self) -> None:
        _check_positive("num-beams", self.num_beams)
        _check_positive("num-return", self.num_return)
        if self.num_return > self.num_beams:
            raise UserError(f"num-return is {self.num_return}: at most num-beams, which is {self.num_beams}")
        if not math.isfinite(self.length_penalty):
            raise UserError(f"length-penalty is {self.length_penalty}: it must be a number (0 is off)")
        _check_penalty(self.repetition_penalty)
        _check_positive("max-new-tokens", self.max_new_tokens)


def _check_penalty(value: float) -> None:
    if not 0 < value < math.inf:
        raise UserError(f"repetition-penalty is {value}: it must be a number greater than 0 (1 is off, 1.2 is usual)")


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise UserError(f"{name} is {value}: it must be at least 1")
