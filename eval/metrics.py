"""pass@k with its standard error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A mean over problems."""

    mean: float
    """Between 0 and 1."""
    standard_error: float
    """Over the problems: how far the mean would move with other problems of the same kind; 0 for a single problem."""
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


def estimate(samples: Sequence[int], correct: Sequence[int], k: int) -> Estimate:
    """pass@k over all problems.

    Args:
        samples: number of samples of each problem.
        correct: number of correct ones, in the same order.
        k: at most the smallest number of samples.
    """
    values = [pass_at_k(n, c, k) for n, c in zip(samples, correct, strict=True)]
    count = len(values)
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1) if count > 1 else 0.0
    return Estimate(mean, math.sqrt(variance / count), count)
