"""A training run as one tree of frozen dataclasses: a recipe (YAML) with overrides, resolved and checked.

RunConfig = model + compute + batch + schedule + optimizer + loss scale + guard + cadence + parallel
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mindgeex.common import config
from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import ComputeConfig, load_model_config
from mindgeex.model_zoo.lora_config import LoraConfig
from mindgeex.train.batch import BatchConfig
from mindgeex.train.finetune_feed import FinetuneConfig
from mindgeex.train.guard import GuardConfig
from mindgeex.train.loss_scale import LossScaleConfig
from mindgeex.train.optimizer_config import OptimizerConfig
from mindgeex.train.parallel_config import ParallelConfig
from mindgeex.train.schedule import ScheduleConfig

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class CadenceConfig:
    """How often what happens, in steps, and how much is kept."""

    log_steps: int = 1
    """A line in metrics.jsonl and in TensorBoard."""
    checkpoint_steps: int = 100
    keep_checkpoints: int = 2
    """The newest this many checkpoints stay; older ones are deleted."""
    keep_every_steps: int | None = None
    """Checkpoints of steps that are multiples of this stay, too."""
    evaluate_steps: int = 200
    """The held-out loss, besides before the first and after the last step."""
    heldout_rows: int = 64
    """Rows of the held-out split that are scored; all of them if there are fewer."""
    heldout_rows_per_language: int = 32
    """Rows of each language's held-out documents that are scored; 0: no figures by language."""

    def __post_init__(self) -> None:
        for name in ("log_steps", "checkpoint_steps", "keep_checkpoints", "evaluate_steps", "heldout_rows"):
            if getattr(self, name) < 1:
                raise UserError(f"cadence.{name} is {getattr(self, name)}: it must be at least 1")
        if self.keep_every_steps is not None and self.keep_every_steps < 1:
            raise UserError(f"cadence.keep_every_steps is {self.keep_every_steps}: it must be at least 1")
        if self.heldout_rows_per_language < 0:
            raise UserError(
                f"cadence.heldout_rows_per_language is {self.heldout_rows_per_language}: it must be at least 0"
            )


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes."""

    steps: int
    """Training steps of the whole run."""
    batch: BatchConfig
    schedule: ScheduleConfig
    model: str | None = None
    """A model of the zoo (`codegeex_tiny`), or the path of a YAML file with its sizes; that of `init` by default."""
    init: str | None = None
    """A checkpoint to start from, of any format that can be read; fresh weights by default."""
    finetune: FinetuneConfig | None = None
    """Instruction data to train on, instead of a corpus."""
    lora: LoraConfig | None = None
    """Train small additions to the layers of `init` instead of all weights."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss_scale: LossScaleConfig = field(default_factory=LossScaleConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    cadence: CadenceConfig = field(default_factory=CadenceConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    """How the step is spread over NPUs (`mindgeex plan`)."""
    seed: int = 42
    """Of the initial weights, of the order of the rows and of dropout."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"steps is {self.steps}: it must be at least 1")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed}: it must be at least 0 and below 2^32")
        if self.model is not None:
            load_model_config(self.model)
        elif self.init is None:
            raise UserError("neither model nor init is set: name a model, such as codegeex_tiny, or a checkpoint")
        if self.lora is not None and self.init is None:
            raise UserError("lora needs init: the checkpoint whose layers it adds to")


def recipe_names() -> list[str]:
    """The recipes that ship with the project."""
    return config.recipe_names(RECIPES)


def load_recipe(name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """A run from a shipped recipe's name or a YAML file's path, with `key.inner=value` overrides applied.

    Raises:
        UserError: no such recipe, an unknown key (the nearest is suggested), a wrong type, sizes that do not fit.
    """
    return config.load_recipe(RunConfig, RECIPES, name, overrides)
