"""A training run as one tree of frozen dataclasses: a recipe (YAML) with overrides, resolved and checked.

RunConfig = model + compute + batch + schedule + optimizer + run
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mindgeex.common import config
from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import ComputeConfig, load_model_config
from mindgeex.train.optimizer_config import OptimizerConfig
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
    evaluate_steps: int = 200
    """The held-out loss, besides before the first and after the last step."""
    heldout_rows: int = 64
    """Rows of the held-out split that are scored; all of them if there are fewer."""

    def __post_init__(self) -> None:
        for name in ("log_steps", "checkpoint_steps", "keep_checkpoints", "evaluate_steps", "heldout_rows"):
            if getattr(self, name) < 1:
                raise UserError(f"cadence.{name} is {getattr(self, name)}: it must be at least 1")


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes."""

    model: str
    """A model of the zoo (`codegeex_tiny`), or the path of a YAML file with its sizes."""
    steps: int
    """Training steps of the whole run."""
    batch_size: int
    """Rows of seq_length + 1 tokens in one step."""
    schedule: ScheduleConfig
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    cadence: CadenceConfig = field(default_factory=CadenceConfig)
    seed: int = 42
    """Of the initial weights, of the order of the rows and of dropout."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed}: it must be at least 0 and below 2^32")
        load_model_config(self.model)


def recipe_names() -> list[str]:
    """The recipes that ship with the project."""
    return config.recipe_names(RECIPES)


def load_recipe(name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """A run from a shipped recipe's name or a YAML file's path, with `key.inner=value` overrides applied.

    Raises:
        UserError: no such recipe, an unknown key (the nearest is suggested), a wrong type, sizes that do not fit.
    """
    return config.load_recipe(RunConfig, RECIPES, name, overrides)
