"""Stages: every cell has one, layers are shared out evenly, and a pipeline costs what the published formulas say."""

import dataclasses

import pytest

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import load_model_config
from mindgeex.train.parallel_config import ParallelConfig
from mindgeex.train.pipeline import (
    bubble,
    check_micro_batches,
    check_pieces,
    layers_of_stage,
    micro_batches_in_flight,
    stage_of_layer,
    stages,
    stages_of_parameter,
)


@pytest.mark.parametrize("name", ["codegeex_13b", "codefuse_13b"])
def test_every_weight_is_in_one_stage_but_a_tied_table_which_is_in_the_first_and_the_last(name):
    config, parallel = load_model_config(name), ParallelConfig(npus=32, mp=8, pp=4)
    placed, tied = stages(config, parallel), config.family == "codegeex"
    held = {weight: stages_of_parameter(weight, placed, tied) for weight in config.shapes}
    assert held.pop("word_embedding.weight") == ((0, 3) if tied else (0,))
    assert {len(where) for where in held.values()} == {1}
    assert held["blocks.9.attention.query.weight"] == (0,)
    assert held["blocks.10.attention.query.weight"] == (1,)
    assert held["final_norm.gamma"] == (3,)
    assert [layers_of_stage(stage, config, parallel) for stage in range(4)] == [10] * 4


def test_interleaved_stages_take_turns():
    parallel = ParallelConfig(npus=4, pp=2, interleave=2)
    assert [stage_of_layer(layer, 8, parallel) for layer in range(8)] == [0, 0, 1, 1, 0, 0, 1, 1]


def test_bubble_and_activations_in_flight_are_those_of_1f1b():
    plain = ParallelConfig(npus=4, pp=4)
    turns = dataclasses.replace(plain, interleave=2)
    assert bubble(plain, 12) == pytest.approx(3 / 12)
    assert bubble(turns, 12) == pytest.approx(3 / 24)
    assert bubble(ParallelConfig(), 12) == 0
    assert [micro_batches_in_flight(stage, plain, 12) for stage in range(4)] == [4, 3, 2, 1]
    assert micro_batches_in_flight(0, plain, 2) == 2  # no more than there are
    assert micro_batches_in_flight(0, turns, 12) == (2 * 3 + 4 + 1) / 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"npus": 64, "mp": 8, "pp": 3}, "parallel.pp=3 does not divide parallel.npus / mp = 8: set parallel.pp=2"),
        ({"npus": 8, "interleave": 2}, "parallel.interleave=2 needs stages: set parallel.pp"),
    ],
)
def test_a_wrong_pipeline_is_refused_with_the_nearest_right_one(settings, message):
    with pytest.raises(UserError, match=message):
        ParallelConfig(**settings)


def test_stages_without_layers_and_with_too_few_micro_batches_are_refused():
    config = load_model_config("codegeex_13b")
    with pytest.raises(UserError, match="parallel.pp=64 is more than 40 layers: set parallel.pp=32"):
        check_pieces(config, ParallelConfig(npus=64, pp=64))
    with pytest.raises(UserError, match="set parallel.interleave=10"):
        check_pieces(config, ParallelConfig(npus=4, pp=4, interleave=11))
    with pytest.raises(
        UserError, match="needs as many micro batches, but batch.accumulate is 2: set batch.accumulate=4"
    ):
        check_micro_batches(ParallelConfig(npus=4, pp=4), 2)
