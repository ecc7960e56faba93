"""A compiled step evaluated on all NPUs of a mesh, and the step of one device's CPU beside it.

Tolerances. EXACT compares double precision with double precision, in another order of additions. SINGLE compares with
a step on this CPU in float32, whose sums of some ten thousand terms err by about 1e-6 of the largest; MindSpore prints
a graph's scalars with six digits, which is as much.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from mindgeex.common.config import as_tree
from mindgeex.model_zoo.checkpoints.native import named_parameters
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.families import build_model
from mindgeex.train.config import RunConfig, load_recipe
from mindgeex.train.feed import Batch, dropout_seeds
from mindgeex.train.loss import TokenLoss
from mindgeex.train.optimizer import AdamW
from mindgeex.train.step import NO_LIMIT, Outcome, TrainStep
from tests.train.dryrun.cluster import Npu, run_step
from tests.train.dryrun.graph_text import Name
from tests.train.dryrun.ranks import Compiled
from tests.train.dryrun.slices import MOMENTS, joined, plain, slices
from tests.train.stepping import plan_of

EXACT, SINGLE = 1e-12, 1e-5
ROWS, SEED, RATE, STEP, BETA1, MAX_NORM = 8, 7, 0.02, 3, 0.9, 0.1
ACCUMULATOR = "accu_grads."
"""In the name of a parameter in which a step adds gradients up, and which it leaves empty."""


def recipe(folder: Path, config: ModelConfig, *settings: str, **parallel: Any) -> RunConfig:
    """Of a step of ROWS rows."""
    sizes = folder / f"{config.family}.yaml"
    sizes.write_text(json.dumps(as_tree(config)))
    spread = [f"parallel.{name}={str(value).lower()}" for name, value in parallel.items()]
    step = [f"batch.tokens_per_step={ROWS * config.seq_length}", f"optimizer.max_grad_norm={MAX_NORM}"]
    return load_recipe("codegeex_tiny", [f"model={sizes}", *step, *settings, *spread])


@dataclass
class Problem:
    """Weights, moments and a batch, and the step on one device's CPU: its outcome, and the weights after it."""

    config: ModelConfig
    values: dict[str, np.ndarray]
    batch: Batch
    outcome: Outcome
    after: dict[str, np.ndarray]
    scalars: np.ndarray


def solved(run: RunConfig, config: ModelConfig) -> Problem:
    """The step of a recipe on this CPU."""
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


def cluster_of(compiled: Mapping[int, Compiled], problem: Problem) -> dict[int, Npu]:
    """All NPUs of a mesh by rank, each with its slices of the problem."""
    batch = problem.batch
    factor = np.array(1 / batch.weights_BS.size)
    arguments = [batch.rows_BS1, batch.weights_BS * factor, dropout_seeds(SEED, batch.slots_B)]
    whole = problem.values | {f"args{number}": value for number, value in enumerate(arguments)}
    npus = {}
    for rank, item in compiled.items():
        held = slices(item, rank, whole)
        held["sums"] = np.array([held["args1"].sum(dtype=np.float64) / factor, rank == 0])
        held |= {"limits": np.array([NO_LIMIT, NO_LIMIT]), "scalars": problem.scalars, "factor": factor}
        held |= {short(name): np.zeros(shape) for name, shape in item.program.parameters.items() if ACCUMULATOR in name}
        npus[rank] = Npu(item.program, {name: in_double(held[short(name)]) for name in item.program.parameters})
    return npus


def short(parameter: str) -> str:
    """%para7_update.optimizer.head.weight -> head.weight, %para40_update.sums -> sums."""
    if ACCUMULATOR in parameter:
        return ACCUMULATOR + plain(parameter)
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
        """A tensor put together by those who hold it."""
        holders = [rank for rank, part in parts.items() if name in part]
        return joined({r: parts[r][name] for r in holders}, {r: self.places[r][name] for r in holders}, shape)


def evaluated(compiled: Mapping[int, Compiled], problem: Problem, spoil: Any = lambda npus: None) -> Found:
    """What the NPUs of a mesh come to together."""
    npus = cluster_of(compiled, problem)
    spoil(npus)
    index = {name: np.arange(value.size).reshape(value.shape) for name, value in problem.values.items()}
    return Found(
        run_step(npus),
        {rank: owned({short(name): value for name, value in npu.held.items()}, npu) for rank, npu in npus.items()},
        {rank: owned({plain(name): value for name, value in npu.gradients.items()}, npu) for rank, npu in npus.items()},
        {rank: slices(compiled[rank], rank, index) for rank in npus},
    )


def owned(values: dict[str, np.ndarray], npu: Npu) -> dict[str, np.ndarray]:
    """Without a weight that another stage sends in every step, and its moments."""
    received = [node.inputs[0] for node in npu.program.graphs[npu.program.main].nodes if node.operator == "Receive"]
    sent = {prefix + plain(of.text) for of in received if isinstance(of, Name) for prefix in ("", *MOMENTS)}
    return {name: value for name, value in values.items() if name not in sent}


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
