"""Figures over problems: pass@k, means with standard errors and bootstrap intervals, two runs compared pairwise.

Covers: the spread over problems of the same kind. Does not cover: the spread over other samples of the same model,
which is part of it and not told apart; correction for comparing many pairs of runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
SEED = 20_230_330
"""Every interval is drawn from the same seed, so that the same results always give the same page."""

MCNEMAR, SIGNS = "McNemar", "randomisation"


@dataclass(frozen=True)
class Estimate:
    """A mean over problems."""

    mean: float
    """Between 0 and 1."""
    standard_error: float
    """Over the problems: how far the mean would move with other problems of the same kind; 0 for a single problem."""
    problems: int
    low: float
    """Lower end of the bootstrap interval, which holds 95 % of the means of resampled problems."""
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same problems: the second minus the first."""

    difference: float
    standard_error: float
    """Of the difference, over problems; smaller than that of two separate means where both find the same ones hard."""
    low: float
    """Lower end of the 95 % bootstrap interval of the difference."""
    high: float
    p_value: float
    """How often random signs of the differences give one as large, if the runs were alike (two-sided)."""
    method: str
    """Of the p-value: MCNEMAR, the exact test, where every value is 0 or 1, else SIGNS, at random."""
    better: int
    """Problems on which the second run scores more."""
    worse: int
    problems: int


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The probability that at least one of k samples, drawn without replacement, is correct.

    The unbiased estimator 1 - C(n - c, k) / C(n, k) of Chen et al., "Evaluating Large Language Models Trained on
    Code" (2021), section 2.1, as a product of factors between 0 and 1, so that nothing overflows.

    Args:
        samples: n, drawn from the model.
        correct: c, how many of them passed.
        k: at most n.

    Raises:
        ValueError: the three do not fit together.
    """
    if not 0 <= correct <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {correct} correct among {samples} samples is not defined")
    if samples - correct < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / count for count in range(samples - correct + 1, samples + 1))


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value a problem, such as its pass@k.

    Args:
        values: each between 0 and 1, at least one.
    """
    low, high = bootstrap(values)
    return Estimate(math.fsum(values) / len(values), _standard_error(values), len(values), low, high)


def bootstrap(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """The interval that holds `level` of the means of problems drawn again with replacement (percentile bootstrap).

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
    """
    drawn = np.random.default_rng(SEED)
    data = np.asarray(values, dtype=np.float64)
    # In slices, so that 10,000 resamples of a large benchmark take no more memory than of a small one.
    rows = max(1, 2_000_000 // len(data))
    means = [
        data[drawn.integers(0, len(data), (min(rows, RESAMPLES - start), len(data)))].mean(axis=1)
        for start in range(0, RESAMPLES, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Compares two runs problem by problem.

    Args:
        first: one value a problem.
        second: the same problems in the same order.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} and {len(second)} values cannot be paired")
    differences = [after - before for before, after in zip(first, second, strict=True)]
    mean = math.fsum(differences) / len(differences)
    low, high = bootstrap(differences)
    better, worse = sum(value > 0 for value in differences), sum(value < 0 for value in differences)
    is_binary = {*first, *second} <= {0.0, 1.0}
    return Comparison(
        difference=mean,
        standard_error=_standard_error(differences),
        low=low,
        high=high,
        p_value=_mcnemar(better, worse) if is_binary else _sign_test(differences),
        method=MCNEMAR if is_binary else SIGNS,
        better=better,
        worse=worse,
        problems=len(differences),
    )


def _mcnemar(better: int, worse: int) -> float:
    """Two-sided binomial test of the problems that only one of the two solves; McNemar, Psychometrika 12 (1947)."""
    changed = better + worse
    tail = sum(math.comb(changed, count) for count in range(min(better, worse) + 1))
    return min(1.0, 2 * tail / 2**changed)


def _sign_test(differences: Sequence[float]) -> float:
    """Paired randomisation test: the share of random sign changes whose mean is as far from 0; never exactly 0."""
    changed = np.asarray([value for value in differences if value], dtype=np.float64)
    if not len(changed):
        return 1.0
    observed = abs(changed.sum()) - 1e-12
    drawn = np.random.default_rng(SEED)
    rows = max(1, 2_000_000 // len(changed))
    as_far = 0
    for start in range(0, RESAMPLES, rows):
        signs = drawn.integers(0, 2, (min(rows, RESAMPLES - start), len(changed))) * 2 - 1
        as_far += int((abs(signs @ changed) >= observed).sum())
    return (as_far + 1) / (RESAMPLES + 1)


def _standard_error(values: Sequence[float]) -> float:
    count = len(values)
    if count < 2:
        return 0.0
    mean = math.fsum(values) / count
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count)
