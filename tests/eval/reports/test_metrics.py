"""pass@k against its definition."""

import itertools
import math
import statistics

import numpy as np
import pytest

from mindgeex.eval.reports.metrics import MCNEMAR, SIGNS, bootstrap, compare, estimate, pass_at_k


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
    values = [0.0, 0.25, 0.5, 1.0]
    score = estimate(values)
    assert score.mean == pytest.approx(statistics.mean(values))
    assert score.standard_error == pytest.approx(statistics.stdev(values) / 2)
    assert score.problems == 4


def published(share: float = 0.229) -> list[float]:
    """22.9 % of 164 problems, each either always or never solved."""
    solved = round(share * 164)
    return [1.0] * solved + [0.0] * (164 - solved)


def test_a_published_figure_has_the_standard_error_one_expects():
    assert f"{100 * estimate(published()).standard_error:.1f}" == "3.3"


def test_one_problem_has_no_spread():
    score = estimate([0.5])
    assert (score.standard_error, score.low, score.high) == (0.0, 0.5, 0.5)


def test_the_bootstrap_interval_is_that_of_the_binomial_where_there_is_one():
    """The means of resamples of zeros and ones are binomial: its quantiles, from scipy, are 27/164 and 49/164."""
    low, high = bootstrap(published())
    assert (low * 164, high * 164) == (pytest.approx(27, abs=1.01), pytest.approx(49, abs=1.01))
    assert bootstrap(published()) == (low, high)


def test_intervals_hold_the_truth_as_often_as_they_say():
    drawn = np.random.default_rng(1)
    held = 0
    for _ in range(60):
        low, high = bootstrap(list((drawn.random(100) < 0.3).astype(float)))
        held += low <= 0.3 <= high
    assert 53 <= held <= 60


def test_two_runs_are_compared_problem_by_problem():
    """One that solves four more of the same problems: certain enough, though both intervals overlap."""
    first = [1.0] * 20 + [0.0] * 80
    second = [1.0] * 26 + [0.0] * 74
    found = compare(first, second)
    assert (found.better, found.worse, found.problems) == (6, 0, 100)
    assert found.difference == pytest.approx(0.06)
    assert found.low > 0
    assert (found.p_value, found.method) == (2 / 2**6, MCNEMAR)  # all six signs alike
    assert found.standard_error < estimate(first).standard_error
    back = compare(second, first)
    assert back.difference == pytest.approx(-found.difference)
    assert back.p_value == found.p_value


def test_mcnemars_test_is_the_binomial_one_and_what_random_signs_come_to():
    """9 better and 3 worse of 12: scipy's binomtest(3, 12).pvalue."""
    first, second = [0.0] * 9 + [1.0] * 3 + [1.0, 0.0], [1.0] * 9 + [0.0] * 3 + [1.0, 0.0]
    exact = compare(first, second)
    assert (exact.better, exact.worse, exact.method) == (9, 3, MCNEMAR)
    assert exact.p_value == pytest.approx(0.14599609375)
    halved = compare([value / 2 for value in first], [value / 2 for value in second])
    assert halved.method == SIGNS and halved.p_value == pytest.approx(exact.p_value, abs=0.012)


def test_equal_runs_do_not_differ():
    found = compare([0.5, 1.0], [0.5, 1.0])
    assert (found.difference, found.p_value, found.low, found.high) == (0.0, 1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="cannot be paired"):
        compare([1.0], [1.0, 0.0])
