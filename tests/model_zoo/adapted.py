"""Small models of both families for tests of adapters, and additions that are more than zero."""

import mindspore as ms
import numpy as np
from mindspore import nn

from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.lora import adapter_parameters

SIZES = {
    "num_layers": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "vocab_size": 97,
    "seq_length": 16,
    "feed_forward_size": 64,
    "dropout_rate": 0.0,
    "init_std": 0.1,
    "eod_id": 0,
}
CONFIG = {family: ModelConfig(family=family, **SIZES) for family in ("codegeex", "gpt_neox")}
IDS = np.random.default_rng(0).integers(1, 97, (2, 16)).astype(np.int32)


def logits(model: nn.Cell) -> np.ndarray:
    return model(ms.Tensor(IDS), ms.Tensor(0, ms.int32)).asnumpy().astype(np.float64)


def fill_additions(model: nn.Cell) -> None:
    """Random values for what LoRA adds, which is zero at first."""
    random = np.random.default_rng(5)
    for parameter in adapter_parameters(model).values():
        parameter.set_data(ms.Tensor(random.normal(0, 0.1, parameter.shape).astype(np.float32)))
