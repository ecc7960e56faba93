"""A step on many NPUs is the step on one: what MindSpore's partitioner made of it, evaluated in NumPy.

Every rank's graph is compiled for a simulated cluster, and computed with the slices that MindSpore's layouts give it
and with collectives over the groups that the graph names; nothing of the model is written down a second time here.
The layouts are those by which checkpoints are cut.
"""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest

from mindgeex.model_zoo.checkpoints.layout import SPLIT_DIMS, Layout
from mindgeex.model_zoo.checkpoints.names import Row
from mindgeex.model_zoo.checkpoints.reshard import shards, split
from mindgeex.model_zoo.config import load_model_config
from tests.train.dryrun.cluster import Npu
from tests.train.dryrun.conftest import needs_standins
from tests.train.dryrun.graph_text import Name
from tests.train.dryrun.ranks import Compiled, compile_ranks
from tests.train.dryrun.slices import MOMENTS, plain, slices
from tests.train.dryrun.steps import MAX_NORM, Problem, check, evaluated, recipe, solved

pytestmark = [
    pytest.mark.timeout(900),  # ten compilations, on a busy machine
    needs_standins,
]
SIZES = {
    "num_layers": 2, "hidden_size": 16, "num_heads": 4, "feed_forward_size": 24, "vocab_size": 12, "seq_length": 5,
    "eod_id": 0, "dropout_rate": 0.2,
}  # fmt: skip
"""Five positions cannot be shared by two NPUs: such a table stays whole."""
FAMILIES = ("codegeex", "gpt_neox")
ONE = {"npus": 1}
MANY = {
    "codegeex": {"npus": 4, "mp": 2, "optimizer_shard": 2, "optimizer_level": "level2"},
    "gpt_neox": {"npus": 4, "mp": 2, "optimizer_shard": 2, "optimizer_level": "level3"},
}
"""The meshes of whole clusters, by family."""


CONFIGS = {family: dataclasses.replace(load_model_config(f"{family}_tiny"), **SIZES) for family in FAMILIES}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict[tuple[str, str, int], Compiled]:
    """Family, mesh and rank -> what MindSpore makes of them."""
    folder, wanted = tmp_path_factory.mktemp("ranks"), {}
    for family in FAMILIES:
        for mesh, parallel in (("one", ONE), ("many", MANY[family])):
            for rank in range(parallel["npus"]):
                wanted[family, mesh, rank] = (recipe(folder, CONFIGS[family], **parallel), rank)
    found = compile_ranks(folder, {"-".join(map(str, key)): value for key, value in wanted.items()})
    return {key: found["-".join(map(str, key))] for key in wanted}


@pytest.fixture(scope="module")
def problems(compiled, tmp_path_factory) -> dict[str, Problem]:
    return {
        family: solved(recipe(tmp_path_factory.mktemp("one"), config), config) for family, config in CONFIGS.items()
    }


def mesh_of(compiled: dict[tuple[str, str, int], Compiled], family: str, mesh: str) -> dict[int, Compiled]:
    return {rank: item for (*names, rank), item in compiled.items() if names == [family, mesh]}


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_norm_gradients_and_update_of_a_cluster_are_those_of_one_device(compiled, problems, family):
    problem = problems[family]
    assert problem.outcome.applied and problem.outcome.grad_norm > 2 * MAX_NORM  # what is clipped shows in every update
    one, many = (evaluated(mesh_of(compiled, family, mesh), problem) for mesh in ("one", "many"))
    check(many, one, problem)


def nodes_of(npus: dict[int, Npu]) -> Any:
    """Every node, of graphs that may be changed."""
    for npu in npus.values():
        npu.program = copy.deepcopy(npu.program)
        for graph in npu.program.graphs.values():
            yield from ((node, {other.target: other for other in graph.nodes}) for node in graph.nodes)


def exchanges_slices(npus: dict[int, Npu]) -> None:
    name = next(name for name in npus[0].held if name.endswith("optimizer.blocks.0.attention.query.weight"))
    npus[0].held[name], npus[1].held[name] = npus[1].held[name], npus[0].held[name]


def counts_copies(npus: dict[int, Npu]) -> None:
    changed = 0
    for node, others in nodes_of(npus):
        made = others.get(node.inputs[0].text) if node.operator == "Muls" and isinstance(node.inputs[0], Name) else None
        if made is not None and made.operator == "SumExt" and others[made.inputs[0].text].operator == "Square":
            changed += node.inputs[1] != 1
            node.inputs[1] = 1.0
    assert changed > 10 * len(npus)


def leaves_out(instance: str, shape: tuple[int, ...] | None = None) -> Any:
    """An AllReduce of this name, and shape, becomes what an NPU put into it."""

    def spoil(npus: dict[int, Npu]) -> None:
        left_out = 0
        for node, _ in nodes_of(npus):
            named = node.operator == "AllReduce" and f"{{instance name: {instance}" in node.notes
            if named and shape in (None, node.shape):
                node.operator, node.inputs = "Depend", [*node.inputs, None]
                left_out += 1
        assert left_out

    return spoil


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (exchanges_slices, "^loss differs"),
        (counts_copies, "^norm differs"),
        (leaves_out("sum_", ()), "^norm differs"),
        (leaves_out("forward_op"), "^loss differs"),
        (leaves_out("grad_mirror"), "^norm differs"),
    ],
    ids=["slices exchanged", "copies counted", "squares not summed", "products not summed", "gradients not summed"],
)
def test_a_wrong_slice_a_norm_that_counts_copies_and_a_sum_left_out_are_noticed(compiled, problems, spoil, what):
    problem = problems["codegeex"]
    one = evaluated(mesh_of(compiled, "codegeex", "one"), problem)
    with pytest.raises(AssertionError, match=what):
        check(evaluated(mesh_of(compiled, "codegeex", "many"), problem, spoil), one, problem)


def test_groups_that_contradict_each_other_are_noticed(compiled, problems):
    def spoil(npus: dict[int, Npu]) -> None:
        for node, _ in nodes_of({0: npus[0]}):
            node.notes = node.notes.replace("group_rank_ids: (0, 1, 2, 3)", "group_rank_ids: (0, 1)")

    with pytest.raises(RuntimeError, match=r"wait for each other: .*2 at AllReduce of \(0, 1, 2, 3\)"):
        evaluated(mesh_of(compiled, "codegeex", "many"), problems["codegeex"], spoil)


def test_checkpoints_are_cut_by_the_layouts_that_mindspore_gives_to_parameters_and_moments(compiled):
    looked_at = 0
    for (family, mesh, rank), item in compiled.items():
        if mesh == "one":
            continue
        parallel = MANY[family]
        config = CONFIGS[family]
        layout = Layout(parallel["npus"] // parallel["mp"], parallel["mp"], parallel["optimizer_shard"])
        wholes = {
            prefix + name: np.arange(np.prod(shape)).reshape(shape)
            for name, shape in config.shapes.items()
            for prefix in ("", *MOMENTS)
        }
        assert set(wholes) == {name for name in map(plain, item.layouts) if not name.startswith("args")}
        for name, held in slices(item, rank, wholes).items():
            row = Row((name,), name)
            found, _ = shards(row, config, layout, SPLIT_DIMS)
            cut = [
                part for piece, part in split(row, [wholes[name]], config, found, SPLIT_DIMS) if rank in piece.holders
            ]
            assert len(cut) == 1 and np.array_equal(cut[0], held), (family, parallel, rank, name)
            looked_at += held.size < wholes[name].size
    assert looked_at > 500
