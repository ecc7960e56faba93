"""What is judged a spike, what is done about it, and that a resumed run judges the same."""

import math

import numpy as np
import pytest

from mindgeex.common.errors import UserError
from mindgeex.train.guard import Guard, GuardConfig


def warmed(config, steps=200):
    guard = Guard(config)
    noise = np.random.default_rng(0)
    for _ in range(steps):
        assert guard.judge(2 + 0.05 * noise.standard_normal(), 1 + 0.2 * noise.random()).action == "keep"
    return guard


def test_nothing_is_a_spike_before_there_is_a_window_to_compare_with():
    guard = warmed(GuardConfig(on_spike="skip", window=32), steps=31)
    assert guard.enforced() == (math.inf, math.inf)
    assert guard.judge(100.0, 100.0).action == "keep"


@pytest.mark.parametrize("action", ["skip", "rollback", "stop"])
def test_a_loss_or_norm_far_above_the_window_is_a_spike(action):
    guard = warmed(GuardConfig(on_spike=action, window=32))
    loss_limit, norm_limit = guard.enforced()
    assert 2.1 < loss_limit < 2.5 and 9 < norm_limit < 13
    assert guard.judge(loss_limit, norm_limit).action == "keep"
    guard = warmed(GuardConfig(on_spike=action, window=32))
    high_loss, high_norm = guard.judge(3.0, 1.0), guard.judge(2.0, 50.0)
    assert (high_loss.action, high_norm.action) == (action, action)
    assert "the loss 3 is above" in high_loss.reason and "the gradient norm 50 is above" in high_norm.reason


def test_a_spike_that_is_kept_is_told_and_not_enforced():
    guard = warmed(GuardConfig(window=32))
    assert guard.enforced() == (math.inf, math.inf)
    verdict = guard.judge(9.0, 1.0)
    assert verdict.action == "keep" and "the loss 9 is above" in verdict.reason


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_what_is_not_finite_is_judged_from_the_first_step(loss, norm):
    verdict = Guard(GuardConfig(on_not_finite="rollback")).judge(loss, norm)
    assert verdict.action == "rollback"
    assert ("the loss is" if math.isfinite(norm) else "the gradient norm is") in verdict.reason


def test_steps_are_not_skipped_for_ever():
    guard = Guard(GuardConfig(limit=3))
    actions = [guard.judge(math.nan, 1.0).action for _ in range(4)]
    assert actions == ["skip", "skip", "skip", "stop"]
    guard = Guard(GuardConfig(limit=3))
    mixed = [guard.judge(loss, 1.0).action for loss in (math.nan, math.nan, 1.0, math.nan, math.nan)]
    assert mixed == ["skip", "skip", "keep", "skip", "skip"]


def test_a_run_does_not_roll_back_to_one_checkpoint_for_ever():
    guard = Guard(GuardConfig(limit=2))
    guard.rolled_back(10)
    guard.rolled_back(20)
    guard.rolled_back(10)
    with pytest.raises(UserError, match="rolled back to step 10 more than guard.limit=2 times"):
        guard.rolled_back(10)


def test_a_restored_guard_judges_as_the_one_before():
    import json

    guard = warmed(GuardConfig(on_spike="skip", window=32))
    other = warmed(GuardConfig(on_spike="skip", window=32), steps=40)
    assert other.limits() != guard.limits()
    other.restore(json.loads(json.dumps(guard.state())))
    assert other.limits() == guard.limits()


@pytest.mark.parametrize("change", [{"on_spike": "ignore"}, {"on_not_finite": "keep"}, {"window": 1}, {"limit": 0}])
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(UserError, match=f"{next(iter(change))}"):
        GuardConfig(**change)
