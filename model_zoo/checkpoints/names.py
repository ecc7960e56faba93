"""What each format calls our tensors and how it lays them out: one table a format, read in both directions.

A table's row is `our name -> their name`, `*` being the number of a block. Behind it may stand how the values lie:
transposed, several of ours joined along dim 0, or interleaved head by head. A nested format separates the keys on the
way to a tensor by `/`. Facts: the CodeGeeX repository, codegeex/megatron/mindspore_to_megatron.py and
convert_ckpt_parallel.py; Hugging Face's GPTNeoXForCausalLM.

Covers: both families, the weights and (by the same rows) Adam's moments. Does not cover: other families, quantised
weights.
"""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from mindgeex.model_zoo.config import ModelConfig

Form = Literal["same", "transposed", "joined", "interleaved"]


@dataclass(frozen=True)
class Row:
    """One stored tensor: which of ours it holds, under which name, and how."""

    ours: tuple[str, ...]
    stored: str
    form: Form = "same"

    def pack(self, arrays: Sequence[np.ndarray], head_size: int) -> np.ndarray:
        """Ours -> stored.

        Args:
            arrays: one an entry of `ours`: all rows of it, or the same share of each (whole heads, for interleaved).
            head_size: width of an attention head.
        """
        if self.form == "same":
            return arrays[0]
        if self.form == "transposed":
            return np.ascontiguousarray(arrays[0].T)
        if self.form == "joined":
            return np.concatenate(arrays)
        heads = [array.reshape(-1, head_size, *array.shape[1:]) for array in arrays]
        return np.stack(heads, axis=1).reshape(-1, *arrays[0].shape[1:])

    def unpack(self, stored: np.ndarray, head_size: int) -> list[np.ndarray]:
        """Stored -> ours, in the order of `ours`; views where that is possible."""
        if self.form == "same":
            return [stored]
        if self.form == "transposed":
            return [stored.T]
        if self.form == "joined":
            return np.split(stored, len(self.ours))
        heads = stored.reshape(-1, len(self.ours), head_size, *stored.shape[1:])
        return [heads[:, part].reshape(-1, *stored.shape[1:]) for part in range(len(self.ours))]

    def packed_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The stored shape, from the shape of one of ours (all of a row have the same)."""
        if self.form == "transposed":
            return tuple(shape[::-1])
        return (shape[0] * len(self.ours), *shape[1:])


@dataclass(frozen=True)
class NameMap:
    """The table of a format, for models with any number of blocks."""

    top: tuple[Row, ...]
    """Tensors outside of blocks."""
    block: tuple[Row, ...]
    """Tensors of a block: ours without, theirs with everything that stands before the leaf's own name taken off."""
    blocks_prefix: str = "blocks.*."
    """What they call block `*`."""
    top_query: tuple[Row, ...] = ()
    """The same for the top query layer; empty if the family has none."""
    top_query_prefix: str = ""
    ignored: tuple[str, ...] = ()
    """Patterns of what files of this format may hold beside the weights, and nobody needs."""

    def rows(self, config: ModelConfig) -> list[Row]:
        """Every tensor that such a model has in this format, in the order of our own."""
        blocks = config.num_layers - (config.family == "codegeex")
        found = list(self.top)
        for index in range(blocks):
            prefix = self.blocks_prefix.replace("*", str(index))
            found += [_under(row, f"blocks.{index}.", prefix) for row in self.block]
        found += [_under(row, "top_query.", self.top_query_prefix) for row in self.top_query]
        place = {name: number for number, name in enumerate(config.shapes)}
        found = [row for row in found if row.ours[0] in place]
        return sorted(found, key=lambda row: place[row.ours[0]])

    def is_ignored(self, name: str) -> bool:
        """Whether a stored tensor is one that nobody needs."""
        return self._ignored.fullmatch(name) is not None

    @cached_property
    def _ignored(self) -> re.Pattern[str]:
        return re.compile("|".join(map(fnmatch.translate, self.ignored)) or "(?!)")


def _under(row: Row, ours: str, stored: str) -> Row:
    return Row(tuple(ours + name for name in row.ours), stored + row.stored, row.form)


def _same(names: Iterable[str]) -> tuple[Row, ...]:
    return tuple(Row((name,), name) for name in names)


def _pairs(table: dict[str, str], leaves: dict[str, str], transposed: Sequence[str] = ()) -> tuple[Row, ...]:
    """Rows for every `module: their module` and `leaf: their leaf`; weights of `transposed` modules lie transposed."""
    return tuple(
        Row((f"{ours}.{leaf}",), f"{theirs}.{their_leaf}", "transposed" if turned else "same")
        for ours, theirs in table.items()
        for leaf, their_leaf in leaves.items()
        for turned in [ours in transposed and leaf == "weight"]
    )


def _fused(ours: Sequence[str], stored: str, form: Form) -> tuple[Row, ...]:
    return tuple(
        Row(tuple(f"attention.{name}.{leaf}" for name in ours), f"attention.{stored}.{leaf}", form)
        for leaf in ("weight", "bias")
    )


