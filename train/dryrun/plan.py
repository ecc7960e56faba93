"""A plan: a recipe's step compiled for one NPU, and memory, communication and time read from it.

Two models of few layers are compiled and extended to the recipe's depth (depth.py), or all layers where that saves
nothing, does not follow, or is asked for.
"""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import ModelConfig, load_model_config
from mindgeex.model_zoo.sharding import check_divisible, check_shard, token_cuts
from mindgeex.train.batch import BatchPlan, plan_batch
from mindgeex.train.config import RunConfig
from mindgeex.train.dryrun import estimate
from mindgeex.train.dryrun.compiled import Compiled, known_or_compiled
from mindgeex.train.dryrun.depth import Irregular, extend_step, shallow_layers
from mindgeex.train.dryrun.memory import Layout, Line, memory_lines
from mindgeex.train.pipeline import check_micro_batches, check_pieces

Item = TypeVar("Item", estimate.Collective, estimate.Product)


@dataclass(frozen=True)
class Plan:
    """What one NPU of a cluster would hold, say and compute."""

    config: RunConfig
    model: ModelConfig
    rank: int
    compiled: Compiled
    """What MindSpore made of the step: one micro batch a stage."""
    layers: tuple[int, ...]
    """Of the models that were compiled: all, or those of two shallow ones, which were extended."""
    why_whole: str
    """Why all layers were compiled; empty if they were not."""

    @property
    def batch(self) -> BatchPlan:
        """A step cut up."""
        return plan_batch(self.config.batch, self.model.seq_length, self.config.parallel.dp)

    @property
    def rows(self) -> int:
        """Of an mp group in one micro batch."""
        return self.batch.micro_rows

    @property
    def stage(self) -> int:
        """Of the pipeline."""
        return self.rank // self.config.parallel.stage_npus

    @property
    def layouts(self) -> list[Layout]:
        """Of the weights."""
        return self.compiled.weights

    @property
    def collectives(self) -> list[estimate.Collective]:
        """Of one micro batch, and of the update; equal ones counted."""
        return of_one_micro_batch(self.compiled.collectives, self.config.parallel.pp)

    @property
    def products(self) -> list[estimate.Product]:
        """Of one micro batch; equal ones counted."""
        return of_one_micro_batch(self.compiled.products, self.config.parallel.pp)

    @property
    def memory(self) -> list[Line]:
        """Bytes by what they are for."""
        return self.memory_if(self.config.parallel.sequence_parallel)

    def memory_if(self, sequence_parallel: bool) -> list[Line]:
        """The same, if the NPUs of an mp group shared tokens, or did not."""
        parallel = dataclasses.replace(self.config.parallel, sequence_parallel=sequence_parallel)
        return memory_lines(
            self.model, self.config.compute, parallel, self.rows, self.layouts, self.stage, self.batch.accumulate
        )

    @property
    def shared_bytes(self) -> int:
        """What an NPU holds less if its mp group shares tokens."""
        whole, shared = (sum(line.value for line in self.memory_if(asked)) for asked in (False, True))
        return whole - shared

    @property
    def traffic(self) -> list[estimate.Traffic]:
        """Collectives of a step."""
        return estimate.traffic(self.collectives, self.config.parallel, self.rank)

    @property
    def times(self) -> estimate.Times:
        """The roofline."""
        return estimate.times(
            self.model, self.config.compute, self.config.parallel, self.rows, self.products, self.traffic,
            self.batch.accumulate, self.stage,
        )  # fmt: skip


def make_plan(
    config: RunConfig, rank: int = 0, save_graphs: Path | None = None, cache: Path | None = None, whole: bool = False
) -> Plan:
    """Compiles the step of one NPU, or takes what was compiled before.

    Args:
        config: the resolved recipe.
        rank: which NPU.
        save_graphs: keep MindSpore's graph of all layers here; compiles even if the plan is known.
        cache: folder of what was compiled before.
        whole: compile all layers.

    Raises:
        UserError: settings that do not fit together, or that MindSpore refuses.
    """
    if config.model is None:
        raise UserError("a plan needs model: name a model, such as codegeex_13b")
    parallel, model = config.parallel, load_model_config(config.model)
    if not 0 <= rank < parallel.npus:
        raise UserError(f"rank {rank} is not one of {parallel.npus} NPUs: choose 0 to {parallel.npus - 1}")
    check_divisible(model, parallel.mp)
    check_pieces(model, parallel)
    check_shard(model, parallel.mp, parallel.dp, parallel.optimizer_shard)
    batch = plan_batch(config.batch, model.seq_length, parallel.dp)
    check_micro_batches(parallel, batch.accumulate)
    if parallel.sequence_parallel:
        token_cuts(model, parallel.dp, parallel.mp, batch.micro_rows)
    # A graph of as few micro batches as show all that is said; the rest of the step repeats them.
    count = parallel.pp
    tokens = batch.micro_rows * count * parallel.dp * model.seq_length
    one = dataclasses.replace(config.batch, tokens_per_step=tokens, micro_rows=batch.micro_rows, accumulate=count)
    compiled = dataclasses.replace(config, batch=one)
    cache = cache or Path.home() / ".cache" / "mindgeex" / "plans"
    return Plan(config, model, rank, *compile_plan(compiled, model, rank, cache, save_graphs, whole))


def compile_plan(
    config: RunConfig, model: ModelConfig, rank: int, cache: Path, save_graphs: Path | None, whole: bool
) -> tuple[Compiled, tuple[int, ...], str]:
    """What a step is, the layers that were compiled for it, and why those were all (else empty).

    Raises:
        UserError: MindSpore refuses.
    """
    pair = shallow_layers(model, config.parallel)
    if whole or save_graphs is not None:
        why = "as asked"
    elif pair is None:
        why = "few layers"
    else:
        shallow = [dataclasses.replace(model, num_layers=layers) for layers in pair]
        with ThreadPoolExecutor(2) as pool:  # of processes that it waits for
            small, large = pool.map(lambda one: known_or_compiled(config, one, rank, cache), shallow)
        try:
            return extend_step(small, large, model, config.parallel, rank // config.parallel.stage_npus), pair, ""
        except Irregular as error:
            why = f"{pair[0]} and {pair[1]} layers do not show what more are: {error}"
    return known_or_compiled(config, model, rank, cache, save_graphs), (model.num_layers,), why


def of_one_micro_batch(items: list[Item], micro_batches: int) -> list[Item]:
    """Equal ones counted; of what every micro batch says or computes, one's share."""
    counts: dict[Item, int] = {}
    for item in items:
        one = dataclasses.replace(item, count=1)
        counts[one] = counts.get(one, 0) + item.count
    each = ("forward", "backward", "tokens", "pipeline", "accumulation")
    return [
        dataclasses.replace(item, count=count // micro_batches if getattr(item, "purpose", each[0]) in each else count)
        for item, count in counts.items()
    ]
