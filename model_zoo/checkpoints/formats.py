"""The formats: which table of names each has, in which container, and which files make up a checkpoint of it.

| format | on disk |
| --- | --- |
| mindgeex | a folder: model.yaml, model.safetensors (or shards and an index), tokenizer/, optimizer.safetensors |
| mindspore | our names in MindSpore's container: FILE.ckpt, or a folder with model.ckpt and model.yaml |
| codegeex-mindspore | the original's MindSpore names, likewise |
| codegeex-torch | the original's nested dictionary: FILE.pt, or a folder with model.pt and model.yaml |
| megatron | a folder with mp_rank_00_model_states.pt, mp_rank_01_..., one a tensor-parallel partition |
| hf | a folder: config.json, model.safetensors (or shards and an index), the tokenizer's files |
| mindir | a folder with model.mindir, which MindSpore Lite runs; written, not read |

Of hf, pytorch_model.bin and its shards are read, too. The first three also come as rank files: rank_0/, rank_1/, ...
each with its part in the same container, and layout.json beside them. To add a format: its table in names.py, and a
line in FORMATS.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindgeex.common.errors import UserError, did_you_mean
from mindgeex.common.files import read_json
from mindgeex.model_zoo.checkpoints.containers import mindspore_file, safetensors_file, torch_file
from mindgeex.model_zoo.checkpoints.containers.streams import shown
from mindgeex.model_zoo.checkpoints.layout import MEGATRON_SPLIT_DIMS, SPLIT_DIMS
from mindgeex.model_zoo.checkpoints.names import (
    CODEGEEX_MINDSPORE,
    CODEGEEX_TORCH,
    CODEGEEX_TORCH_FUSED,
    HF_GPT_NEOX,
    MOMENTS,
    OURS,
    NameMap,
    Row,
)
from mindgeex.model_zoo.checkpoints.tensors import TensorRef, TensorSpec
from mindgeex.model_zoo.config import ModelConfig

OPTIMIZER_STEM = "optimizer"
"""Where a safetensors checkpoint keeps the moments: optimizer.safetensors."""

BIN_STEM = "pytorch_model"


@dataclass(frozen=True)
class Format:
    """A way to store a model."""

    name: str
    container: str
    """safetensors, mindspore, torch, mindir."""
    families: tuple[str, ...]
    names: NameMap
    suffix: str
    """Of the container's files; a target that ends so is one file instead of a folder."""
    ranks: bool = False
    """Whether rank files and moments are known in this format."""
    split_dims: Mapping[str, int] | None = None

    @property
    def dims(self) -> Mapping[str, int]:
        """Our name -> dim that is split over mp."""
        return SPLIT_DIMS if self.split_dims is None else self.split_dims

    def rows(self, config: ModelConfig) -> list[Row]:
        """Every stored tensor of such a model, in the order of writing.

        Raises:
            UserError: the format does not hold this family.
        """
        if config.family not in self.families:
            fitting = [name for name, known in FORMATS.items() if config.family in known.families]
            raise UserError(
                f"format {self.name} holds models of the family {' and '.join(self.families)}, this one is "
                f"{config.family}: choose {', '.join(fitting)}"
            )
        rows = self.names.rows(config)
        if self.container == "torch":  # a dictionary's tensors are written together
            by_name = {row.stored: row for row in rows}
            tree = _nested({name: TensorSpec((), np.dtype(np.float32)) for name in by_name})
            rows = [by_name["/".join(keys)] for keys in torch_file.tensors_of(tree)]
        return rows


BOTH = ("codegeex", "gpt_neox")
FORMATS = {
    form.name: form
    for form in (
        Format("mindgeex", "safetensors", BOTH, OURS, ".safetensors", ranks=True),
        Format("mindspore", "mindspore", BOTH, OURS, ".ckpt", ranks=True),
        Format("codegeex-mindspore", "mindspore", BOTH[:1], CODEGEEX_MINDSPORE, ".ckpt", ranks=True),
        Format("codegeex-torch", "torch", BOTH[:1], CODEGEEX_TORCH, ".pt"),
        Format("megatron", "torch", BOTH[:1], CODEGEEX_TORCH, ".pt", split_dims=MEGATRON_SPLIT_DIMS),
        Format("hf", "safetensors", BOTH[1:], HF_GPT_NEOX, ".safetensors"),
        Format("mindir", "mindir", BOTH, OURS, ".mindir"),
    )
}


