"""A step in stages, or with shared tokens, is the step on one device.

As test_sharded_numerics.py, with messages between stages and gradients that add up over micro batches.
"""

import dataclasses

import pytest

from mindgeex.model_zoo.config import load_model_config
from tests.train.dryrun.conftest import needs_standins
from tests.train.dryrun.ranks import compile_ranks
from tests.train.dryrun.steps import MAX_NORM, check, evaluated, recipe, solved

pytestmark = [
    pytest.mark.timeout(900),  # fourteen compilations, on a busy machine
    needs_standins,
]
SIZES = {
    "num_layers": 2, "hidden_size": 16, "num_heads": 4, "feed_forward_size": 24, "vocab_size": 12, "seq_length": 4,
    "eod_id": 0, "dropout_rate": 0.2,
}  # fmt: skip
"""Four rows of four are few enough for MindSpore to print, and two NPUs can share four positions."""
CONFIGS = {
    family: dataclasses.replace(load_model_config(f"{family}_tiny"), **SIZES) for family in ("codegeex", "gpt_neox")
}
MESHES = {
    # of a family: micro rows, mesh
    ("codegeex", "one"): (8, {"npus": 1}),
    ("gpt_neox", "one"): (8, {"npus": 1}),
    ("codegeex", "stages"): (2, {"npus": 4, "pp": 2, "optimizer_shard": 2, "optimizer_level": "level2"}),
    ("gpt_neox", "stages of shared sequences"): (1, {"npus": 4, "mp": 2, "pp": 2, "sequence_parallel": True}),
    ("codegeex", "shared rows"): (4, {"npus": 4, "mp": 2, "optimizer_shard": 2, "sequence_parallel": True}),
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Family and mesh -> what MindSpore makes of every rank."""
    folder, wanted = tmp_path_factory.mktemp("ranks"), {}
    for (family, mesh), (micro_rows, parallel) in MESHES.items():
        run = recipe(folder, CONFIGS[family], f"batch.micro_rows={micro_rows}", **parallel)
        wanted |= {(family, mesh, rank): (run, rank) for rank in range(parallel["npus"])}
    found = compile_ranks(folder, {"-".join(map(str, key)): value for key, value in wanted.items()})
    return {
        key: {rank: found["-".join(map(str, (*key, rank)))] for rank in range(parallel["npus"])}
        for key, (_, parallel) in MESHES.items()
    }


@pytest.fixture(scope="module")
def problems(compiled, tmp_path_factory):
    return {name: solved(recipe(tmp_path_factory.mktemp("one"), config), config) for name, config in CONFIGS.items()}


@pytest.mark.parametrize(("family", "mesh"), [key for key in MESHES if key[1] != "one"])
def test_loss_norm_gradients_and_update_are_those_of_one_device(compiled, problems, family, mesh):
    problem = problems[family]
    assert problem.outcome.applied and problem.outcome.grad_norm > 2 * MAX_NORM
    one, many = (evaluated(compiled[family, name], problem) for name in ("one", mesh))
    check(many, one, problem)
