"""A step on many NPUs is the step on one: what MindSpore's partitioner made of it, evaluated in NumPy.

Every rank's graph is compiled for a simulated cluster, and computed with the slices that MindSpore's layouts give it
and with collectives over the groups that the graph names; nothing of the model is written down a second time here.
The layouts are those by which checkpoints are cut.

Tolerances. EXACT compares double precision with double precision, in another order of additions. SINGLE compares with
a step on this CPU in float32, whose sums of some ten thousand terms err by about 1e-6 of the largest; MindSpore prints
a graph's scalars with six digits, which is as much.
"""

import copy
import dataclasses
import json
import platform
import shutil
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from mindgeex.common.config import as_tree
from mindgeex.model_zoo.checkpoints.layout import SPLIT_DIMS, Layout
from mindgeex.model_zoo.checkpoints.names import Row
from mindgeex.model_zoo.checkpoints.native import named_parameters
from mindgeex.model_zoo.checkpoints.reshard import shards, split
from mindgeex.model_zoo.config import ModelConfig, load_model_config
from mindgeex.model_zoo.families import build_model
from mindgeex.train.config import RunConfig, load_recipe
from mindgeex.train.feed import Batch, dropout_seeds
from mindgeex.train.loss import TokenLoss
from mindgeex.train.optimizer import AdamW
from mindgeex.train.step import NO_LIMIT, Outcome, TrainStep
from tests.train.dryrun.cluster import Npu, run_step
from tests.train.dryrun.graph_text import Name
from tests.train.dryrun.ranks import Compiled, compile_ranks
from tests.train.dryrun.slices import MOMENTS, joined, plain, slices
from tests.train.stepping import plan_of

pytestmark = [
    pytest.mark.timeout(900),  # ten compilations, on a busy machine
    pytest.mark.skipif(
        shutil.which("cc") is None or platform.machine() not in ("x86_64", "aarch64"),
        reason="stand-ins need a C compiler",
    ),
]
EXACT, SINGLE = 1e-12, 1e-5
ROWS, SEED, RATE, STEP, BETA1, MAX_NORM = 8, 7, 0.02, 3, 0.9, 0.1
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


def family_sizes(family: str) -> ModelConfig:
    return dataclasses.replace(load_model_config(f"{family}_tiny"), **SIZES)


def recipe(folder: Any, family: str, **parallel: Any) -> RunConfig:
    sizes = folder / f"{family}.yaml"
    sizes.write_text(json.dumps(as_tree(family_sizes(family))))
    settings = [
        f"model={sizes}",
        f"batch.tokens_per_step={ROWS * SIZES['seq_length']}",
        f"optimizer.max_grad_norm={MAX_NORM}",
    ]
    return load_recipe("codegeex_tiny", settings + [f"parallel.{name}={value}" for name, value in parallel.items()])


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict[tuple[str, str, int], Compiled]:
    """Family, mesh and rank -> what MindSpore makes of them."""
    folder, wanted = tmp_path_factory.mktemp("ranks"), {}
    for family in FAMILIES:
        for mesh, parallel in (("one", ONE), ("many", MANY[family])):
            for rank in range(parallel["npus"]):
                wanted[family, mesh, rank] = (recipe(folder, family, **parallel), rank)
    found = compile_ranks(folder, {"-".join(map(str, key)): value for key, value in wanted.items()})
    return {key: found["-".join(map(str, key))] for key in wanted}


@dataclass
class Problem:
    """Weights, moments and a batch, and the step on one device's CPU: its outcome, and the weights after it."""

    config: ModelConfig
    values: dict[str, np.ndarray]
    batch: Batch
    outcome: Outcome
    after: dict[str, np.ndarray]
    scalars: np.ndarray


@pytest.fixture(scope="module")
def problems(compiled, tmp_path_factory) -> dict[str, Problem]:
    return {family: solved(recipe(tmp_path_factory.mktemp("one"), family), family_sizes(family)) for family in FAMILIES}


def solved(run: RunConfig, config: ModelConfig) -> Problem:
    rng = np.random.default_rng(5)
    model = build_model(config)
    optimizer = AdamW(parameters := named_parameters(model), run.optimizer)
    for name, parameter in (parameters | optimizer.moments).items():
        drawn = rng.normal(0, 0.3, parameter.shape) + name.endswith("gamma")
        if name.startswith(MOMENTS):  # as large as clipped gradients are: an update then follows from them smoothly
            drawn = drawn * 1e-3 if name.startswith("adam_m") else drawn**2 * 1e-3 + 1e-4
        parameter.set_data(ms.Tensor(drawn.astype(np.float32)))
    everything = parameters | optimizer.moments
    values = {name: parameter.asnumpy().copy() for name, parameter in everything.items()}
    rows = rng.integers(0, config.vocab_size, (ROWS, config.seq_length + 1)).astype(np.int32)
    weights = rng.choice(np.array([0, 0.5, 1], np.float32), (ROWS, config.seq_length))
    batch = Batch(rows, weights, 40 + np.arange(ROWS))
    scalars = optimizer.scalars(RATE, STEP)
    outcome = TrainStep(TokenLoss(model), optimizer, plan_of(rows), SEED)(batch, scalars)
    after = {name: parameter.asnumpy() for name, parameter in everything.items()}
    return Problem(config, values, batch, outcome, after, scalars.asnumpy())


