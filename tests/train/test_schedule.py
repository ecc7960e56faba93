"""The learning rate against values worked out by hand from the published settings."""

import math

import pytest

from mindgeex.common.errors import UserError
from mindgeex.train.schedule import ScheduleConfig, learning_rate

PUBLISHED = ScheduleConfig(peak=1e-4, final=1e-6, warmup_steps=2000, decay_steps=200_000)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 1e-4 / 2000),
        (999, 1e-4 / 2),
        (1999, 1e-4),
        (2000, 1e-6 + 99e-6 * 0.5 * (1 + math.cos(math.pi * 0.01))),
        (100_000, 1e-6 + 99e-6 / 2),
        (200_000, 1e-6),
        (213_000, 1e-6),
    ],
)
def test_the_published_schedule(step, rate):
    assert learning_rate(PUBLISHED, step) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "step", "rate"),
    [
        ("linear", 5, 6.0),
        ("linear", 10, 10.0),
        ("linear", 55, 6.0),
        ("linear", 200, 2.0),
        ("constant", 99, 10.0),
        ("wsd", 79, 10.0),
        ("wsd", 80, 10.0),
        ("wsd", 90, 6.0),
        ("wsd", 100, 2.0),
    ],
)
def test_the_other_curves_by_hand(kind, step, rate):
    config = ScheduleConfig(peak=10.0, final=2.0, warmup_steps=10, decay_steps=100, kind=kind)
    assert learning_rate(config, step) == pytest.approx(rate, rel=1e-12)


def test_an_unknown_curve_gets_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'cosine'"):
        ScheduleConfig(1.0, 0.0, 1, 10, kind="cosin")


@pytest.mark.parametrize("changes", [{"final": 2e-4}, {"warmup_steps": -1}, {"decay_steps": 0}])
def test_contradictions_are_refused(changes):
    settings = {"peak": 1e-4, "final": 1e-6, "warmup_steps": 10, "decay_steps": 100, **changes}
    with pytest.raises(UserError, match=f"{next(iter(changes))}={next(iter(changes.values()))}"):
        ScheduleConfig(**settings)
