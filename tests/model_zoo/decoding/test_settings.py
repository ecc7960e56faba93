"""Settings without meaning are refused with their value and the values there are."""

import math

import pytest

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.decoding.settings import Beams, Sampling


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": -1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_p": math.nan},
        {"repetition_penalty": 0},
        {"repetition_penalty": math.nan},
        {"max_new_tokens": 0},
    ],
)
def test_sampling(settings):
    [(name, value)] = settings.items()
    with pytest.raises(UserError, match=f"{name.replace('_', '-')} is {value}: it must be"):
        Sampling(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 0}, "num-beams is 0: it must be at least 1"),
        ({"num_beams": 2, "num_return": 3}, "num-return is 3: at most num-beams, which is 2"),
        ({"num_return": 0}, "num-return is 0"),
        ({"length_penalty": math.inf}, "length-penalty is inf"),
        ({"repetition_penalty": -1}, "repetition-penalty is -1"),
        ({"max_new_tokens": -5}, "max-new-tokens is -5"),
    ],
)
def test_beams(settings, message):
    with pytest.raises(UserError, match=message):
        Beams(**settings)
