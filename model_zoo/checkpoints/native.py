"""Our own format: a folder with model.yaml (the sizes) and model.safetensors (the weights by name).

Covers: weights of every type that MindSpore and safetensors share, written as one file, read from one or from shards
with an index. Does not cover: training checkpoints as a whole, which the train room publishes.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from mindgeex.common.config import as_tree, build_config, read_yaml
from mindgeex.common.errors import UserError
from mindgeex.common.files import disk_errors, sha256_file
from mindgeex.model_zoo.checkpoints.casting import cast
from mindgeex.model_zoo.checkpoints.containers.mindspore_file import DTYPES
from mindgeex.model_zoo.checkpoints.containers.safetensors_file import SafetensorsWriter, read_safetensors_folder
from mindgeex.model_zoo.checkpoints.tensors import BFLOAT16, FLOATS, TensorRef, TensorSpec
from mindgeex.model_zoo.config import ModelConfig

if TYPE_CHECKING:
    from mindspore import Parameter

    from mindgeex.model_zoo.families import Model

MODEL_FILE = "model.yaml"
WEIGHTS_FILE = "model.safetensors"
FOREIGN_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
"""Of files with weights in any format."""


def named_parameters(model: "Model") -> dict[str, "Parameter"]:
    """Name -> parameter. Ask before the model goes into another cell: that cell may prefix `parameter.name`."""
    return {parameter.name: parameter for parameter in model.get_parameters()}


def save_model(folder: Path, config: ModelConfig, parameters: Mapping[str, "Parameter"]) -> None:
    """Writes the sizes and the weights into an existing folder."""
    (folder / MODEL_FILE).write_text(yaml.safe_dump(as_tree(config), sort_keys=False), encoding="utf-8")
    save_tensors(folder / WEIGHTS_FILE, parameters)


def load_model(folder: Path) -> "Model":
    """Builds the model that a folder describes and fills in its weights, in inference mode.

    A folder with a LoRA adapter in place of weights gives its base with the adapter merged.

    Raises:
        UserError: a file is missing or damaged, or the weights are not those of the described model.
    """
    from mindgeex.model_zoo.checkpoints.adapter import is_adapter, load_adapted

    if is_adapter(folder):
        return load_adapted(folder)
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


def weights_sha256(folder: Path) -> str:
    """SHA-256 of the file with the weights, or of several files' names and SHA-256s, a line each.

    Several are shards, the two files of an adapter (one of which names its base by SHA-256), or whatever holds the
    weights of another format. `folder` may be a file of such a format.
    """
    for file in (folder, folder / WEIGHTS_FILE):
        if file.is_file():
            return sha256_file(file)
    files = sorted([*folder.glob("model-*.safetensors"), *folder.glob("adapter.*")])
    files = files or sorted(
        file for file in folder.rglob("*") if file.suffix in (".ckpt", ".pt", ".bin", ".safetensors")
    )
    lines = [f"{file.relative_to(folder).as_posix()} {sha256_file(file)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def save_tensors(path: Path, parameters: Mapping[str, "Parameter"]) -> None:
    """Writes parameters under the given names as safetensors, one at a time."""
    specs = {name: TensorSpec(tuple(parameter.shape), _dtype(parameter)) for name, parameter in parameters.items()}
    with disk_errors(path), SafetensorsWriter(path, specs) as writer:
        for name, parameter in parameters.items():
            array = parameter.asnumpy()  # MindSpore has a bfloat16 of its own
            writer.write(name, array.view(np.uint16).view(BFLOAT16) if specs[name].dtype == BFLOAT16 else array)


def load_tensors(path: Path, parameters: Mapping[str, "Parameter"]) -> None:
    """Fills parameters from a safetensors file, or from shards beside its index; floats are cast to their type.

    Nothing is changed unless every name, shape and type fits.

    Raises:
        UserError: the file is missing or damaged; tensors are missing, surplus or of another shape or type (named).
    """
    import mindspore as ms

    tensors = _open(path)
    missing, surplus = sorted(parameters.keys() - tensors.keys()), sorted(tensors.keys() - parameters.keys())
    if missing or surplus:
        raise UserError(
            f"{path}: not the tensors of this model: {len(missing)} missing ({', '.join(missing[:3])}), "
            f"{len(surplus)} surplus ({', '.join(surplus[:3])}): use the model this checkpoint was made with"
        )
    for name, parameter in parameters.items():
        tensor, dtype = tensors[name], _dtype(parameter)
        if tensor.shape != tuple(parameter.shape):
            raise UserError(
                f"{path}: tensor {name} has shape {list(tensor.shape)}, the model's is "
                f"{list(parameter.shape)}: use the model this checkpoint was made with"
            )
        if tensor.dtype != dtype and not {tensor.dtype, dtype} <= set(FLOATS.values()):
            raise UserError(
                f"{path}: tensor {name} has type {tensor.dtype}, the model's is {dtype}: "
                "use the model this checkpoint was made with"
            )
    for name, parameter in parameters.items():
        array = tensors[name].read()
        if array.dtype != _dtype(parameter):
            array, _ = cast(array, _dtype(parameter))
        parameter.set_data(ms.Tensor(array))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file, or of shards beside its index, in memory.

    Raises:
        UserError: the file is missing or damaged.
    """
    return {name: tensor.read() for name, tensor in _open(path).items()}


def _open(path: Path) -> dict[str, TensorRef]:
    return read_safetensors_folder(path.parent, path.name.removesuffix(".safetensors"))


def _dtype(parameter: "Parameter") -> np.dtype[Any]:
    return DTYPES[str(parameter.dtype)]
