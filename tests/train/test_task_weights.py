"""Balanced losses: worked by hand, against a second implementation, and exact after a resume."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.train.task_weights import Coba, CobaConfig, FixedWeights, make_balance


def test_equal_tasks_by_hand() -> None:
    learnt = np.array([[1, 1, 1], [0, 1, 0], [1, 0, 0]])
    tokens = np.array([3, 2, 0])
    weights = FixedWeights(by_task=True).weights(learnt, np.array([0, 1, 1]), tokens)
    # Two tasks are there: each has half of the five labels' weight: 2.5 / 3 a label, and 2.5 / 2.
    assert weights.tolist() == np.float32([[2.5 / 3] * 3, [0, 1.25, 0], [1.25, 0, 0]]).tolist()
    assert weights.dtype == np.float32
    assert FixedWeights(by_task=False).weights(learnt, np.array([0, 1, 1]), tokens).tolist() == learnt.tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 3))
def test_the_step_loss_is_the_mean_over_tasks_of_the_mean_over_their_labels_for_any_workers(seed, tasks, world) -> None:
    random = np.random.default_rng(seed)
    rows = 2 * world
    task_B = random.integers(0, tasks, rows)
    learnt = random.random((rows, 7)) < 0.4
    nats = random.random((rows, 7))
    tokens = np.bincount(task_B, learnt.sum(axis=1), tasks).astype(np.int64)
    parts = [
        make_balance("tasks", ["a"] * tasks, CobaConfig()).weights(learnt[r::world], task_B[r::world], tokens)
        for r in range(world)
    ]
    weights = np.zeros((rows, 7))
    for r in range(world):
        weights[r::world] = parts[r]
    if not learnt.any():
        assert not weights.any()
        return
    means = [nats[task_B == t][learnt[task_B == t]].mean() for t in range(tasks) if learnt[task_B == t].any()]
    assert (weights * nats).sum() / weights.sum() == pytest.approx(np.mean(means), rel=1e-6)
    assert weights.sum() == pytest.approx(learnt.sum(), rel=1e-6)


def soft(logits):
    return np.array([1 / sum(np.exp(other - one) for other in logits) for one in logits])


def oracle(history: list[list[float]], warmup: int, size: int, tau: float) -> np.ndarray:
    """Task weights after all these losses, from the beginning and with numpy's own line fit, in float64."""
    ratios = np.array(history) / np.array(history[0])
    tasks = ratios.shape[1]
    slopes, totals = [], []
    for now in range(warmup, len(ratios) + 1):
        window = ratios[max(0, now - size) : now]
        places = np.arange(len(window)) + 1000
        slopes.append([np.polyfit(places, window[:, t], 1)[0] for t in range(tasks)])
        totals.append(np.polyfit(places, window.max(axis=1), 1)[0])
    if not slopes:
        return np.full(tasks, 1 / tasks)
    slopes, totals = np.array(slopes)[-(size - warmup + 1) :], np.array(totals)
    relative = soft([tasks * a / sum(abs(slopes[-1])) for a in slopes[-1]])
    absolute = soft([-len(slopes) * slopes[-1, t] / sum(abs(slopes[:, t])) for t in range(tasks)])
    factor = len(totals) * soft(-tau * len(totals) * totals / sum(abs(totals)))[-1]
    weights = soft(tasks * (factor * relative + (1 - factor) * absolute))
    if min(weights) < 1 / (10 * tasks):
        weights = 0.9 * weights + 1 / (10 * tasks)
    return weights


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 4), st.integers(2, 6), st.integers(0, 6), st.integers(1, 25))
def test_convergence_balancing_equals_a_second_implementation(seed, tasks, warmup, longer, observations) -> None:
    random = np.random.default_rng(seed)
    losses = 2 * np.exp(-random.random(tasks) * np.arange(observations)[:, None] / 9) + random.random(
        (observations, tasks)
    )
    names = [f"task {t}" for t in range(tasks)]
    coba = Coba(names, CobaConfig(warmup, warmup + longer, 5.0))
    for step, row in enumerate(losses):
        coba.observe(step, dict(zip(names, row, strict=True)))
    assert coba.task_weights_T == pytest.approx(oracle(losses.tolist(), warmup, warmup + longer, 5.0), rel=1e-6)
    assert coba.task_weights_T.sum() == pytest.approx(1)


