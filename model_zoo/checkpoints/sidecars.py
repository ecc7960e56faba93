"""What stands beside the weights: sizes, the layout of ranks, the tokenizer's files, each where a format has them."""

import json
from pathlib import Path

import yaml

from mindgeex.common.config import as_tree
from mindgeex.model_zoo.checkpoints.formats import Format
from mindgeex.model_zoo.checkpoints.hf_config import (
    CONFIG_FILE,
    GENERATION_FILE,
    generation_config,
    hugging_face_config,
)
from mindgeex.model_zoo.checkpoints.hf_tokenizer import copy_files
from mindgeex.model_zoo.checkpoints.layout import Layout
from mindgeex.model_zoo.checkpoints.native import MODEL_FILE
from mindgeex.model_zoo.checkpoints.rank_files import LAYOUT_FILE
from mindgeex.model_zoo.checkpoints.source import Source
from mindgeex.model_zoo.config import ModelConfig

TOKENIZER = "tokenizer"


def write_sizes(folder: Path, config: ModelConfig, form: Format, dtype: str) -> list[str]:
    """The sizes as the format has them; returns what a user should know about them."""
    if form.name != "hf":
        (folder / MODEL_FILE).write_text(yaml.safe_dump(as_tree(config), sort_keys=False), encoding="utf-8")
        return []
    _write_json(folder / CONFIG_FILE, hugging_face_config(config, dtype))
    _write_json(folder / GENERATION_FILE, generation_config(config))
    if config.eod_reset:
        return ["eod_reset: transformers does not cut attention after an end of document, so logits differ behind one"]
    return []


def write_layout(folder: Path, form: Format, layout: Layout) -> None:
    """layout.json, which says how the rank folders beside it fit together."""
    tree = {"dp": layout.dp, "mp": layout.mp, "optimizer_shard": layout.optimizer_shard, "format": form.name}
    _write_json(folder / LAYOUT_FILE, tree)


def copy_tokenizer(source: Source, form: Format, folder: Path) -> list[str]:
    """Carries the tokenizer's files along: in tokenizer/, or in the folder itself for Hugging Face's format."""
    from_hf, to_hf = source.form.name == "hf", form.name == "hf"
    beside, target = source.folder if from_hf else source.folder / TOKENIZER, folder if to_hf else folder / TOKENIZER
    found = copy_files(beside, target, from_hf, to_hf)
    return [] if found else ["no tokenizer lies beside the weights, so none was carried along"]


def _write_json(path: Path, tree: dict[str, object]) -> None:
    path.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
