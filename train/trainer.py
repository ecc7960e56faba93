"""The training loop: a recipe, a corpus and a folder in; checkpoints, metrics and a summary out.

Covers: one process on one device, exact resume. Does not cover: several devices, loss scaling.
"""

import contextlib
import dataclasses
import logging
import math
import time
from pathlib import Path
from typing import Any

import yaml

from mindgeex.common.config import as_tree, read_yaml
from mindgeex.common.errors import UserError
from mindgeex.common.files import atomic_file, sole_writer
from mindgeex.data.mindrecord import Corpus
from mindgeex.model_zoo.checkpoints.native import named_parameters
from mindgeex.model_zoo.config import ModelConfig, load_model_config
from mindgeex.train import checkpointing
from mindgeex.train.callbacks.base import Callback, StepRecord
from mindgeex.train.callbacks.checkpoint import Checkpoint
from mindgeex.train.callbacks.console import Console
from mindgeex.train.callbacks.evaluation import Evaluation
from mindgeex.train.callbacks.metrics import METRICS_FILE, Metrics, read_metrics
from mindgeex.train.callbacks.tensorboard import TensorBoard
from mindgeex.train.config import RunConfig
from mindgeex.train.evaluation import Evaluator, heldout_rows
from mindgeex.train.schedule import learning_rate

logger = logging.getLogger(__name__)

CONFIG_FILE = "run.yaml"


@dataclasses.dataclass(frozen=True)
class Summary:
    """What came out of a run."""

    checkpoint: Path
    parameters: int
    steps: int
    loss: float
    """Of the last step, nats per token."""
    bits_per_byte_before: float
    bits_per_byte_after: float
    xz_bits_per_byte: float
    """What `xz -9` reaches on the bytes that the held-out figures are about."""
    heldout_bytes: int
    tokens_per_s: float
    """Median over the steps."""


def train(config: RunConfig, corpus_folder: Path, run_folder: Path, resume: bool = False) -> Summary:
    """Trains to the end of the recipe.

    Args:
        config: the resolved recipe.
        corpus_folder: what `mindgeex data build` made; every shard is checked before the first step.
        run_folder: where checkpoints, metrics.jsonl and run.yaml go.
        resume: go on from the newest whole checkpoint; starts anew if there is none yet.

    Raises:
        UserError: a damaged corpus, sizes that do not fit, a run that exists already or goes on elsewhere, a full
            disk, a loss that is not a number.
    """
    corpus = Corpus.open(corpus_folder)
    model_config = fit_model(load_model_config(config.model), corpus, config)
    with sole_writer(run_folder):
        open_run(run_folder, config, corpus, resume)
        return _train(config, model_config, corpus, run_folder, resume)


def _train(config: RunConfig, model_config: ModelConfig, corpus: Corpus, run_folder: Path, resume: bool) -> Summary:
    import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(config.seed)
    from mindgeex.model_zoo.families import build_model
    from mindgeex.train.loss import MeanTokenLoss, TokenLoss
    from mindgeex.train.optimizer import AdamW
    from mindgeex.train.step import TrainStep

    model = build_model(model_config, config.compute)
    parameters = named_parameters(model)
    token_loss = TokenLoss(model, model_config.eod_id)
    optimizer = AdamW(parameters, config.optimizer)
    step_cell = TrainStep(MeanTokenLoss(token_loss), optimizer).set_train()

    tokenizer = corpus.tokenizer()
    state = checkpointing.TrainState(model_config, parameters, optimizer.moments, corpus.folder / "tokenizer")
    if resume and (newest := checkpointing.newest_whole(run_folder / "checkpoints")):
        checkpointing.restore(newest, state)
        logger.info("resuming from %s", newest)
    elif resume and checkpointing.list_checkpoints(run_folder / "checkpoints"):
        logger.warning("%s: no whole checkpoint is left: starting anew", run_folder)

    heldout = heldout_rows(corpus, config.cadence.heldout_rows, tokenizer, model_config.eod_id)
    evaluator = Evaluator(token_loss, heldout, config.batch_size, model_config.eod_id)
    callbacks: list[Callback] = [
        Evaluation(evaluator, config.cadence.evaluate_steps, config.steps),
        Metrics(run_folder, config.cadence.log_steps),
        TensorBoard(run_folder),
        Checkpoint(run_folder, state, config.cadence, config.steps),
        Console(config.steps),
    ]
    batches = corpus.batches("train", config.batch_size, seed=config.seed, start_row=state.step * config.batch_size)
    with contextlib.ExitStack() as ending:  # every callback ends, even if another one cannot
        for callback in callbacks:
            ending.callback(callback.end)
        record = StepRecord(state.step)
        for callback in callbacks:
            callback.begin(record)
        for step in range(state.step, config.steps):
            started = time.perf_counter()
            rate = learning_rate(config.schedule, step)
            rows_BS1 = ms.Tensor(next(batches))
            seed = ms.Tensor((config.seed * 1_000_003 + step) % 2**31, ms.int32)
            loss, norm = step_cell(rows_BS1, seed, optimizer.scalars(rate, step))
            record = StepRecord(step + 1, {"loss": float(loss), "grad_norm": float(norm), "learning_rate": rate})
            record.values["tokens_per_s"] = round(
                config.batch_size * corpus.seq_length / (time.perf_counter() - started), 1
            )
            check_finite(record, run_folder)
            for callback in callbacks:
                callback.after_step(record)
    return summarise(run_folder, model_config, heldout.xz_bits_per_byte, len(heldout.text))


