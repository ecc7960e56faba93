"""What a run is about: its data, and the model that fits it. Read and checked before MindSpore builds anything."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.data.mindrecord import Corpus
from mindgeex.model_zoo.checkpoints.initial import initial_config
from mindgeex.model_zoo.config import ModelConfig, load_model_config
from mindgeex.train.config import RunConfig
from mindgeex.train.evaluation import HeldoutRows, heldout_sets
from mindgeex.train.feed import Batch, CorpusFeed, Feed
from mindgeex.train.finetune_feed import FinetuneFeed, TaskBatch, open_finetune_feed
from mindgeex.train.task_weights import TaskBalance


@dataclass(frozen=True)
class RunData:
    """Rows to train on, rows to be scored, and the model's sizes."""

    model: ModelConfig
    feed: Feed
    heldout: dict[str, HeldoutRows]
    """Name -> rows; empty if nothing is held out."""
    balance: TaskBalance | None = None
    """Of a fine-tuning feed's tasks."""

    @property
    def fingerprint(self) -> str:
        """Of the feed."""
        return self.feed.fingerprint

    def flops(self, tokens: int, is_frozen: bool = False) -> float:
        """Floating-point operations of a training step of so many tokens: three times the forward pass, or twice.

        Args:
            tokens: of input.
            is_frozen: there are no gradients of the model's own weights, as with LoRA, whose products are not counted.
        """
        return (2.0 if is_frozen else 3.0) * self.model.forward_flops_per_token(self.feed.seq_length) * tokens

    def weigh(self, batch: Batch) -> Batch:
        """The batch with the weights that its tasks have now."""
        if self.balance is None or not isinstance(batch, TaskBatch):
            return batch
        weights_BS = self.balance.weights(batch.weights_BS, batch.tasks_B, batch.tokens_T)
        return dataclasses.replace(batch, weights_BS=weights_BS)

    def observe(self, step: int, heldout_losses: dict[str, float]) -> None:
        """Takes note of the tasks' held-out losses."""
        if self.balance is not None:
            self.balance.observe(step, heldout_losses)

    def state(self) -> dict[str, Any]:
        """What later weights depend on."""
        return self.balance.state() if self.balance is not None else {}

    def restore(self, state: dict[str, Any]) -> None:
        """Back to what `state` gave."""
        if self.balance is not None:
            self.balance.restore(state)


def open_data(config: RunConfig, data: Path | None) -> RunData:
    """Opens what the recipe and the command name.

    Args:
        config: the resolved recipe.
        data: a corpus's folder; None if `config.finetune` names tasks.

    Raises:
        UserError: damaged or malformed data, or data, model and machine do not fit each other.
    """
    if config.init is not None:
        sizes = initial_config(Path(config.init), config.model or "")
    else:
        sizes = load_model_config(str(config.model))
    if config.finetune is None:
        if data is None:
            raise UserError(
                "no data: give --data CORPUS, a folder that `mindgeex data build` made, or --task NAME=PATH"
            )
        corpus = Corpus.open(data)
        feed = CorpusFeed(corpus, config.seed)
        model = fit_model(sizes, feed, config)
        if corpus.num_rows("heldout") == 0:
            raise UserError(f"{data}: no rows in split heldout: build it from more repositories")
        cadence = config.cadence
        return RunData(model, feed, heldout_sets(corpus, cadence.heldout_rows, cadence.heldout_rows_per_language))
    tokenizer = (Path(config.init) if config.init else data or Path()) / "tokenizer"
    if not tokenizer.is_dir():
        raise UserError(
            f"{tokenizer}: no tokenizer there: set init to a checkpoint that has one, or give --data CORPUS"
        )
    tasks = open_finetune_feed(config.finetune, tokenizer, sizes.seq_length, config.seed)
    model = fit_model(sizes, tasks, config)
    return RunData(model, tasks, _task_sets(tasks), tasks.balance())


def _task_sets(feed: FinetuneFeed) -> dict[str, HeldoutRows]:
    return {name: HeldoutRows(task.rows_RS1, task.scored_RS.astype("float32")) for name, task in feed.heldout.items()}


def fit_model(model: ModelConfig, feed: Feed, config: RunConfig) -> ModelConfig:
    """The model's sizes with the data's end of document.

    Raises:
        UserError: the data do not fit the model, or the model does not fit this machine.
    """
    name = config.model or config.init
    if feed.seq_length > model.seq_length:
        raise UserError(
            f"{feed.name}: rows of seq_length={feed.seq_length}, but model {name} has "
            f"seq_length={model.seq_length}: build the corpus with --set seq_length={model.seq_length}"
        )
    if feed.vocab_size > model.vocab_size:
        raise UserError(
            f"{feed.name}: a vocabulary of {feed.vocab_size}, but model {name} has "
            f"vocab_size={model.vocab_size}: build the corpus with --set tokenizer.vocab_size={model.vocab_size}, or "
            "train a larger model"
        )
    trained = 4 if config.lora is not None else 16
    needed, available = trained * model.parameters, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > available:
        raise UserError(
            f"model {name}: weights{', gradients and moments' if trained == 16 else ''} take {needed / 1e9:.0f} GB, "
            f"this machine has {available / 1e9:.0f} GB: choose a smaller recipe, such as codegeex_tiny"
        )
    return dataclasses.replace(model, eod_id=feed.eod_id)
