"""Blocks that are computed again in the backward pass: the same numbers, and nothing held but what they began with."""

import json
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest

from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.model_zoo.families import build_model
from mindgeex.model_zoo.kernels import library
from tests.model_zoo.test_fused import SEEDS, Weighted, flat, normal


@pytest.mark.parametrize("family", ["codegeex", "gpt_neox"])
def test_recomputed_blocks_give_the_same_numbers_bit_for_bit_with_dropout(family):
    ms.set_context(mode=ms.GRAPH_MODE)
    config = ModelConfig(family, 3, 32, 2, 48, 16, 64, eod_id=0, dropout_rate=0.2)
    ids = ms.Tensor(np.random.default_rng(0).integers(0, 48, (2, 16)).astype(np.int32))
    results = []
    for recompute in (False, True):
        model = build_model(config, ComputeConfig(recompute=recompute)).set_train()
        for parameter in model.get_parameters():
            parameter.set_data(ms.Tensor(0.3 * normal(*parameter.shape)))

        loss = Weighted(model, (2, 16, 48)).set_train()
        out = ms.value_and_grad(loss, None, tuple(model.get_parameters()))(ids, ms.Tensor(SEEDS))
        results.append([value.asnumpy() for value in flat(out)])
    for plain, again in zip(*results, strict=True):
        assert np.array_equal(plain, again)


KERNELS_OF_A_GRAPH = """
import collections, json, os, re, sys
from pathlib import Path
os.environ.update(MS_DEV_SAVE_GRAPHS="1", MS_DEV_SAVE_GRAPHS_PATH="graphs")
import numpy as np, mindspore as ms
from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.model_zoo.families import build_model
class Total(ms.nn.Cell):
    def __init__(self, model):
        super().__init__()
        self.model = model
    def construct(self, ids, seeds):
        return self.model(ids, seeds).sum()
ms.set_context(mode=ms.GRAPH_MODE)
config = ModelConfig(sys.argv[1], 3, 32, 2, 48, 16, 64, eod_id=0)
model = build_model(config, ComputeConfig(recompute=sys.argv[2] == "recompute"))
gradients = ms.grad(Total(model).set_train(), None, tuple(model.get_parameters()))
gradients(ms.Tensor(np.zeros((2, 16), np.int32)), ms.Tensor(np.zeros(2, np.int32)))
[graph] = Path("graphs").rglob("*_validate_*.ir")
print(json.dumps(collections.Counter(re.findall(r'func_name: "[^"]*:(\\w+)"', graph.read_text()))))
"""


def kernels_of_a_graph(folder, *arguments):
    """How often each kernel stands in the graph of a loss and its gradients."""
    folder.mkdir()
    (folder / "graph.py").write_text(KERNELS_OF_A_GRAPH)
    ran = subprocess.run([sys.executable, "graph.py", *arguments], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.skipif(not library.kernels_here(), reason="needs a CPU with g++")
@pytest.mark.parametrize(("family", "blocks"), [("codegeex", 2), ("gpt_neox", 3)])
def test_recomputed_blocks_hold_nothing_but_their_input(family, blocks, tmp_path):
    kept, again = (kernels_of_a_graph(tmp_path / how, family, how) for how in ("keep", "recompute"))
    more = {name: again[name] - kept[name] for name in kept}
    assert more["three_linears"] == more["attention"] == blocks and more["layer_norm"] >= blocks
    read_again = {"codegeex": 2, "gpt_neox": 1}[family]  # up, and in a serial block the attention's output, for the sum
    assert more["linear"] == read_again * blocks
    assert more["gelu_linear"] == 0  # nothing in the block's gradient reads what it gives
