"""What MindSpore's partitioner makes of small steps is, item by item, what analytic.py derives from sizes.

A covering subset of both families x HSDP levels 1 to 3 x matmul or flash attention x stages (first, middle, last,
interleaved) x shared tokens x the ranks of two clusters (dp 192 x mp 8, and few NPUs): every value of each with both
families. Does not cover: level3 with stages, which MindSpore 2.9 does not compile for the first one of CodeGeeX.
"""

import collections
import dataclasses
import json

import pytest

from mindgeex.common.config import as_tree
from mindgeex.model_zoo.config import load_model_config
from mindgeex.train.config import load_recipe
from mindgeex.train.dryrun import analytic
from mindgeex.train.dryrun.compiled import read_step
from mindgeex.train.dryrun.plan import Plan
from tests.train.dryrun.conftest import needs_standins
from tests.train.dryrun.ranks import print_ranks

SIZES = {
    "hidden_size": 512, "num_heads": 8, "feed_forward_size": 2048, "vocab_size": 1024, "seq_length": 256, "eod_id": 0,
}  # fmt: skip
LARGE = {"npus": 1536, "mp": 8, "optimizer_shard": 16}
CASES = [
    # family, rank, layers, cluster, level, settings
    ("gpt_neox", 7, 2, LARGE, "level1", ["compute.attention=flash"]),
    ("codegeex", 8, 2, LARGE, "level3", ["compute.recompute=true"]),
    ("gpt_neox", 1535, 2, LARGE, "level3", ["compute.recompute=true"]),
    ("codegeex", 0, 2, {"npus": 8, "mp": 4, "optimizer_shard": 2}, "level2", []),
    ("codegeex", 3, 2, {"npus": 8, "mp": 4, "optimizer_shard": 2}, "level2", ["compute.attention=flash"]),
    ("codegeex", 4, 4, {"npus": 16, "mp": 2, "pp": 4}, "level1", []),
    ("gpt_neox", 9, 4, {"npus": 16, "mp": 2, "pp": 4, "optimizer_shard": 2}, "level2", []),
    ("codegeex", 0, 4, {"npus": 8, "mp": 2, "pp": 2, "optimizer_shard": 2}, "level2", ["compute.recompute=true"]),
    ("codegeex", 5, 4, {"npus": 8, "mp": 2, "pp": 2, "optimizer_shard": 2}, "level2", []),
    ("gpt_neox", 5, 4, {"npus": 8, "mp": 2, "pp": 2, "interleave": 2}, "level1", []),
    ("gpt_neox", 1535, 4, {"npus": 1536, "mp": 8, "pp": 4, "optimizer_shard": 16}, "level2", []),
    ("codegeex", 0, 3, {"npus": 8, "mp": 4, "optimizer_shard": 2, "sequence_parallel": True}, "level2",
     ["compute.recompute=true"]),
    ("gpt_neox", 0, 3, {"npus": 4, "mp": 2, "sequence_parallel": True}, "level1",
     ["compute.recompute=true", "batch.micro_rows=4"]),
    ("gpt_neox", 5, 4, {"npus": 8, "mp": 2, "pp": 2, "sequence_parallel": True}, "level1", []),
]  # fmt: skip


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """Of every case, all compiled by one process."""
    folder, wanted = tmp_path_factory.mktemp("layouts"), {}
    for number, (family, rank, layers, cluster, level, settings) in enumerate(CASES):
        sizes = folder / f"{number}.yaml"
        model = dataclasses.replace(load_model_config(f"{family}_tiny"), num_layers=layers, **SIZES)
        sizes.write_text(json.dumps(as_tree(model)))
        pp = cluster.get("pp", 1)
        settings = ["batch.micro_rows=1", *settings, f"parallel.optimizer_level={level}",
                    *(f"parallel.{name}={str(value).lower()}" for name, value in cluster.items())]  # fmt: skip
        rows = dict(setting.split("=") for setting in settings)["batch.micro_rows"]
        tokens = SIZES["seq_length"] * int(rows) * cluster["npus"] // cluster["mp"]
        settings += [f"model={sizes}", "compute.dtype=float16", f"batch.tokens_per_step={tokens}"]
        wanted[str(number)] = (load_recipe("codegeex_tiny", settings), rank)
        assert tokens == SIZES["seq_length"] * int(rows) * wanted[str(number)][0].parallel.dp * pp
    print_ranks(folder, wanted)
    found = []
    for name, (config, rank) in wanted.items():
        compiled = read_step(folder / f"{name}.json", folder / name, config.parallel, "stand-ins")
        model = load_model_config(config.model)
        found.append(Plan(config, model, rank, compiled, (model.num_layers,), "as asked"))
    return found


def counted(items):
    """How often each is said, without the ranks: those of analytic.py are the first NPU's of a stage."""
    counts = collections.Counter()
    for item in items:
        counts[item.kind, item.purpose, len(item.ranks), item.dtype, item.shape] += item.count
    return counts


@needs_standins
@pytest.mark.timeout(600)  # all cases are compiled before the first
@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: "-".join(map(str, CASES[number][:3])))
def test_layouts_products_and_collectives_of_the_compiled_step_are_those_that_follow_from_sizes(plans, number):
    plan, rank = plans[number], plans[number].rank
    model, compute, parallel = plan.model, plan.config.compute, plan.config.parallel
    pp, dp = parallel.pp, parallel.dp
    expected = analytic.layouts(model, parallel, plan.stage)
    assert sorted((item.name, item.slice_shape, item.shards) for item in plan.layouts) == sorted(
        (item.name, item.slice_shape, item.shards) for item in expected
    )
    # Stages are fed a step's rows and the weights of their labels, a few bytes, gathered over dp.
    fed = [item for item in plan.collectives if item.purpose == "redistribution"]
    assert {item.kind for item in fed} <= {"AllGather"} and all(pp > 1 and item.shape[0] < 8 for item in fed)
    said = [item for item in plan.collectives if item.purpose != "redistribution"]
    assert counted(said) == counted(analytic.collectives(model, compute, parallel, plan.rows, plan.stage))
    products = analytic.products(model, compute, parallel, plan.rows, plan.stage)
    assert plan.times.flops == sum(item.flops * item.count for item in products) * plan.batch.accumulate
    server = tuple(range(rank // parallel.mp * parallel.mp, (rank // parallel.mp + 1) * parallel.mp))
    row = tuple(
        rank // parallel.stage_npus * parallel.stage_npus + rank % parallel.mp + parallel.mp * n for n in range(dp)
    )
    assert {item.ranks for item in said if item.purpose in ("forward", "backward", "tokens")} <= {server, row}
    if pp > 1:
        peers = {item.ranks[0] for item in said if item.kind in ("Send", "Receive")}
        near = {rank - parallel.stage_npus, rank + parallel.stage_npus} & set(range(parallel.npus))
        assert near <= peers <= near | {rank % parallel.stage_npus + parallel.stage_npus * (pp - 1)}
