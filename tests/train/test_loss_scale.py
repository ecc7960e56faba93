"""The scale follows the published rule."""

import pytest

from mindgeex.common.errors import UserError
from mindgeex.train.loss_scale import LossScale, LossScaleConfig


def test_it_halves_at_an_overflow_and_doubles_after_a_window_without_one():
    config = LossScaleConfig(start=2.0**32, window=3)
    scale = LossScale(config.start)
    scale.overflowed(config)
    scale.went_well(config)
    scale.went_well(config)
    scale.overflowed(config)
    assert scale.value == 2.0**30
    values = []
    for _ in range(7):
        scale.went_well(config)
        values.append(scale.value)
    assert values == [2.0**30, 2.0**30, 2.0**31, 2.0**31, 2.0**31, 2.0**32, 2.0**32]


def test_it_does_not_fall_below_its_lowest_and_says_when_it_cannot():
    config = LossScaleConfig(start=4.0, lowest=1.0)
    scale = LossScale(4.0)
    for _ in range(2):
        assert scale.can_shrink(config)
        scale.overflowed(config)
    assert scale.value == 1.0 and not scale.can_shrink(config)


@pytest.mark.parametrize("change", [{"factor": 1.0}, {"window": 0}, {"lowest": 0.0}, {"start": 0.5}])
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(UserError, match="loss_scale: start"):
        LossScaleConfig(**change)