def format_named(name: str) -> Format:
    """The format that a user typed.

    Raises:
        UserError: there is none of that name.
    """
    if name not in FORMATS:
        raise UserError(f"format is {name!r}{did_you_mean(name, FORMATS)}")
    return FORMATS[name]


def fused(form: Format) -> Format:
    """The variant of a format of the original in which one tensor holds queries, keys and values.

    Raises:
        UserError: the format has none.
    """
    if form.names is CODEGEEX_TORCH_FUSED:
        return form
    if form.names is not CODEGEEX_TORCH:
        raise UserError(
            f"--fused-qkv: format {form.name} has no such variant: it goes with codegeex-torch and megatron"
        )
    return dataclasses.replace(form, names=CODEGEEX_TORCH_FUSED)


def read_tensors(container: str, path: Path) -> dict[str, TensorRef]:
    """Stored name -> tensor, of a file or, for safetensors, of a folder.

    Raises:
        UserError: it is missing or damaged.
    """
    if container == "torch":
        found: dict[str, TensorRef] = {}
        for keys, tensor in torch_file.tensors_of(torch_file.read_torch(path)).items():
            if found.setdefault(name := "/".join(keys), tensor) is not tensor:
                raise UserError(f"{path}: has two tensors {shown(name)}, one under a key with a /: keep one of them")
        return found
    if container == "mindspore":
        return mindspore_file.read_mindspore(path)
    if not any(path.glob("model*.safetensors*")) and any(path.glob(f"{BIN_STEM}*")):
        return _read_bins(path)
    tensors = safetensors_file.read_safetensors_folder(path)
    moments = path / f"{OPTIMIZER_STEM}.safetensors"
    return {**tensors, **(safetensors_file.read_safetensors(moments) if moments.is_file() else {})}


def _read_bins(folder: Path) -> dict[str, TensorRef]:
    """Hugging Face's older files: pytorch_model.bin, or the shards that pytorch_model.bin.index.json lists."""
    index = folder / f"{BIN_STEM}.bin.index.json"
    names = [f"{BIN_STEM}.bin"]
    if index.is_file():
        tree = read_json(index)
        weight_map = tree.get("weight_map") if isinstance(tree, dict) else None
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise UserError(f"{index}: has no weight_map of tensors to files: copy it anew")
        names = sorted(set(weight_map.values()))
    tensors: dict[str, TensorRef] = {}
    for name in names:
        if Path(name).name != name:
            raise UserError(f"{index}: names the file {name!r}, which is none of this folder")
        shard = read_tensors("torch", folder / name)
        if twice := tensors.keys() & shard.keys():
            raise UserError(f"{folder / name}: has tensor {min(twice)}, which another file has, too: keep one of them")
        tensors |= shard
    return tensors


@contextlib.contextmanager
def open_writer(
    container: str, path: Path, specs: Mapping[str, TensorSpec], shard_bytes: int
) -> Iterator[Callable[[str, np.ndarray], None]]:
    """Yields a function that writes the next tensor of `specs`, to a file or, for safetensors, to those of a folder."""
    with contextlib.ExitStack() as stack:
        if container == "torch":
            tree = stack.enter_context(torch_file.TorchWriter(path, _nested(specs)))
            yield lambda name, array: tree.write(tuple(name.split("/")), array)
        elif container == "mindspore":
            yield stack.enter_context(mindspore_file.MindSporeWriter(path, specs)).write
        else:
            path.mkdir(exist_ok=True)
            moments = {name: spec for name, spec in specs.items() if name.startswith(MOMENTS)}
            weights = {name: spec for name, spec in specs.items() if name not in moments}
            model = stack.enter_context(safetensors_file.ShardedSafetensorsWriter(path, weights, shard_bytes))
            if not moments:
                yield model.write
                return
            moments_path = path / f"{OPTIMIZER_STEM}.safetensors"
            optimizer = stack.enter_context(safetensors_file.SafetensorsWriter(moments_path, moments))
            yield lambda name, array: (optimizer if name in moments else model).write(name, array)


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`a/b: x` -> {a: {b: x}}."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *path, leaf = name.split("/")
        place = tree
        for key in path:
            place = place.setdefault(key, {})
        place[leaf] = value
    return tree
