"""A LoRA adapter as a folder: adapter.safetensors (A and B by name) and adapter.yaml (what it belongs to).

A few megabytes beside the base it was trained on, which adapter.yaml names with the SHA-256 of its weights. With
model.yaml and tokenizer/ beside them the folder is a checkpoint: `native.load_model` loads the base and merges.

Covers: bases of every format that can be read, an adapter's among them. Does not cover: PEFT's layout (peft.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from mindgeex.common.config import as_tree, build_config, read_yaml
from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.containers.safetensors_file import read_safetensors
from mindgeex.model_zoo.checkpoints.native import MODEL_FILE, load_tensors, save_tensors, weights_sha256
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.lora_config import LoraConfig

if TYPE_CHECKING:
    from mindspore import Parameter

    from mindgeex.model_zoo.families import Model

ADAPTER_FILE = "adapter.yaml"
ADAPTER_WEIGHTS_FILE = "adapter.safetensors"


@dataclass(frozen=True)
class AdapterInfo:
    """What an adapter belongs to, and how it is added."""

    base: str
    """Path of the checkpoint that it was trained on; a relative one begins in the adapter's folder."""
    base_sha256: str
    """Of the base's weights (native.weights_sha256)."""
    lora: LoraConfig


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter."""
    return (folder / ADAPTER_FILE).is_file()


def save_adapter(folder: Path, config: ModelConfig, parameters: Mapping[str, "Parameter"], info: AdapterInfo) -> None:
    """Writes the sizes of a model, its additions (`lora.adapter_parameters`) and what they belong to."""
    (folder / MODEL_FILE).write_text(yaml.safe_dump(as_tree(config), sort_keys=False), encoding="utf-8")
    (folder / ADAPTER_FILE).write_text(yaml.safe_dump(as_tree(info), sort_keys=False), encoding="utf-8")
    save_tensors(folder / ADAPTER_WEIGHTS_FILE, parameters)


def read_adapter(folder: Path) -> AdapterInfo:
    """What adapter.yaml says.

    Raises:
        UserError: it is missing or not as it should be.
    """
    if not is_adapter(folder):
        raise UserError(f"{folder}: no adapter: it has no {ADAPTER_FILE}; give a checkpoint of a LoRA run")
    return build_config(AdapterInfo, read_yaml(folder / ADAPTER_FILE), str(folder / ADAPTER_FILE))


def read_adapter_tensors(folder: Path) -> dict[str, np.ndarray]:
    """A and B of every layer, by name.

    Raises:
        UserError: the file is missing or damaged.
    """
    return {name: tensor.read() for name, tensor in read_safetensors(folder / ADAPTER_WEIGHTS_FILE).items()}


def load_adapter(folder: Path, model: "Model") -> None:
    """Fills the additions of a model that has them.

    Raises:
        UserError: the file is missing or damaged, or the additions are of other layers or sizes.
    """
    from mindgeex.model_zoo.lora import adapter_parameters

    load_tensors(folder / ADAPTER_WEIGHTS_FILE, adapter_parameters(model))


def load_adapted(folder: Path, base: Path | None = None) -> "Model":
    """The base with the adapter merged into its weights, in inference mode.

    Args:
        folder: of the adapter.
        base: where the base lies now, if not where adapter.yaml says.

    Raises:
        UserError: the base is not there, is another one than the adapter was trained on, or a file is damaged.
    """
    from mindspore.nn.utils import no_init_parameters

    from mindgeex.model_zoo.checkpoints.initial import initial_config, load_weights
    from mindgeex.model_zoo.families import build_model
    from mindgeex.model_zoo.lora import add_lora, merge

    info = read_adapter(folder)
    place = find_base(folder, info, base)
    with no_init_parameters():
        model = build_model(initial_config(folder))
    load_weights(place, model, sizes=str(folder / MODEL_FILE))
    add_lora(model, info.lora)
    load_adapter(folder, model)
    merge(model)
    return model.set_train(False)


def find_base(folder: Path, info: AdapterInfo, base: Path | None = None) -> Path:
    """The base's path, if its weights are those that the adapter was trained on.

    Raises:
        UserError: it is not there, or holds other weights.
    """
    place = base or folder / info.base  # an absolute path stays what it is
    if not place.exists():
        raise UserError(
            f"{place}: no such file or folder: the adapter {folder} was trained on it; give --base, or change "
            f"'base' in {folder / ADAPTER_FILE}"
        )
    found = weights_sha256(place)
    if found != info.base_sha256:
        raise UserError(
            f"{place}: its weights (SHA-256 {found[:12]}...) are not those that the adapter {folder} was trained on "
            f"({info.base_sha256[:12]}...): give the checkpoint it was trained on"
        )
    return place
