"""A LoRA adapter as PEFT keeps it, for a base that transformers loads: adapter_config.json, adapter_model.safetensors.

PEFT adds to the layers of Hugging Face's model, whose GPT-NeoX has one for queries, keys and values, head by head.
Additions to these become one: the A's above each other, and the B's side by side, each in the rows of its own part. Its
rank and alpha grow by the same factor, so that alpha / rank stays.

Covers: the gpt_neox family (CodeFuse-13B among them), all targets. Does not cover: CodeGeeX, which transformers does
not have; reading PEFT's adapters. Trained on with PEFT, a joined layer has one dropout mask instead of one a part.
"""

# Shapes: I inputs, O outputs, R rank
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.common.files import write_json
from mindgeex.model_zoo.checkpoints.containers.safetensors_file import SafetensorsWriter
from mindgeex.model_zoo.checkpoints.formats import FORMATS
from mindgeex.model_zoo.checkpoints.names import Row
from mindgeex.model_zoo.checkpoints.tensors import TensorSpec
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.lora_config import LoraConfig

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
FORM = FORMATS["hf"]


def export_peft(
    folder: Path, config: ModelConfig, lora: LoraConfig, adapter: Mapping[str, np.ndarray], base: str
) -> None:
    """Writes both files.

    Args:
        folder: where.
        config: sizes of the model.
        lora: how the adapter is added.
        adapter: name -> A or B, as `lora.adapter_parameters` names them.
        base: name or path of the base in Hugging Face's format.

    Raises:
        UserError: transformers has no such model.
    """
    if config.family not in FORM.families:
        raise UserError(
            f"PEFT adds to models of transformers, which has none of the family {config.family}, only of "
            f"{' and '.join(FORM.families)}: merge the adapter (mindgeex lora merge) and convert the result"
        )
    tensors: dict[str, np.ndarray] = {}
    parts: dict[str, int] = {}
    for row in FORM.rows(config):
        layers = [name.removesuffix(".weight") for name in row.ours]
        if count := sum(f"{layer}.lora_a" in adapter for layer in layers):
            stored = row.stored.removesuffix(".weight")
            lora_a_RI, lora_b_OR = _joined(row, layers, adapter, config.head_size)
            tensors[f"base_model.model.{stored}.lora_A.weight"] = lora_a_RI
            tensors[f"base_model.model.{stored}.lora_B.weight"] = lora_b_OR
            parts[stored.rpartition(".")[2]] = count
    specs = {name: TensorSpec(array.shape, array.dtype) for name, array in tensors.items()}
    with SafetensorsWriter(folder / WEIGHTS_FILE, specs) as writer:
        for name, array in tensors.items():
            writer.write(name, array)
    write_json(folder / CONFIG_FILE, _adapter_config(lora, parts, base))


def _joined(
    row: Row, layers: list[str], adapter: Mapping[str, np.ndarray], head_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """A and B of the one layer that holds ours."""
    has = [layer for layer in layers if f"{layer}.lora_a" in adapter]
    lora_a_RI = np.concatenate([adapter[f"{layer}.lora_a"] for layer in has])
    nothing_OR = np.zeros_like(adapter[f"{has[0]}.lora_b"])
    columns = []
    for layer in has:
        blocks = [adapter[f"{layer}.lora_b"] if other == layer else nothing_OR for other in layers]
        columns.append(row.pack(blocks, head_size))
    return lora_a_RI, np.ascontiguousarray(np.concatenate(columns, axis=1))


def _adapter_config(lora: LoraConfig, parts: Mapping[str, int], base: str) -> dict[str, Any]:
    """What PEFT asks for; `parts` is layer -> how many of ours are joined in it."""
    joined = {layer: count for layer, count in parts.items() if count > 1}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": sorted(parts),
        "rank_pattern": {layer: count * lora.rank for layer, count in joined.items()},
        "alpha_pattern": {layer: count * lora.alpha for layer, count in joined.items()},
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "inference_mode": True,
    }
