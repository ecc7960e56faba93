"""The simulated cluster: what MindSpore's partitioner makes of a step, and the arithmetic on top of it."""

import dataclasses
import json
import math

import numpy as np
import pytest

from mindgeex.common.config import as_tree
from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import load_model_config
from mindgeex.train.config import load_recipe, recipe_names
from mindgeex.train.dryrun.analytic import predict
from mindgeex.train.dryrun.estimate import PUBLISHED, traffic
from mindgeex.train.dryrun.graph import Collective, read_graph
from mindgeex.train.dryrun.plan import make_plan
from mindgeex.train.dryrun.report import as_json, sections, summary_lines
from mindgeex.train.parallel_config import ParallelConfig
from mindgeex.train.pipeline import check_micro_batches
from tests.train.dryrun.conftest import needs_standins

SMALL = {
    "num_layers": 2, "hidden_size": 512, "num_heads": 8, "feed_forward_size": 2048, "vocab_size": 1024,
    "seq_length": 256, "eod_id": 0,
}  # fmt: skip


def small_plan(tmp_path, family="codegeex", rank=0, settings=(), **parallel):
    sizes = tmp_path / f"{family}.yaml"
    base = load_model_config(f"{family}_tiny")
    sizes.write_text(json.dumps(as_tree(dataclasses.replace(base, **SMALL))))
    spread = {"npus": 8, "mp": 4, "optimizer_shard": 2, "optimizer_level": "level2"} | parallel
    settings = [f"model={sizes}", "compute.dtype=float16", "batch.tokens_per_step=1024", *settings]
    settings += [f"parallel.{name}={value}" for name, value in spread.items()]
    return make_plan(load_recipe("codegeex_tiny", settings), rank, cache=tmp_path / "plans")