def cluster_of(compiled: dict[tuple[str, str, int], Compiled], problem: Problem, mesh: str) -> dict[int, Npu]:
    """All NPUs of a mesh, each with its slices of the problem."""
    family, batch = problem.config.family, problem.batch
    factor = np.array(1 / batch.weights_BS.size)
    arguments = [batch.rows_BS1, batch.weights_BS * factor, dropout_seeds(SEED, batch.slots_B)]
    whole = problem.values | {f"args{number}": value for number, value in enumerate(arguments)}
    npus = {}
    for (of_family, of_mesh, rank), item in compiled.items():
        if (of_family, of_mesh) == (family, mesh):
            held = slices(item, rank, whole)
            held["sums"] = np.array([held["args1"].sum(dtype=np.float64) / factor, rank == 0])
            held |= {"limits": np.array([NO_LIMIT, NO_LIMIT]), "scalars": problem.scalars, "factor": factor}
            npus[rank] = Npu(item.program, {name: in_double(held[short(name)]) for name in item.program.parameters})
    return npus


def short(parameter: str) -> str:
    """%para7_update.optimizer.head.weight -> head.weight, %para40_update.sums -> sums."""
    return plain(parameter.partition("_")[2]).removeprefix("update.").removeprefix("step.")


def in_double(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float64) if value.dtype == np.float32 else value.copy()


@dataclass
class Found:
    """What a cluster came to, by NPU."""

    results: dict[int, Any]
    """Loss, norm, sums and whether the update was made."""
    after: dict[int, dict[str, np.ndarray]]
    """Slices of weights and moments."""
    gradients: dict[int, dict[str, np.ndarray]]
    """Slices of the gradients as the update takes them: clipped."""
    places: dict[int, dict[str, np.ndarray]]
    """Where the slices lie in the whole."""

    def of(self, number: int) -> list[float]:
        """One of the results, on every NPU."""
        return [float(result[number]) for result in self.results.values()]

    def whole(self, parts: dict[int, dict[str, np.ndarray]], name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor put together."""
        return joined({r: part[name] for r, part in parts.items()}, {r: self.places[r][name] for r in parts}, shape)


def evaluated(compiled: Any, problem: Problem, mesh: str, spoil: Any = lambda npus: None) -> Found:
    npus = cluster_of(compiled, problem, mesh)
    spoil(npus)
    index = {name: np.arange(value.size).reshape(value.shape) for name, value in problem.values.items()}
    return Found(
        run_step(npus),
        {rank: {short(name): value for name, value in npu.held.items()} for rank, npu in npus.items()},
        {rank: {plain(name): value for name, value in npu.gradients.items()} for rank, npu in npus.items()},
        {rank: slices(compiled[problem.config.family, mesh, rank], rank, index) for rank in npus},
    )


def close(found: Any, wanted: Any, tolerance: float, what: str) -> None:
    """Within `tolerance` of the largest; a keys' bias of CodeGeeX has no gradient at all but what rounding makes."""
    error = np.abs(np.asarray(found) - wanted).max()
    assert error <= tolerance * (np.abs(wanted).max() + 1e-4), f"{what} differs by {error}"


def check(found: Found, one: Found, problem: Problem) -> None:
    """Loss, norm, gradients and the weights after the update, on every NPU."""
    outcome = problem.outcome
    for number, name, wanted in ((0, "loss", outcome.loss), (1, "norm", outcome.grad_norm)):
        close(found.of(number), one.of(number)[0], EXACT, name)
        close(found.of(number), wanted, SINGLE, f"{name} on this CPU")
    close([sums[0] for _, _, sums, _ in found.results.values()], outcome.weight, SINGLE, "weight")
    for name, before in problem.values.items():
        value = found.whole(found.after, name, before.shape)
        close(value, one.after[0][name], EXACT, name)
        close(value, problem.after[name], SINGLE, f"{name} on this CPU")
        if not name.startswith(MOMENTS):
            gradient, moment = found.whole(found.gradients, name, before.shape), f"adam_m.{name}"
            close(gradient, one.gradients[0][name], EXACT, f"gradient of {name}")
            added = problem.after[moment] - BETA1 * problem.values[moment].astype(np.float64)
            close(gradient, added / (1 - BETA1), SINGLE, f"gradient of {name} on this CPU")


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_norm_gradients_and_update_of_a_cluster_are_those_of_one_device(compiled, problems, family):
    problem = problems[family]
    assert problem.outcome.applied and problem.outcome.grad_norm > 2 * MAX_NORM  # what is clipped shows in every update
    one, many = (evaluated(compiled, problem, mesh) for mesh in ("one", "many"))
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
    one = evaluated(compiled, problem, "one")
    with pytest.raises(AssertionError, match=what):
        check(evaluated(compiled, problem, "many", spoil), one, problem)


def test_groups_that_contradict_each_other_are_noticed(compiled, problems):
    def spoil(npus: dict[int, Npu]) -> None:
        for node, _ in nodes_of({0: npus[0]}):
            node.notes = node.notes.replace("group_rank_ids: (0, 1, 2, 3)", "group_rank_ids: (0, 1)")

    with pytest.raises(RuntimeError, match=r"wait for each other: .*2 at AllReduce of \(0, 1, 2, 3\)"):
        evaluated(compiled, problems["codegeex"], "many", spoil)


def test_checkpoints_are_cut_by_the_layouts_that_mindspore_gives_to_parameters_and_moments(compiled):
    looked_at = 0
    for (family, mesh, rank), item in compiled.items():
        if mesh == "one":
            continue
        parallel = MANY[family]
        config = family_sizes(family)
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
