"""The sharding tables name every operator of both families; a wrong mesh is refused with a right one."""

import dataclasses
import re

import pytest
from mindspore import ops

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import ComputeConfig, load_model_config
from mindgeex.model_zoo.families import NETWORKS
from mindgeex.model_zoo.sharding import cuts_of, operators, shard, sharding_plan, token_cuts

MODELS = ("codegeex_tiny", "gpt_neox_tiny")


def small(name, flash=False, **sizes):
    config = dataclasses.replace(load_model_config(name), **sizes)
    compute = ComputeConfig(dtype="float16", attention="flash" if flash else "matmul")
    return config, NETWORKS[config.family](config, compute)


@pytest.mark.parametrize("tokens", [None, (4, 1), (2, 2)])
@pytest.mark.parametrize("flash", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_the_plan_names_every_operator_and_no_other(name, flash, tokens):
    config, model = small(name, flash)
    shard(model, sharding_plan(config, 2, 2, flash, tokens))


@pytest.mark.parametrize("name", MODELS)
def test_every_product_of_matrices_is_cut_over_the_whole_mesh(name):
    config, model = small(name)
    plan = sharding_plan(config, 4, 2)
    products = {p: o for p, o in operators(model) if isinstance(o, (ops.MatMul, ops.BatchMatMul))}
    assert len(products) >= 8 * config.num_layers
    for path in products:
        cuts = plan[re.sub(r"^blocks\.\d+\.", "blocks.*.", path)]
        assert max(inner[0] for inner in cuts) == 4, path
        assert any(2 in inner for inner in cuts), path


def test_a_renamed_operator_fails_by_its_name():
    config, model = small("codegeex_tiny")
    plan = sharding_plan(config, 2, 2)
    with pytest.raises(KeyError, match="no operator blocks.\\*.attention.scores"):
        shard(model, plan | {"blocks.*.attention.scores": ((1, 1),)})
    del plan["blocks.*.attention.core.mix"]
    with pytest.raises(KeyError, match="does not cut blocks.\\*.attention.core.mix"):
        shard(model, plan)


@pytest.mark.parametrize("name", MODELS)
def test_what_follows_from_a_plan_for_parameters_covers_all_of_them_and_halves_what_is_big(name):
    config = load_model_config(name)
    plan = sharding_plan(config, 4, 2)
    for parameter, shape in config.shapes.items():
        cuts = cuts_of(parameter, plan)
        assert len(cuts) == len(shape), parameter
        assert all(size % cut == 0 for size, cut in zip(shape, cuts, strict=True)), parameter
        is_table_of_positions = parameter.startswith(("position_embedding", "query_embedding"))
        assert (2 in cuts) == (len(shape) == 2 and not is_table_of_positions) or parameter.endswith("bias"), parameter


def test_heads_that_cannot_be_shared_are_refused_with_the_nearest_number_that_can():
    with pytest.raises(UserError, match="parallel.mp=3 does not divide num_heads=40: set parallel.mp=2"):
        sharding_plan(load_model_config("codegeex_13b"), 2, 3)


def test_tokens_are_shared_as_whole_rows_first_and_what_begins_inside_a_row_is_refused():
    config = load_model_config("codegeex_13b")
    assert [token_cuts(config, 2, 8, rows) for rows in (16, 8, 4, 1)] == [(16, 1), (16, 1), (8, 2), (2, 8)]
    with pytest.raises(UserError, match="divides parallel.mp=8 .* not 6: set batch.micro_rows=4"):
        token_cuts(config, 2, 8, 6)
    with pytest.raises(UserError, match="not 1: set batch.micro_rows=2"):
        token_cuts(dataclasses.replace(config, seq_length=12), 2, 8, 1)