@needs_standins
@pytest.mark.parametrize("family", ["codegeex", "gpt_neox"])
def test_a_step_on_eight_simulated_npus_sums_twice_a_block_and_never_gathers_logits(tmp_path, family):
    plan = small_plan(tmp_path, family)
    shapes = plan.model.shapes
    held = {layout.name: layout for layout in plan.layouts}
    assert set(held) == set(shapes)
    assert held["blocks.0.attention.query.weight"].slice_shape == (64, 512)  # over mp 4, then over 2 shards
    assert held["blocks.0.attention.output.weight"].slice_shape == (256, 128)
    assert held["word_embedding.weight"].slice_shape == (128, 512)
    whole = {name: math.prod(shape) for name, shape in shapes.items()}
    cut_by = {name: whole[name] // held[name].values for name in shapes}
    assert sum(held[name].values * cut_by[name] for name in shapes) == plan.model.parameters
    kinds = [(group.kind, group.purpose) for group in plan.traffic]
    assert not any(purpose in ("redistribution", "tokens") or kind == "AlltoAll" for kind, purpose in kinds), kinds
    forward = sum(group.count for group in plan.traffic if group.purpose == "forward")
    # Embedding, blocks, three of the loss, and the loss's sum over dp.
    assert forward == 1 + 2 * plan.model.num_layers + 3 + 1
    # What MindSpore compiled computes what the sizes say, to the last operation.
    assert plan.times.flops == plan.times.model_flops
    assert summary_lines(plan)
    assert as_json(plan)["parameters_of_npu"] == sum(layout.values for layout in plan.layouts)
    assert len(sections(plan)) == 5
    again = small_plan(tmp_path, family)
    assert again == plan  # from the cache


@needs_standins
def test_on_1536_npus_a_layer_is_shared_inside_a_server_and_optimizer_states_across(tmp_path):
    rank = 1535
    plan = small_plan(
        tmp_path, rank=rank, npus=1536, mp=8, optimizer_shard=16, settings=["batch.tokens_per_step=49152"]
    )
    said = {(item.kind, item.purpose, item.ranks) for item in plan.collectives}
    server = rank // 8 * 8
    row = tuple(range(rank % 8, 1536, 8))
    assert ("AllReduce", "forward", tuple(range(server, server + 8))) in said
    assert ("AllReduce", "forward", row) in said
    at = rank // 8 // 16 * 16
    assert ("ReduceScatter", "gradients", row[at : at + 16]) in said
    assert {len(ranks) for kind, purpose, ranks in said if purpose == "norm"} <= {0, 1536}
    query = next(layout for layout in plan.layouts if layout.name == "blocks.0.attention.query.weight")
    assert (query.slice_shape, query.mesh, query.shards) == ((4, 512), (192, 8), 16)


def test_an_allreduce_over_servers_takes_the_time_of_a_ring_on_the_slow_link():
    parallel = ParallelConfig(npus=16, mp=8, inside_gb_per_s=10.0, across_gb_per_s=1.0)
    one = Collective("AllReduce", "forward", tuple(range(8)), "Float16", (1000, 1000))
    far = dataclasses.replace(one, ranks=(0, 8), purpose="gradients")
    inside, across = traffic([one, one, far], parallel)
    assert (inside.reach, inside.count, inside.bytes) == ("inside", 2, 4_000_000)
    assert inside.seconds == pytest.approx(2 * 2 * 7 / 8 * 2e6 / 10e9)
    assert (across.reach, across.seconds) == ("across", pytest.approx(2e6 / 1e9))


def test_a_graph_without_products_is_not_taken_for_an_empty_one():
    with pytest.raises(ValueError, match="no matrix product"):
        read_graph("%1 = Load(%0)\n : ()")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"npus": 12, "mp": 8}, "parallel.mp=8 does not divide parallel.npus=12: set parallel.mp=6"),
        ({"npus": 64, "mp": 8, "optimizer_shard": 5}, "does not divide the 8 NPUs .* set parallel.optimizer_shard=4"),
        ({"optimizer_level": "level4"}, "parallel.optimizer_level is 'level4'"),
        ({"npus": 0}, "parallel.npus is 0: it must be at least 1"),
    ],
)
def test_a_wrong_mesh_is_refused_with_the_nearest_right_one(settings, message):
    with pytest.raises(UserError, match=message):
        ParallelConfig(**settings)


def test_a_rank_outside_the_cluster_is_refused():
    with pytest.raises(UserError, match="rank 1536 is not one of 1536 NPUs"):
        make_plan(load_recipe("codegeex_13b_1536"), 1536)


def test_recipes_of_large_runs_cut_their_batch_as_they_say_and_fit():
    for name in (name for name in recipe_names() if "_13b_" in name):
        config = load_recipe(name)
        model = load_model_config(config.model)
        rows = config.batch.tokens_per_step // model.seq_length
        accumulate = config.batch.accumulate or 1
        assert rows == config.batch.micro_rows * accumulate * config.parallel.dp, name
        check_micro_batches(config.parallel, accumulate)
        memory_bytes, *_ = predict(config.parallel, config.batch, config.compute, model)
        assert memory_bytes <= config.parallel.memory_gb * 1e9, name
    published = load_recipe("codegeex_13b_1536")
    assert published.batch.tokens_per_step * 86400 / PUBLISHED["step_s"] == pytest.approx(54.3e9, rel=0.002)


def test_the_norm_of_slices_weighted_by_their_copies_is_the_norm_of_the_whole():
    rng = np.random.default_rng(1)
    dp, mp, shard = 4, 2, 2
    npus, total, expected = dp * mp, 0.0, 0.0
    for cut in (True, False):
        whole = rng.standard_normal((16, 6))
        expected += (whole**2).sum()
        for npu in range(npus):
            piece = np.split(whole, mp)[npu % mp] if cut else whole
            piece = np.split(piece, shard)[npu // mp % shard]
            total += (piece**2).sum() * ((mp if cut else 1) * shard) / npus
    assert math.sqrt(total) == pytest.approx(math.sqrt(expected), rel=1e-12)