def fit_model(model: ModelConfig, corpus: Corpus, config: RunConfig) -> ModelConfig:
    """The model's sizes with the corpus's end of document.

    Raises:
        UserError: the corpus does not fit the model, or the model does not fit this machine.
    """
    if corpus.seq_length > model.seq_length:
        raise UserError(
            f"{corpus.folder}: rows of seq_length={corpus.seq_length}, but model {config.model} has "
            f"seq_length={model.seq_length}: build the corpus with --seq-length {model.seq_length}"
        )
    if corpus.vocab_size > model.vocab_size:
        raise UserError(
            f"{corpus.folder}: a vocabulary of {corpus.vocab_size}, but model {config.model} has "
            f"vocab_size={model.vocab_size}: train a tokenizer with --vocab-size {model.vocab_size}, or a larger model"
        )
    for split in ("train", "heldout"):
        if corpus.num_rows(split) == 0:
            raise UserError(f"{corpus.folder}: no rows in split {split}: build it from more repositories")
    needed, available = 16 * model.parameters, _memory_bytes()
    if needed > available:
        raise UserError(
            f"model {config.model}: weights, gradients and moments take {needed / 1e9:.0f} GB, this machine has "
            f"{available / 1e9:.0f} GB: choose a smaller recipe, such as codegeex_tiny"
        )
    return dataclasses.replace(model, eod_id=corpus.eod_id)


def open_run(folder: Path, config: RunConfig, corpus: Corpus, resume: bool) -> None:
    """Writes run.yaml, or checks on resume that the run is the same.

    Raises:
        UserError: the run exists and is not to be resumed, or is to be resumed with other settings (named).
    """
    path = folder / CONFIG_FILE
    tree: dict[str, Any] = {**as_tree(config), "corpus": corpus.fingerprint}
    if not path.exists():
        if resume:
            logger.info("%s: no run there yet: starting one", folder)
        with atomic_file(path) as partial:
            partial.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        return
    if not resume:
        raise UserError(f"{folder}: a run is there already: give --resume to go on with it, or another --out")
    before = read_yaml(path)
    for key in dict.fromkeys([*before, *tree]):
        if before.get(key) != tree.get(key):
            raise UserError(
                f"{path}: {key} was {before.get(key)!r} and is now {tree.get(key)!r}: a resumed run must be the same; "
                "give another --out for a new one"
            )


def check_finite(record: StepRecord, run_folder: Path) -> None:
    """Stops before a broken update is saved.

    Raises:
        UserError: the loss or the gradient norm is not a finite number.
    """
    for name in ("loss", "grad_norm"):
        if not math.isfinite(record.values[name]):
            raise UserError(
                f"{run_folder}: {name} is {record.values[name]} at step {record.step}: lower schedule.peak or "
                "lengthen schedule.warmup_steps; the last checkpoint is sound"
            )


def summarise(run_folder: Path, model: ModelConfig, xz_bits_per_byte: float, heldout_bytes: int) -> Summary:
    """The figures of a finished run, from its metrics file."""
    lines = read_metrics(run_folder / METRICS_FILE)
    steps = [line for line in lines if "loss" in line]
    heldout = [line["heldout_bits_per_byte"] for line in lines if "heldout_bits_per_byte" in line]
    rates = sorted(line["tokens_per_s"] for line in steps)
    return Summary(
        checkpoint=checkpointing.list_checkpoints(run_folder / "checkpoints")[-1],
        parameters=model.parameters,
        steps=steps[-1]["step"],
        loss=steps[-1]["loss"],
        bits_per_byte_before=heldout[0],
        bits_per_byte_after=heldout[-1],
        xz_bits_per_byte=xz_bits_per_byte,
        heldout_bytes=heldout_bytes,
        tokens_per_s=rates[len(rates) // 2],
    )


def _memory_bytes() -> int:
    import os

    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
