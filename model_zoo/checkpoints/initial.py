"""Weights to start a run from: of any checkpoint that can be read, into a model that was built for them.

Covers: every format and layout of source.py, and LoRA adapters, whose base is merged with them.
Does not cover: moments, steps; a vocabulary or window of another size.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from mindgeex.common.config import as_tree, build_config, read_yaml
from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.adapter import is_adapter
from mindgeex.model_zoo.checkpoints.casting import cast
from mindgeex.model_zoo.checkpoints.hf_config import CONFIG_FILE
from mindgeex.model_zoo.checkpoints.native import DTYPES, MODEL_FILE, load_model, named_parameters
from mindgeex.model_zoo.checkpoints.source import Source, open_source
from mindgeex.model_zoo.config import ModelConfig

if TYPE_CHECKING:
    from mindgeex.model_zoo.families import Model

FREE = ("dropout_rate", "init_std", "eod_id", "eod_reset")
"""What a run may set anew: nothing that the weights depend on."""


def initial_config(path: Path, model: str = "") -> ModelConfig:
    """The sizes of the model that a checkpoint holds.

    Args:
        path: a file or folder; what lies there is found out.
        model: a shipped model's name or a YAML file with the sizes, for a checkpoint that does not tell them.

    Raises:
        UserError: there is none, or its sizes cannot be told.
    """
    if is_adapter(path):
        return build_config(ModelConfig, read_yaml(path / MODEL_FILE), str(path / MODEL_FILE))
    return _open(path, model).config


def load_weights(path: Path, model: "Model", sizes: str = "") -> None:
    """Fills a model from a checkpoint of any format; floats are cast to the model's type, one tensor at a time.

    Args:
        path: a file or folder; what lies there is found out.
        model: plain, with the sizes of the checkpoint (dropout_rate, init_std, eod_id and eod_reset aside).
        sizes: as `model` of `initial_config`.

    Raises:
        UserError: nothing there that can be read, or it has other sizes (named).
    """
    import mindspore as ms

    parameters = named_parameters(model)
    if is_adapter(path):
        _check_sizes(path, initial_config(path), model.config)
        for name, parameter in named_parameters(load_model(path)).items():
            parameters[name].set_data(parameter.value())
        return
    source = _open(path, sizes)
    _check_sizes(path, source.config, model.config)
    for name, tensor in source.tensors().items():
        parameter = parameters[name]
        array, dtype = tensor.read(), DTYPES[str(parameter.dtype)]
        parameter.set_data(ms.Tensor(array if array.dtype == dtype else cast(array, dtype)[0]))


def _open(path: Path, model: str) -> Source:
    folder = path if path.is_dir() else path.parent
    tells = any((folder / name).is_file() for name in (MODEL_FILE, CONFIG_FILE))
    return open_source(path, model="" if tells else model)


def _check_sizes(path: Path, found: ModelConfig, wanted: ModelConfig) -> None:
    theirs, ours = as_tree(found), as_tree(wanted)
    for key, value in ours.items():
        if theirs[key] != value and key not in FREE:
            raise UserError(
                f"{path}: its {key} is {theirs[key]!r}, the model's is {value!r}: set model to the sizes of the "
                "checkpoint (mindgeex model show lists those of a shipped model)"
            )