def test_convergence_balancing_by_hand() -> None:
    coba = Coba(["fast", "slow"], CobaConfig(warmup_observations=2, history_observations=2))
    coba.observe(0, {"fast": 2.0, "slow": 4.0})
    assert coba.task_weights_T.tolist() == [0.5, 0.5]
    coba.observe(1, {"fast": 1.0, "slow": 3.0})
    # Ratios fall to 0.5 and 0.75: slopes -0.5, -0.25; 2 a / 0.75 = -4/3, -2/3: RCS = softmax = 1 / (1 + e^(2/3)), ...
    # One slope each: -1 x a / |a| = 1 for both: ACS = 1/2. One total slope: DF = 1. So w = softmax(2 RCS).
    rcs = np.array([1 / (1 + np.exp(2 / 3)), 1 / (1 + np.exp(-2 / 3))])
    expected = np.exp(2 * rcs) / np.exp(2 * rcs).sum()
    assert coba.task_weights_T == pytest.approx(expected, rel=1e-12)
    assert coba.task_weights_T[1] > 0.5


def test_a_task_that_diverges_loses_weight_and_keeps_a_least_share() -> None:
    coba = Coba(["good", "bad"], CobaConfig(warmup_observations=4, history_observations=8))
    for step in range(40):
        bad = 2 - 0.05 * step if step < 20 else 1.0 + 0.1 * (step - 20)
        coba.observe(step, {"good": 2 - 0.02 * step, "bad": bad})
    assert coba.task_weights_T[1] < 0.4
    assert coba.task_weights_T.min() >= 1 / 20


def test_losses_that_do_not_change_or_are_no_numbers_do_no_harm() -> None:
    coba = Coba(["a", "b"], CobaConfig(warmup_observations=2, history_observations=3))
    for step in range(5):
        coba.observe(step, {"a": 1.0, "b": 2.0})
    assert coba.task_weights_T.tolist() == [0.5, 0.5]
    before = json.dumps(coba.state())
    coba.observe(6, {"a": float("nan"), "b": 2.0})
    coba.observe(7, {"a": float("inf"), "b": 0.0})
    assert json.dumps(coba.state()) == before


def test_a_resumed_balance_gives_the_weights_of_an_undisturbed_one_digit_for_digit() -> None:
    random = np.random.default_rng(3)
    losses = random.random((30, 3)) + 0.5
    names = ["a", "b", "c"]
    config = CobaConfig(warmup_observations=3, history_observations=9)
    whole = Coba(names, config)
    for stop in range(31):
        resumed = Coba(names, config)
        resumed.restore(json.loads(json.dumps(whole.state())))
        assert json.dumps(resumed.state()) == json.dumps(whole.state())
        if stop < 30:
            for balance in (whole, resumed):
                balance.observe(stop, dict(zip(names, losses[stop], strict=True)))
            assert np.array_equal(whole.task_weights_T, resumed.task_weights_T)
    with pytest.raises(UserError, match="balances the tasks a, b, c, this run has a, b"):
        Coba(["a", "b"], config).restore(whole.state())


def test_settings_that_do_not_fit_are_named() -> None:
    with pytest.raises(UserError, match="history_observations is 5, below warmup_observations 6"):
        CobaConfig(6, 5)
    with pytest.raises(UserError, match="warmup_observations is 1: at least 2"):
        CobaConfig(1, 5)
    with pytest.raises(UserError, match="tau is 0"):
        CobaConfig(tau=0.0)
