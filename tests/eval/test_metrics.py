"""pass@k against its definition."""

import itertools
import math
import statistics

import pytest

from mindgeex.eval.metrics import estimate, pass_at_k


@pytest.mark.parametrize("samples", range(1, 8))
def test_pass_at_k_is_the_share_of_draws_with_a_correct_sample(samples):
    for correct in range(samples + 1):
        for k in range(1, samples + 1):
            draws = list(itertools.combinations([True] * correct + [False] * (samples - correct), k))
            assert pass_at_k(samples, correct, k) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-12)


def test_pass_at_k_stays_exact_for_many_samples():
    exact = 1 - math.comb(9_900, 100) / math.comb(10_000, 100)
    assert pass_at_k(10_000, 100, 100) == pytest.approx(exact, rel=1e-12)
    assert pass_at_k(10**6, 1, 1) == pytest.approx(1e-6, rel=1e-9)


@pytest.mark.parametrize("samples, correct, k", [(3, 4, 1), (3, 1, 4), (3, -1, 1), (3, 1, 0)])
def test_numbers_that_do_not_fit_are_refused(samples, correct, k):
    with pytest.raises(ValueError, match="is not defined"):
        pass_at_k(samples, correct, k)


def test_the_standard_error_is_that_of_the_mean_over_problems():
    score = estimate([4, 4, 4, 4], [0, 1, 2, 4], 1)
    values = [0.0, 0.25, 0.5, 1.0]
    assert score.mean == pytest.approx(statistics.mean(values))
    assert score.standard_error == pytest.approx(statistics.stdev(values) / 2)
    assert score.problems == 4


def test_a_published_figure_has_the_standard_error_one_expects():
    """22.9 % of 164 problems, each either always or never solved, is 22.9 ± 3.3."""
    solved = round(0.229 * 164)
    score = estimate([1] * 164, [1] * solved + [0] * (164 - solved), 1)
    assert f"{100 * score.standard_error:.1f}" == "3.3"


def test_one_problem_has_no_standard_error():
    assert estimate([2], [1], 1).standard_error == 0.0
