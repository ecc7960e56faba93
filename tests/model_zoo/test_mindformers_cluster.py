"""What MindFormers builds of both 13B configurations, made small, is cut over simulated NPUs as our plan says."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mindgeex.model_zoo.config import load_model_config
from mindgeex.model_zoo.sharding import cuts_of, sharding_plan
from mindgeex.train.dryrun.graph import find_graph, read_graph
from mindgeex.train.dryrun.standins import cluster_environment
from tests.train.dryrun.conftest import needs_standins

DP, MP = 2, 4
SMALL = {
    "num_layers": 2, "hidden_size": 512, "num_heads": 8, "feed_forward_size": 2048, "vocab_size": 1024,
    "seq_length": 256, "eod_id": 0,
}  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # two compilations, on a busy machine
    pytest.mark.skipif(importlib.util.find_spec("mindformers") is None, reason="no mindformers"),
    needs_standins,
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A folder with what mindformers_cluster_job.py left, as NPU 5 of 2 x 4; one process for both families."""
    folder = tmp_path_factory.mktemp("cluster")
    environment, _ = cluster_environment(os.environ, 5, DP * MP)
    settings = [f"model.model_config.{name}={value}" for name, value in SMALL.items()]
    settings += [f"parallel_config.data_parallel={DP}", f"parallel_config.model_parallel={MP}"]
    command = [sys.executable, str(Path(__file__).with_name("mindformers_cluster_job.py")), *settings]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-4000:]
    return folder


@pytest.mark.parametrize("name", ["codegeex_13b", "codefuse_13b"])
def test_every_parameter_of_mindformers_network_is_cut_as_our_plan_says(compiled, name):
    raw = json.loads((compiled / f"{name}.json").read_text(encoding="utf-8"))
    held = {path.rpartition(".network.")[2]: layout for path, layout in raw.items() if ".network." in path}
    sizes = replace(load_model_config(name), **SMALL)
    plan = sharding_plan(sizes, DP, MP, flash=name == "codefuse_13b")
    assert held.keys() == sizes.shapes.keys()
    for parameter, shape in sizes.shapes.items():
        cuts = cuts_of(parameter, plan)
        mesh, places, piece, _, _, group, whole, *_ = held[parameter]
        assert (mesh, tuple(whole)) == ([DP, MP], shape), parameter
        assert piece == [length // cut for length, cut in zip(shape, cuts, strict=True)], parameter
        assert places == [0 if cut == MP else -1 for cut in cuts], parameter  # 0 is the mesh's last axis
        assert bool(group) == (len(shape) == 2), parameter  # sharded with its optimizer: all but what is small
    assert held["blocks.0.attention.query.weight"][2] == [128, 512]


@pytest.mark.parametrize("name", ["codegeex_13b", "codefuse_13b"])
def test_the_compiled_graph_of_mindformers_network_talks_within_dp_and_mp_groups(compiled, name):
    collectives, products = read_graph(find_graph(compiled / name).read_text(encoding="utf-8"))
    flash = [sum(product.kind == f"FlashAttentionScore{end}" for product in products) for end in ("", "Grad")]
    layers = SMALL["num_layers"]
    assert flash == ([2 * layers, layers] if name == "codefuse_13b" else [0, 0])  # recomputed once
    everyone, over_dp, over_mp = tuple(range(DP * MP)), (1, 5), (4, 5, 6, 7)  # of NPU 5
    assert {item.ranks for item in collectives} - {()} <= {everyone, over_dp, over_mp}
    summed = [item for item in collectives if item.kind == "AllReduce" and item.ranks == over_mp]
    assert {item.purpose for item in summed} >= {"forward", "backward"}
    assert {item.kind for item in collectives if item.ranks == over_dp} >= {"AllGather", "ReduceScatter"}
