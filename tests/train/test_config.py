"""Recipes: all that ship load; overrides and mistakes are told by name."""

import pytest
import yaml

from mindgeex.common.config import as_tree, build_config
from mindgeex.common.errors import UserError
from mindgeex.train.config import RunConfig, load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_survives_being_written_out(name):
    config = load_recipe(name)
    assert build_config(RunConfig, yaml.safe_load(yaml.safe_dump(as_tree(config))), name) == config


def test_overrides_take_the_place_of_the_recipes_values():
    config = load_recipe("codegeex_tiny", ["steps=7", "schedule.peak=1e-2", "optimizer.weight_decay=0"])
    assert (config.steps, config.schedule.peak, config.optimizer.weight_decay) == (7, 0.01, 0.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("schedule.peek=1", "unknown key 'schedule.peek'.*did you mean 'schedule.peak'"),
        ("step=1", "unknown key 'step'.*did you mean 'steps'"),
        ("steps=many", "'steps' is 'many', expected int"),
        ("steps=0", "steps is 0: it must be at least 1"),
        ("optimizer.beta2=1.5", "optimizer.beta2 is 1.5"),
        ("optimizer.epsilon=.nan", "optimizer.epsilon is nan"),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay is -1.0"),
        ("model=codegeex_tinny", "did you mean 'codegeex_tiny'"),
        ("steps", "not of the form key=value"),
        ("model=[", r"override 'model=\[': the value is not valid YAML: expected the node content"),
        ("seed=-1", "seed is -1: it must be at least 0"),
        ("seed=4294967296", "seed is 4294967296: .*below 2"),
        ("steps.deep=1", "'steps' holds a value, not keys"),
        ("cadence.log_steps=0", "cadence.log_steps is 0"),
    ],
)
def test_mistakes_are_named(override, message):
    with pytest.raises(UserError, match=message):
        load_recipe("codegeex_tiny", [override])


def test_an_unknown_recipe_gets_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'codegeex_13b'"):
        load_recipe("codegeex13b")
