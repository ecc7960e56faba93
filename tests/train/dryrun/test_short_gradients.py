"""What makes a plan quicker changes nothing of it: graphs that are called many times, and short gradients."""

import dataclasses
import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from mindgeex.common.config import as_tree
from mindgeex.model_zoo.config import load_model_config
from mindgeex.train.config import load_recipe
from mindgeex.train.dryrun.graph import find_graph, read_graph, runs_of_graphs
from mindgeex.train.dryrun.short_gradients import shortened
from mindgeex.train.dryrun.standins import cluster_environment
from tests.train.dryrun.conftest import needs_standins

CALLS = """
# IR entry: @step_1
subgraph @block_2(%para0_x) {
  %0(a) = PrimFunc_MatMul(%para0_x, %para1_w, Bool(0), Bool(1)) {instance name: matmul}
      : (<Tensor[Float16], (8, 4)>, <Tensor[Float16], (2, 4)>) -> (<Tensor[Float16], (8, 2)>)
  %1(b) = Partial(@back_3, %0)
      : (<Func, NoShape>)
}
subgraph @back_3(%para0_x) {
  %0(a) = AllReduce(%para0_x) {instance name: x} primitive_attrs: {group_rank_ids: (0, 1)}
      : (<Tensor[Float16], (8, 2)>) -> (<Tensor[Float16], (8, 2)>)
}
subgraph @step_1() {
  %0(a) = call @block_2(%para0_x)
  %1(b) = call @block_2(%0)
  %2(c) = %1[@FuncUnion(Partial(@back_3), Partial(@other_4))](%1)
  %3(d) = %0[@Partial(@back_3)](%2)
}
subgraph @other_4() {
  %0(a) = call @back_3(%para0_x)
}
"""


def test_what_a_graph_holds_counts_as_often_as_the_graph_is_called():
    assert runs_of_graphs(CALLS) == {"step_1": 1, "block_2": 2, "back_3": 3, "other_4": 1}
    collectives, products = read_graph(CALLS)
    assert (len(collectives), len(products)) == (3, 2)
    assert {product.flops for product in products} == {2 * 8 * 2 * 4}


def test_a_graph_that_nothing_calls_is_refused_when_it_computes():
    with pytest.raises(ValueError, match="nothing calls the graph of .*MatMul"):
        read_graph(CALLS.replace("call @block_2", "summon @block_2"))


def test_a_gradient_is_shortened_only_where_nothing_else_is_asked_for():
    def getter(asked):
        all_reduce, dev_num, mean_flag, dump_local_norm, dump_device_local_norm = abs, asked["n"], asked["mean"], 0, 0
        feat_value_dump_name = None
        if asked["n"] == 3:
            unset = 1

        def bprop(x, out, dout):
            settings = dev_num, mean_flag, dump_local_norm, dump_device_local_norm, feat_value_dump_name
            return settings, unset, all_reduce

        return bprop

    short = shortened(getter, "all_reduce")
    assert short({"n": 2, "mean": False})(None, None, -5) == (5,)
    assert len(short({"n": 3, "mean": True})(None, None, -5)) == 3
    assert short({"n": 1, "mean": False}).__code__ is getter({"n": 1, "mean": False}).__code__
    other = shortened(lambda asked: lambda x, out, dout: "as it was", "all_reduce")
    assert other({})(None, None, None) == "as it was"


@needs_standins
def test_short_gradients_change_no_layout_no_collective_and_no_product(tmp_path):
    sizes = tmp_path / "model.yaml"
    small = {"num_layers": 2, "hidden_size": 64, "num_heads": 4, "feed_forward_size": 256, "vocab_size": 256}
    model = dataclasses.replace(load_model_config("codegeex_tiny"), **small, seq_length=32, eod_id=0)
    sizes.write_text(json.dumps(as_tree(model)))
    settings = [
        f"model={sizes}", "compute.dtype=float16", "compute.recompute=true", "batch.tokens_per_step=256",
        "parallel.npus=16", "parallel.mp=2", "parallel.optimizer_shard=4", "parallel.optimizer_level=level2",
    ]  # fmt: skip
    recipe = load_recipe("codegeex_tiny", settings)
    environment, _ = cluster_environment(os.environ, 0, recipe.parallel.npus)
    environment["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"

    def compiled(short):
        folder = tmp_path / str(short)
        folder.mkdir()
        out = folder / "out.json"
        request = {"config": as_tree(recipe), "graphs": str(folder), "out": str(out), "short": short}
        (folder / "request.json").write_text(json.dumps(request))
        command = [sys.executable, "-m", "mindgeex.train.dryrun.child", str(folder / "request.json")]
        subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True, timeout=240)
        text = find_graph(folder).read_text()
        collectives, products = read_graph(text)
        assert max(runs_of_graphs(text).values()) == 1
        return json.loads(out.read_text())["layouts"], Counter(collectives), Counter(products)

    assert compiled(True) == compiled(False)
