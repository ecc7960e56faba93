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


@pytest.mark.parametrize("changes", [{"final": 2e-4}, {"warmup_steps": -1}, {"decay_steps": 0}])
def test_contradictions_are_refused(changes):
    settings = {"peak": 1e-4, "final": 1e-6, "warmup_steps": 10, "decay_steps": 100, **changes}
    with pytest.raises(UserError, match=f"{next(iter(changes))}={next(iter(changes.values()))}"):
        ScheduleConfig(**settings)
