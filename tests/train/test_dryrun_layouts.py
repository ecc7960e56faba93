"""What MindSpore's partitioner makes of small steps is, item by item, what analytic.py derives from sizes.

A covering subset of both families x HSDP levels 1 to 3 x matmul or flash attention x stages x the ranks of two
clusters (dp 192 x mp 8, and few NPUs): every value of each once. Does not cover: GPT-NeoX with level3, CodeGeeX with
flash attention, interleaved or last stages, stages over 1,536 NPUs.
"""

import collections
import dataclasses
import json
import platform
import shutil

import pytest

from mindgeex.common.config import as_tree
from mindgeex.model_zoo.config import load_model_config
from mindgeex.train.config import load_recipe
from mindgeex.train.dryrun import analytic
from mindgeex.train.dryrun.plan import make_plan

needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None or platform.machine() not in ("x86_64", "aarch64"), reason="stand-ins need a C compiler"
)
SIZES = {
    "hidden_size": 512, "num_heads": 8, "feed_forward_size": 2048, "vocab_size": 1024, "seq_length": 256, "eod_id": 0,
}  # fmt: skip
LARGE = {"npus": 1536, "mp": 8, "optimizer_shard": 16}
CASES = [
    # family, rank, layers, cluster, level, settings
    ("gpt_neox", 7, 2, LARGE, "level1", ["compute.attention=flash"]),
    ("codegeex", 8, 2, LARGE, "level3", ["compute.recompute=true"]),
    ("codegeex", 0, 2, {"npus": 8, "mp": 4, "optimizer_shard": 2}, "level2", []),
    ("codegeex", 4, 4, {"npus": 16, "mp": 2, "pp": 4}, "level1", []),
    ("gpt_neox", 9, 4, {"npus": 16, "mp": 2, "pp": 4, "optimizer_shard": 2}, "level2", []),
]


def counted(items):
    """How often each is said, without the ranks: those of analytic.py are the first NPU's of a stage."""
    counts = collections.Counter()
    for item in items:
        counts[item.kind, item.purpose, len(item.ranks), item.dtype, item.shape] += item.count
    return counts


@needs_compiler
@pytest.mark.parametrize(("family", "rank", "layers", "cluster", "level", "settings"), CASES)
def test_layouts_products_and_collectives_of_the_compiled_step_are_those_that_follow_from_sizes(
    tmp_path, family, rank, layers, cluster, level, settings
):
    sizes = tmp_path / "sizes.yaml"
    sizes.write_text(
        json.dumps(as_tree(dataclasses.replace(load_model_config(f"{family}_tiny"), num_layers=layers, **SIZES)))
    )
    pp = cluster.get("pp", 1)
    dp = cluster["npus"] // cluster["mp"] // pp
    config = load_recipe("codegeex_tiny", [
        f"model={sizes}", "compute.dtype=float16", "batch.micro_rows=1", f"batch.tokens_per_step={256 * dp * pp}",
        f"parallel.optimizer_level={level}", *settings,
        *(f"parallel.{name}={value}" for name, value in cluster.items()),
    ])  # fmt: skip
    plan = make_plan(config, rank, cache=tmp_path / "plans")
    model, compute, parallel = plan.model, config.compute, config.parallel
    shard = parallel.optimizer_shard
    expected = analytic.layouts(model, parallel.npus, parallel.mp, pp, shard, plan.stage)
    assert sorted((item.name, item.slice_shape, item.shards) for item in plan.layouts) == sorted(
        (item.name, item.slice_shape, item.shards) for item in expected
    )
    # Stages are fed a step's rows, a few bytes, gathered over dp.
    said = [
        item for item in plan.collectives if not (item.purpose == "redistribution" and item.dtype == "Int32" and pp > 1)
    ]
    assert counted(said) == counted(analytic.collectives(model, compute, parallel, 1, plan.stage))
    products = analytic.products(model, compute, parallel, 1, plan.stage)
    assert plan.times.flops == sum(item.flops * item.count for item in products) * plan.batch.accumulate
    by_purpose = {(item.kind, item.purpose): item.ranks for item in said}
    server = rank // parallel.mp * parallel.mp
    assert (
        by_purpose["AllReduce", "forward"] == tuple(range(server, server + parallel.mp))
        or len(by_purpose["AllReduce", "forward"]) == dp
    )
    if pp > 1:
        peers = {item.ranks[0] for item in said if item.kind in ("Send", "Receive")}
        assert peers == {rank - parallel.stage_npus, rank + parallel.stage_npus} & set(range(parallel.npus))
