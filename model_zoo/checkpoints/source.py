"""What lies at a path: which format, which ranks, which model; found from the files themselves where they tell.

Covers: the formats of formats.py but mindir. Does not cover: folders with several checkpoints of one rank, which are
refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindgeex.common.config import build_config, read_yaml
from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.containers.streams import reading
from mindgeex.model_zoo.checkpoints.formats import BIN_STEM, FORMATS, Format, format_named, fused, read_tensors
from mindgeex.model_zoo.checkpoints.hf_config import CONFIG_FILE, read_config
from mindgeex.model_zoo.checkpoints.layout import Layout
from mindgeex.model_zoo.checkpoints.names import MOMENTS, Row, moment_rows
from mindgeex.model_zoo.checkpoints.native import MODEL_FILE, WEIGHTS_FILE
from mindgeex.model_zoo.checkpoints.rank_files import PARTITION, rank_files
from mindgeex.model_zoo.checkpoints.reshard import SHOWN, Ranks, merged, problems
from mindgeex.model_zoo.checkpoints.tensors import TensorRef
from mindgeex.model_zoo.config import ModelConfig, config_names, load_model_config

SENTENCES = 3
"""Of what does not fit, an error says so many; the rest is counted."""
SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
STEPS = ("epoch_num", "step_num", "global_step")
"""Of MindSpore's training state: how far the run was."""


@dataclass(frozen=True)
class Source:
    """A checkpoint that can be read."""

    path: Path
    form: Format
    ranks: Ranks
    config: ModelConfig
    rows: list[Row]
    """What is stored: the weights, and the moments if they were asked for."""
    beside: Mapping[str, TensorRef]
    """Stored name -> tensor: moments that were not asked for, step counters, buffers; from the first rank."""
    notes: list[str]

    @property
    def state(self) -> dict[str, TensorRef]:
        """Step counters and the like of a MindSpore training checkpoint."""
        mindspore = self.form.container == "mindspore"
        return {name: tensor for name, tensor in self.beside.items() if mindspore and not name.startswith(MOMENTS)}

    def dropped(self, kept: int = 0) -> dict[str, int]:
        """What there is beside what was asked for: kind -> number of tensors.

        Args:
            kept: tensors of the state that the output holds all the same.
        """
        moments = sum(name.startswith(MOMENTS) for name in self.beside)
        return {"moments": moments, "training state and buffers": len(self.beside) - moments - kept}

    @property
    def folder(self) -> Path:
        """Where model.yaml and the tokenizer would lie."""
        return self.path if self.path.is_dir() else self.path.parent

    def tensors(self) -> dict[str, TensorRef]:
        """Our name -> whole tensor, read when asked for.

        Raises:
            UserError: a part of a tensor lies on no rank that is there.
        """
        return merged(self.rows, self.config, self.ranks)


def open_source(
    path: Path, form: str = "", layout: Layout | None = None, model: str = "", moments: bool = False
) -> Source:
    """Finds out what lies at a path and checks that it is whole; of values, only step counters are read.

    Args:
        path: a file or folder.
        form: name of its format; empty to find out.
        layout: of its rank files; None to read it from layout.json.
        model: a shipped model's name or a YAML file with sizes; empty to find out.
        moments: whether Adam's moments are wanted, too.

    Raises:
        UserError: nothing there, the format or the sizes cannot be told, tensors are missing, surplus or misshapen, or
            the ranks' files are of different steps.
    """
    path = _checkpoint_path(path, form)
    files, layout = rank_files(path, layout)
    known = format_named(form) if form else _detect(path, files)
    if known.container == "mindir":
        raise UserError(f"{path}: a MINDIR graph cannot be converted: convert what it was made from")
    wanted: dict[int, dict[str, TensorRef]] = {}
    beside: dict[str, TensorRef] = {}
    for rank, place in files.items():
        tensors = read_tensors(known.container, _file(known, place))
        wanted[rank] = {name: tensor for name, tensor in tensors.items() if not _is_beside(known, name, moments)}
        _check_step(place, tensors, beside)
        beside |= {name: tensor for name, tensor in tensors.items() if name not in wanted[rank] and name not in beside}
    if known.container == "torch" and any("query_key_value" in name for name in next(iter(wanted.values()))):
        known = fused(known)
    if known.name == "mindgeex" and any(name.endswith(".scale") for name in next(iter(wanted.values()))):
        raise UserError(f"{path}: its weights are rounded to one byte: give the checkpoint that was quantized")
    if moments and not any(name.startswith(MOMENTS) for name in next(iter(wanted.values()))):
        raise UserError(f"{path}: --moments: there are none (no tensor is named adam_m.* or adam_v.*)")
    ranks = Ranks(layout, wanted, files, known.dims)
    config, notes = _config(path, known, ranks, model)
    rows = _all_rows(known, config, ranks)
    _refuse(problems(rows, config, ranks), layout)
    return Source(path, known, ranks, config, rows, beside, notes)


def _checkpoint_path(path: Path, form: str) -> Path:
    with reading(path):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
    if path.is_dir() or path.suffix != ".safetensors" or (form and format_named(form).container != "safetensors"):
        return path
    whole = path.with_name(WEIGHTS_FILE)
    if path.name != whole.name and (whole.exists() or not SHARD.fullmatch(path.name)):
        raise UserError(
            f"{path}: a folder's weights are {whole.name}, or shards named as model-00001-of-00002.safetensors: "
            f"move it into a folder of its own as {whole.name}"
        )
    return path.parent  # its sizes lie beside it


