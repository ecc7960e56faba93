"""How often each document is taken, so that languages or sources reach given shares of the tokens.

Covers: sampling below one epoch by a hash, repetition of whole groups up to a limit, groups that stay short of their
share.
Does not cover: curricula; the order of rows is the loader's, and the shares hold over a whole epoch of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mindgeex.common.errors import UserError

OTHERS = "*"


@dataclass(frozen=True)
class Mixture:
    """Shares of the training tokens. Without weights every document is taken once."""

    by: Literal["language", "source"] = "language"
    """What the weights name."""

    weights: dict[str, float] = field(default_factory=dict)
    """Name -> weight; only their ratios matter. `*` is all others together, spread by what they have; without it, what
    has no weight is not taken."""

    target_tokens: int | None = None
    """Tokens of an epoch, EODs counted; None: as many as the weights allow without taking any document twice."""

    max_epochs: float = 4.0
    """How often a group that has less than its share may be repeated; up to four times costs little (Muennighoff et
    al., "Scaling Data-Constrained Language Models", arXiv 2305.16264)."""

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise UserError(f"mixture.weights.{name}={weight}: must be at least 0")
        if self.weights and not any(self.weights.values()):
            raise UserError("mixture.weights: all are 0, so nothing would be taken: give one a weight")
        if self.target_tokens is not None and self.target_tokens < 1:
            raise UserError(f"mixture.target_tokens={self.target_tokens}: must be at least 1")
        if self.target_tokens is not None and not self.weights:
            raise UserError(
                f"mixture.target_tokens={self.target_tokens} needs weights: `weights: {{'*': 1}}` keeps today's shares"
            )
        if not (math.isfinite(self.max_epochs) and self.max_epochs > 0):
            raise UserError(f"mixture.max_epochs={self.max_epochs}: must be above 0")


def choose(
    groups: np.ndarray, names: Sequence[str], tokens: np.ndarray, order_hash: np.ndarray, mixture: Mixture
) -> tuple[np.ndarray, dict[str, Any]]:
    """How often each of N documents is taken.

    Args:
        groups: [N], number of each document's group.
        names: of the groups.
        tokens: [N], of each document.
        order_hash: float64 [N]; a group's documents with the lowest go first where not all are taken.
        mixture: the shares.

    Returns:
        int64 [N], 0, 1, 2 ...; and a summary for the manifest: `target_tokens`, `tokens`, `short` (names of groups that
        stayed behind their share at `max_epochs`, or have no documents), and of each group `share`, `available_tokens`,
        `wanted_tokens`, `tokens`, `epochs`. Empty without weights.

    Raises:
        UserError: no group with a weight has documents.
    """
    if not mixture.weights:
        return np.ones(len(groups), np.int64), {}
    available = np.bincount(groups, tokens, minlength=len(names)).astype(np.int64)
    shares = _shares(names, available, mixture)
    target: float
    if mixture.target_tokens is None:
        target = min(int(have) / share for have, share in zip(available, shares, strict=True) if share)
    else:
        target = mixture.target_tokens
    times = np.zeros(len(groups), np.int64)
    about: dict[str, dict[str, Any]] = {}
    short = []
    for number, name in enumerate(names):
        have, wanted = int(available[number]), round(target * shares[number])
        limit = min(wanted, math.floor(mixture.max_epochs * have))
        members = np.flatnonzero(groups == number)
        times[members] = _times(tokens[members], order_hash[members], limit)
        taken = int((times[members] * tokens[members]).sum())
        if limit < wanted or (not have and mixture.weights.get(name)):
            short.append(name)
        if have or name in mixture.weights:
            about[name] = {
                "share": round(shares[number], 6), "available_tokens": have, "wanted_tokens": wanted, "tokens": taken,
                "epochs": round(taken / have, 4) if have else 0.0,
            }  # fmt: skip
    total = sum(group["tokens"] for group in about.values())
    return times, {"target_tokens": round(target), "tokens": total, "short": short, "groups": about}


def _shares(names: Sequence[str], available: np.ndarray, mixture: Mixture) -> list[float]:
    """Of each group that has tokens; they add up to 1."""
    others = int(sum(have for name, have in zip(names, available, strict=True) if name not in mixture.weights))
    weights = []
    for name, have in zip(names, available.tolist(), strict=True):
        if name in mixture.weights:
            weights.append(mixture.weights[name] if have else 0.0)
        else:
            weights.append(mixture.weights.get(OTHERS, 0.0) * have / others if have else 0.0)
    total = math.fsum(weights)
    if not total:
        raise UserError(f"mixture.weights: nothing is left of {', '.join(mixture.weights)}: weight what the corpus has")
    return [weight / total for weight in weights]


def _times(tokens: np.ndarray, order_hash: np.ndarray, limit: int) -> np.ndarray:
    """Everything as often as the limit allows, then those with the lowest hashes that still fit below it."""
    have = int(tokens.sum())
    if not have:
        return np.zeros(len(tokens), np.int64)
    whole, rest = divmod(limit, have)
    times = np.full(len(tokens), whole, np.int64)
    order = np.argsort(order_hash, kind="stable")
    times[order[np.cumsum(tokens[order]) <= rest]] += 1
    return times
