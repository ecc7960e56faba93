"""The cells of a run, put together from its recipe: model, loss, optimizer, step, evaluator, and the state to save."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindgeex.model_zoo.checkpoints.adapter import ADAPTER_FILE, ADAPTER_WEIGHTS_FILE, AdapterInfo, save_adapter
from mindgeex.model_zoo.checkpoints.initial import load_weights
from mindgeex.model_zoo.checkpoints.native import named_parameters, weights_sha256
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.families import build_model
from mindgeex.model_zoo.lora import adapter_parameters, add_lora
from mindgeex.train.batch import BatchPlan, plan_batch
from mindgeex.train.checkpointing import TrainState
from mindgeex.train.config import RunConfig
from mindgeex.train.evaluation import Evaluator
from mindgeex.train.loss import TokenLoss
from mindgeex.train.optimizer import AdamW
from mindgeex.train.run_data import RunData
from mindgeex.train.run_folder import run_tree
from mindgeex.train.step import TrainStep


def assemble(
    config: RunConfig, data: RunData, workers: int
) -> tuple[BatchPlan, TrainStep, TrainState, Evaluator | None]:
    """Builds them, with fresh weights or those of `config.init`.

    Raises:
        UserError: the batch cannot be cut up, this device has no kernels for what is asked, or the initial checkpoint
            cannot be read or has other sizes.
    """
    plan = plan_batch(config.batch, data.feed.seq_length, workers)
    model = build_model(data.model, config.compute)
    if config.init is not None:
        load_weights(Path(config.init), model, config.model or "")
    if config.lora is not None:
        add_lora(model, config.lora, config.seed)
    parameters = named_parameters(model)
    token_loss = TokenLoss(model)
    optimizer = AdamW(parameters, config.optimizer)
    state = TrainState(
        data.model,
        parameters,
        optimizer.moments,
        data.feed.tokenizer_folder,
        run_config=run_tree(config, data.fingerprint),
    )
    if config.lora is not None and config.init is not None:
        info = AdapterInfo(str(Path(config.init).resolve()), weights_sha256(Path(config.init)), config.lora)

        def write_model(folder: Path, sizes: ModelConfig, tensors: Mapping[str, Any]) -> None:
            save_adapter(folder, sizes, tensors, info)

        state.model_parameters = adapter_parameters(model)
        state.write_model, state.weights_file = write_model, ADAPTER_WEIGHTS_FILE
        state.descriptions = {ADAPTER_FILE: {"base_sha256": info.base_sha256}}
    step = TrainStep(token_loss, optimizer, plan, config.seed)
    return plan, step, state, Evaluator(token_loss, data.heldout, plan.micro_rows) if data.heldout else None
