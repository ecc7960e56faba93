"""The layouts of a cluster ranked by predicted time under the memory of an NPU.

Every legal (dp, mp, pp, optimizer shard, micro batch, recomputation) is estimated by analytic.py in a fraction of a
millisecond; the best few are compiled afterwards (plan.py), which is where MindSpore has the last word.
Does not cover: interleaved stages, which a recipe may ask for; `optimizer_level`, `sequence_parallel` and attention
stay those of the recipe.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import ComputeConfig, ModelConfig, load_model_config
from mindgeex.model_zoo.sharding import legal_mp, shares_tokens
from mindgeex.train.batch import BatchConfig
from mindgeex.train.config import RunConfig
from mindgeex.train.dryrun import analytic, estimate
from mindgeex.train.parallel_config import ParallelConfig, divisors

GB = 1e9


class Setting(NamedTuple):
    """What a layout changes in a recipe."""

    parallel: ParallelConfig
    batch: BatchConfig
    compute: ComputeConfig


@dataclass(frozen=True)
class Candidate:
    """A layout and what is predicted of it; `memory_bytes` of the stage that needs most, `times` of the slowest."""

    recipe: RunConfig
    setting: Setting
    memory_bytes: int
    times: estimate.Times
    stage: int
    """The slowest."""

    @property
    def config(self) -> RunConfig:
        """The recipe with this layout."""
        return dataclasses.replace(self.recipe, **self.setting._asdict())

    @property
    def fits(self) -> bool:
        """Into the memory of an NPU."""
        return self.memory_bytes <= self.setting.parallel.memory_gb * GB

    @property
    def overrides(self) -> list[str]:
        """As `--set` takes them."""
        parallel, batch, compute = self.setting
        return [
            *(f"parallel.{name}={getattr(parallel, name)}" for name in ("mp", "pp", "optimizer_shard")),
            f"batch.micro_rows={batch.micro_rows}",
            f"batch.accumulate={batch.accumulate}",
            f"compute.recompute={str(compute.recompute).lower()}",
        ]


def layouts(config: RunConfig, model: ModelConfig) -> Iterator[Setting]:
    """Every legal one for the recipe's NPUs and tokens a step."""
    npus = config.parallel.npus
    rows = config.batch.tokens_per_step // model.seq_length
    for mp in (n for n in legal_mp(model) if npus % n == 0):
        for pp in (n for n in divisors(npus // mp) if n <= model.num_layers):
            dp = npus // mp // pp
            if rows % dp:
                continue
            for micro in (n for n in divisors(rows // dp) if rows // dp // n >= pp):
                if config.parallel.sequence_parallel and not shares_tokens(model, mp, micro):
                    continue
                batch = dataclasses.replace(config.batch, micro_rows=micro, accumulate=rows // dp // micro)
                for shard in divisors(dp):
                    parallel = dataclasses.replace(config.parallel, mp=mp, pp=pp, optimizer_shard=shard, interleave=1)
                    for recompute in (False, True):
                        compute = dataclasses.replace(config.compute, recompute=recompute)
                        yield Setting(parallel, batch, compute)


def search(config: RunConfig) -> list[Candidate]:
    """All legal layouts, those that fit first, the fastest first.

    Raises:
        UserError: no model, or none is legal.
    """
    if config.model is None:
        raise UserError("a plan needs model: name a model, such as codegeex_13b")
    model = load_model_config(config.model)
    candidates = [Candidate(config, setting, *analytic.predict(*setting, model)) for setting in layouts(config, model)]
    if not candidates:
        rows = config.batch.tokens_per_step // model.seq_length
        raise UserError(
            f"batch.tokens_per_step={config.batch.tokens_per_step} is {rows} rows, which no layout of "
            f"{config.parallel.npus} NPUs shares equally: set batch.tokens_per_step="
            f"{config.parallel.npus * model.seq_length}"
        )
    return sorted(candidates, key=lambda c: (not c.fits, c.times.step_s if c.fits else c.memory_bytes))


def best_shards(candidates: list[Candidate]) -> list[Candidate]:
    """The first of those that differ in their optimizer shards alone, which often take the same time."""
    first: dict[tuple[object, ...], Candidate] = {}
    for one in candidates:
        parallel, batch, compute = one.setting
        first.setdefault((parallel.mp, parallel.pp, batch.micro_rows, compute.recompute), one)
    return list(first.values())