def _check_step(place: Path, tensors: Mapping[str, TensorRef], before: Mapping[str, TensorRef]) -> None:
    """Refuses ranks of different steps, whose slices would make no model."""
    for name in STEPS:
        if name in before and name in tensors and tensors[name].spec == before[name].spec:
            here, there = tensors[name].read(), before[name].read()
            if not np.array_equal(here, there):
                raise UserError(
                    f"{place}: {name} is {here.tolist()}, in the first rank's file {there.tolist()}: "
                    "take the files that all ranks saved at one step"
                )


def _detect(path: Path, files: Mapping[int, Path]) -> Format:
    """The format, from the names of files and, for MindSpore's container, of tensors."""
    first = next(iter(files.values()))
    if PARTITION.fullmatch(first.name):
        return FORMATS["megatron"]
    if first.is_dir():
        has_config, has_safetensors = (first / CONFIG_FILE).is_file(), any(first.glob("model*.safetensors*"))
        if has_config and (has_safetensors or any(first.glob(f"{BIN_STEM}*"))):
            return FORMATS["hf"]
        if has_safetensors:
            return FORMATS["mindgeex"]
        if any(first.glob("*.pt")):
            return FORMATS["codegeex-torch"]
        if any(first.glob("*.mindir")):
            return FORMATS["mindir"]
    if first.suffix == ".ckpt" or (first.is_dir() and any(first.glob("*.ckpt"))):
        names = read_tensors("mindspore", _file(FORMATS["mindspore"], first))
        original = any(name.startswith("backbone.") for name in names)
        return FORMATS["codegeex-mindspore" if original else "mindspore"]
    if first.suffix in (".pt", ".pth", ".bin"):
        return FORMATS["codegeex-torch"]
    raise UserError(f"{path}: what format it has cannot be told: give --from, one of {', '.join(FORMATS)}")


def _file(form: Format, place: Path) -> Path:
    """The container of a rank (or of the whole): the path itself, or the one file in the folder."""
    if place.is_file() or form.container == "safetensors":
        return place
    named = place / f"model{form.suffix}"
    if named.is_file():
        return named
    found = sorted(place.glob(f"*{form.suffix}"))
    if len(found) != 1:
        listed = ", ".join(file.name for file in found[:SHOWN]) or "none"
        raise UserError(
            f"{place}: expected one {form.suffix} file, found {len(found)} ({listed}): keep the one to read"
        )
    return found[0]


def _config(path: Path, form: Format, ranks: Ranks, model: str) -> tuple[ModelConfig, list[str]]:
    """The sizes: as asked for, as a file beside the weights says, or those of the one shipped model that fits."""
    folder = path if path.is_dir() else path.parent
    if model:
        return load_model_config(model), []
    if form.name == "hf":
        return read_config(folder)
    if (folder / MODEL_FILE).is_file():
        return build_config(ModelConfig, read_yaml(folder / MODEL_FILE), str(folder / MODEL_FILE)), []
    shipped = {name: load_model_config(name) for name in config_names()}
    fitting = [
        name
        for name, config in shipped.items()
        if config.family in form.families and not problems(_all_rows(form, config, ranks), config, ranks)
    ]
    if len(fitting) == 1:
        return shipped[fitting[0]], [f"{path}: its tensors are those of {fitting[0]}, whose other settings are taken"]
    which = f"fits {' and '.join(fitting)}" if fitting else "fits no model that ships"
    raise UserError(
        f"{path}: does not say the model's sizes, and {which}{_seen(ranks)}: give --model NAME or --model FILE.yaml "
        "(the number of heads cannot be told from the weights)"
    )


def _all_rows(form: Format, config: ModelConfig, ranks: Ranks) -> list[Row]:
    """The rows of the weights, and of the moments where there are any."""
    rows = form.rows(config)
    has_moments = any(name.startswith(MOMENTS) for name in next(iter(ranks.tensors.values())))
    return rows + (moment_rows(rows) if has_moments else [])


def _seen(ranks: Ranks) -> str:
    """What the shapes of a checkpoint in one piece give away."""
    if ranks.layout.ranks > 1:
        return ""
    (tensors,) = ranks.tensors.values()
    words = next((ref for name, ref in tensors.items() if re.search(r"word_embedding|embed_in", name)), None)
    blocks = {match[1] for name in tensors if (match := re.search(r"(?:blocks|layers)\.(\d+)\.", name))}
    if words is None or len(words.shape) != 2:
        return ""
    return f" (vocab_size {words.shape[0]}, hidden_size {words.shape[1]}, {len(blocks)} blocks)"


def _is_beside(form: Format, name: str, moments: bool) -> bool:
    """Whether a stored tensor is known and not asked for."""
    return form.names.is_ignored(name) or (name.startswith(MOMENTS) and not moments)


def _refuse(found: list[str], layout: Layout) -> None:
    if found:
        more = f"; {len(found) - SENTENCES} more of that kind" if len(found) > SENTENCES else ""
        remedy = "check --from-layout and --model" if layout.ranks > 1 else "give the model's own sizes with --model"
        raise UserError(f"{'; '.join(found[:SENTENCES])}{more}: {remedy}, or other files")
