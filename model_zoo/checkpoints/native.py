"""Our own format: a folder with model.yaml (the sizes) and model.safetensors (the weights by name).

Covers: float32 weights in one file. Does not cover: sharded weights, other types.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from mindgeex.common.config import as_tree, build_config, read_yaml
from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import ModelConfig

if TYPE_CHECKING:
    from mindspore import Parameter

    from mindgeex.model_zoo.families import Model

MODEL_FILE = "model.yaml"
WEIGHTS_FILE = "model.safetensors"


def named_parameters(model: "Model") -> dict[str, "Parameter"]:
    """Name -> parameter. Ask before the model goes into another cell: that cell may prefix `parameter.name`."""
    return {parameter.name: parameter for parameter in model.get_parameters()}


def save_model(folder: Path, config: ModelConfig, parameters: Mapping[str, "Parameter"]) -> None:
    """Writes the sizes and the weights into an existing folder."""
    (folder / MODEL_FILE).write_text(yaml.safe_dump(as_tree(config), sort_keys=False), encoding="utf-8")
    save_tensors(folder / WEIGHTS_FILE, parameters)


def load_model(folder: Path) -> "Model":
    """Builds the model that a folder describes and fills in its weights, in inference mode.

    Raises:
        UserError: a file is missing or damaged, or the weights are not those of the described model.
    """
    from mindspore.nn.utils import no_init_parameters

    from mindgeex.model_zoo.families import build_model

    path = folder / MODEL_FILE
    if not path.is_file():
        raise UserError(
            f"{folder}: not a checkpoint: it has no {MODEL_FILE}; give a folder such as RUN/checkpoints/step-..."
        )
    with no_init_parameters():
        model = build_model(build_config(ModelConfig, read_yaml(path), str(path)))
    load_tensors(folder / WEIGHTS_FILE, named_parameters(model))
    return model.set_train(False)


def save_tensors(path: Path, parameters: Mapping[str, "Parameter"]) -> None:
    """Writes parameters under the given names as safetensors."""
    from safetensors.numpy import save_file

    from mindgeex.common.files import disk_errors

    with disk_errors(path):
        try:
            save_file({name: parameter.asnumpy() for name, parameter in parameters.items()}, path)
        except OSError:
            raise
        except Exception as error:  # safetensors wraps the system's error in its own type and keeps only its text
            raise _as_os_error(error) from error


def load_tensors(path: Path, parameters: Mapping[str, "Parameter"]) -> None:
    """Fills parameters from a safetensors file; nothing is changed unless every name and shape fits.

    Raises:
        UserError: the file is missing or damaged; tensors are missing, surplus or of another shape (named).
    """
    import mindspore as ms

    tensors = read_tensors(path)
    missing, surplus = sorted(parameters.keys() - tensors.keys()), sorted(tensors.keys() - parameters.keys())
    if missing or surplus:
        raise UserError(
            f"{path}: not the tensors of this model: {len(missing)} missing ({', '.join(missing[:3])}), "
            f"{len(surplus)} surplus ({', '.join(surplus[:3])}): use the model this checkpoint was made with"
        )
    for name, parameter in parameters.items():
        if tensors[name].shape != tuple(parameter.shape):
            raise UserError(
                f"{path}: tensor {name} has shape {list(tensors[name].shape)}, the model's is "
                f"{list(parameter.shape)}: use the model this checkpoint was made with"
            )
    for name, parameter in parameters.items():
        parameter.set_data(ms.Tensor(tensors[name]))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file.

    Raises:
        UserError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: truncated or damaged ({error}): take an earlier checkpoint") from None


def _as_os_error(error: Exception) -> Exception:
    code = re.search(r"os error (\d+)", str(error))
    return OSError(int(code.group(1)), str(error)) if code else error