TABLES = ("word_embedding.weight", "position_embedding.weight", "query_embedding.weight", "head.weight")
NORMS = ("attention_norm", "feed_forward_norm")
QKV = ("query", "key", "value")
LINEARS = (*(f"attention.{name}" for name in (*QKV, "output")), "feed_forward.up", "feed_forward.down")
LEAVES = {"weight": "weight", "bias": "bias"}
SCALES = {"gamma": "gamma", "beta": "beta"}
TORCH_SCALES = {"gamma": "weight", "beta": "bias"}
MINDSPORE_STATE = (
    "epoch_num", "step_num", "global_step", "current_iterator_step", "last_overflow_iterator_step", "scale_sense",
    "loss_scale", "global_batch_size", "learning_rate", "lr", "beta1_power", "beta2_power",
)  # fmt: skip
"""What MindSpore's training checkpoints hold beside weights and moments."""

_BLOCK = _pairs({name: name for name in NORMS}, SCALES) + _pairs({name: name for name in LINEARS}, LEAVES)

OURS = NameMap(
    top=_same((*TABLES, "final_norm.gamma", "final_norm.beta")),
    block=_BLOCK,
    top_query=_BLOCK,
    top_query_prefix="top_query.",
    ignored=MINDSPORE_STATE,
)

_CODEGEEX_MINDSPORE = _pairs({"attention_norm": "layernorm1", "feed_forward_norm": "layernorm2"}, SCALES) + _pairs(
    {
        "attention.query": "attention.dense1",
        "attention.key": "attention.dense2",
        "attention.value": "attention.dense3",
        "attention.output": "attention.projection",
        "feed_forward.up": "output.mapping",
        "feed_forward.down": "output.projection",
    },
    LEAVES,
    transposed=("attention.output", "feed_forward.up", "feed_forward.down"),
)

CODEGEEX_MINDSPORE = NameMap(
    top=(
        Row(("word_embedding.weight",), "backbone.embedding.word_embedding.embedding_table"),
        Row(("position_embedding.weight",), "backbone.embedding.position_embedding.embedding_table"),
        Row(("query_embedding.weight",), "backbone.top_query_embedding.embedding_table"),
        *_pairs({"final_norm": "backbone.layernorm"}, SCALES),
    ),
    block=_CODEGEEX_MINDSPORE,
    blocks_prefix="backbone.blocks.*.",
    top_query=_CODEGEEX_MINDSPORE,
    top_query_prefix="backbone.top_query_layer.",
    ignored=MINDSPORE_STATE,
)

_TORCH_NORMS = {"attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm"}
_TORCH_LINEARS = {
    "attention.output": "attention.dense",
    "feed_forward.up": "mlp.dense_h_to_4h",
    "feed_forward.down": "mlp.dense_4h_to_h",
}
_TORCH_REST = _pairs(_TORCH_NORMS, TORCH_SCALES) + _pairs(_TORCH_LINEARS, LEAVES)
_TORCH_APART = _pairs({f"attention.{name}": f"attention.{name}" for name in QKV}, LEAVES)
_TORCH = "module/language_model/transformer/"

_CODEGEEX_TORCH_TOP = (
    Row(("word_embedding.weight",), "module/language_model/embedding/word_embeddings/weight"),
    Row(("position_embedding.weight",), "module/language_model/embedding/position_embeddings/weight"),
    Row(("query_embedding.weight",), "module/language_model/topQueryEmbedding/top_query_embeddings/weight"),
    *_pairs({"final_norm": _TORCH + "final_layernorm"}, TORCH_SCALES),
)

CODEGEEX_TORCH = NameMap(
    top=_CODEGEEX_TORCH_TOP,
    block=_TORCH_REST + _TORCH_APART,
    blocks_prefix=_TORCH + "layers.*.",
    top_query=_TORCH_REST + _TORCH_APART,
    top_query_prefix=_TORCH + "topQueryLayer.",
)

CODEGEEX_TORCH_FUSED = NameMap(
    top=_CODEGEEX_TORCH_TOP,
    block=_TORCH_REST + _fused(QKV, "query_key_value", "joined"),
    blocks_prefix=_TORCH + "layers.*.",
    top_query=_TORCH_REST
    + _pairs({"attention.query": "attention.query"}, LEAVES)
    + _fused(QKV[1:], "key_value", "joined"),
    top_query_prefix=_TORCH + "topQueryLayer.",
)

HF_GPT_NEOX = NameMap(
    top=(
        Row(("word_embedding.weight",), "gpt_neox.embed_in.weight"),
        *_pairs({"final_norm": "gpt_neox.final_layer_norm"}, TORCH_SCALES),
        Row(("head.weight",), "embed_out.weight"),
    ),
    block=_TORCH_REST + _fused(QKV, "query_key_value", "interleaved"),
    blocks_prefix="gpt_neox.layers.*.",
    ignored=("*.attention.bias", "*.attention.masked_bias", "*.rotary_emb.inv_freq"),
)

MOMENTS = ("adam_m.", "adam_v.")
"""What stands before a parameter's name in the names of Adam's two moments, ours and MindSpore's."""


def moment_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows of both moments of every parameter: they lie as their parameter does."""
    return [
        Row(tuple(prefix + name for name in row.ours), prefix + row.stored, row.form)
        for prefix in MOMENTS
        for row in rows
    ]


def parameter_name(name: str) -> str:
    """The parameter that one of our tensors is, or is a moment of."""
    return next((name.removeprefix(prefix) for prefix in MOMENTS if name.startswith(prefix)), name)
