"""Small checkpoints written by other means than the converter, and what a folder holds, read by other means."""

from pathlib import Path

import ml_dtypes
import numpy as np
import yaml
from safetensors.numpy import load_file, save_file

from mindgeex.common.config import as_tree
from mindgeex.model_zoo.config import ModelConfig

TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def codegeex(**changes) -> ModelConfig:
    sizes = {"num_layers": 3, "hidden_size": 16, "num_heads": 4, "vocab_size": 32, "seq_length": 8, "eod_id": 1}
    return ModelConfig(family="codegeex", feed_forward_size=64, **{**sizes, **changes})


def gpt_neox(**changes) -> ModelConfig:
    sizes = {"num_layers": 2, "hidden_size": 16, "num_heads": 4, "vocab_size": 32, "seq_length": 8, "eod_id": 1}
    own = {"activation": "gelu", "eod_reset": False, "rotary_pct": 0.5, "dropout_rate": 0.0}
    return ModelConfig(family="gpt_neox", feed_forward_size=64, **{**sizes, **own, **changes})


def random_tensors(config: ModelConfig, dtype: str = "float32", seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.1, shape).astype(TYPES[dtype]) for name, shape in config.shapes.items()}


def write_sizes(folder: Path, config: ModelConfig) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(as_tree(config)))
    return path


def write_ours(folder: Path, config: ModelConfig, tensors: dict[str, np.ndarray]) -> Path:
    """A folder of our format, float32 or float16, written by the safetensors library."""
    write_sizes(folder, config)
    save_file(tensors, folder / "model.safetensors")
    return folder


def read_ours(folder: Path) -> dict[str, np.ndarray]:
    """Read by the safetensors library."""
    return load_file(folder / "model.safetensors")


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """The same names, types, shapes and bits."""
    assert sorted(found) == sorted(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name
