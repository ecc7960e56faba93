"""Memory of one NPU, from the layouts that MindSpore compiled.

memory = weights + both moments + gradients + gathered weights + activations + logits

Every line names its source; activations: Korthikanti et al. 2022 (Reducing Activation Recomputation in Large
Transformer Models), section 4.2, with our types: masks of dropout are hashed, not kept; softmax keeps its
result in its own type.
Covers: dense transformers of both families. Does not cover: fragmentation, MindSpore's workspace.
"""

# Shapes: B rows of an NPU, S sequence, H hidden, A heads, F feed-forward width, V vocabulary
import math
import re
from dataclasses import dataclass
from typing import Any

from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.train.parallel_config import ParallelConfig
from mindgeex.train.pipeline import layers_of_stage, micro_batches_in_flight


@dataclass(frozen=True)
class Layout:
    """One parameter, as an NPU holds it."""

    name: str
    shape: tuple[int, ...]
    slice_shape: tuple[int, ...]
    mesh: tuple[int, ...]
    tensor_map: tuple[int, ...]
    shards: int
    """Pieces into which HSDP cuts the first axis of what mp left; 1: it does not."""

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> "Layout":
        """From what JSON gives: lists for tuples."""
        shapes = {key: tuple(tree[key]) for key in ("shape", "slice_shape", "mesh", "tensor_map")}
        return cls(name=tree["name"], shards=tree["shards"], **shapes)

    @property
    def values(self) -> int:
        """That an NPU holds."""
        return math.prod(self.slice_shape)


@dataclass(frozen=True)
class Line:
    """A sum, and how it came about."""

    name: str
    value: int
    formula: str
    source: str = ""
    """Where the formula is from."""


def read_layouts(raw: dict[str, list[Any]]) -> list[Layout]:
    """Of the weights, from MindSpore's `parameter_layout_dict`; moments and inputs are left out."""
    layouts = []
    for name, (mesh, tensor_map, piece, _, _, group, shape, *_) in raw.items():
        accumulates = "accu_grads." in name  # before or after the cells' names
        name = re.sub(r"^.*?(?:model|optimizer)\.", "", name)  # of the cells around it
        if not accumulates and not name.startswith(("adam_", "args", "update.", "step.")):
            shards = int(group.partition("-")[0]) if group else 1  # a group is named "size-hash"
            held = (piece[0] // shards, *piece[1:]) if piece else ()
            layouts.append(Layout(name, tuple(shape), held, tuple(mesh), tuple(tensor_map), shards))
    return layouts


LAYOUTS, KORTHIKANTI, HSDP = "MindSpore's layouts", "Korthikanti et al. 2022", "Rajbhandari et al. 2020, section 5"
A_BLOCK = f"{KORTHIKANTI}, section 4.2, equation 2"


def memory_lines(
    config: ModelConfig,
    compute: ComputeConfig,
    parallel: ParallelConfig,
    rows: int,
    held: list[Layout],
    stage: int = 0,
    micro_batches: int = 1,
) -> list[Line]:
    """Bytes of one NPU.

    Args:
        config: sizes.
        compute: types, attention, recomputation.
        parallel: the mesh.
        rows: that the NPU computes at once.
        held: layouts of the weights.
        stage: of the pipeline.
        micro_batches: of a step.
    """
    seq, hidden, mp, width = config.seq_length, config.hidden_size, parallel.mp, 4 if compute.dtype == "float32" else 2
    softmax_width = 4 if compute.softmax_dtype == "float32" else 2
    values = sum(layout.values for layout in held)
    gathered = sum(layout.values * layout.shards for layout in held)
    gradients = values if parallel.optimizer_level != "level1" else gathered
    layers, flying = layers_of_stage(stage, config, parallel), micro_batches_in_flight(stage, parallel, micro_batches)
    rows_values = rows * seq * hidden
    scores = rows * config.num_heads // mp * seq * seq
    # Kept by a block: what both halves begin with, and in float32 for their norms, which the NPUs of an mp group may
    # share; the inputs of column-parallel layers; and what is cut over mp.
    sharing = mp if parallel.sequence_parallel else 1
    whole = rows_values * (2 * 4 + 2 * width) // sharing + rows_values * 2 * width
    cut = rows_values * width * 4 // mp + rows * seq * config.feed_forward_size * width * 3 // mp
    attention = 0 if compute.attention == "flash" else scores * (softmax_width + width)
    block = whole + cut + attention
    kept = int(layers * flying * (rows_values * width // sharing if compute.recompute else block))
    logits = rows * seq * config.vocab_size // mp if stage == parallel.pp - 1 else 0
    between = "B S H (8 + 4w)" if sharing == 1 else "B S H 2w + B S H (8 + 2w) / mp"
    one_block = f"{between} + (4 B S H + 3 B S F) w / mp" + (" + A/mp B S S (softmax + w)" if attention else "")
    lines = [
        Line("weights", 4 * values, "float32 slices", LAYOUTS),
        Line("moments", 8 * values, "two float32 slices a weight", f"{LAYOUTS}; Loshchilov and Hutter 2019"),
        Line("gradients", 4 * gradients, "float32; level1 whole, else slices", HSDP),
        Line("activations kept", kept, f"{layers} layers x {flying:g} micro batches x "
             + (f"B S H w{'' if sharing == 1 else ' / mp'} (inputs of recomputed blocks)" if compute.recompute
                else one_block),
             (f"{KORTHIKANTI}, section 5" if compute.recompute else A_BLOCK)
             + ("; Narayanan et al. 2021, section 2.2" if parallel.pp > 1 else "")),
        Line("one block at work", block if compute.recompute else 0, one_block, A_BLOCK),
        Line("logits", logits * (width + 4 * 3), "B S V / mp in compute type; three more in float32",
             f"{KORTHIKANTI}, section 4.3; train/parallel.py"),
        Line("mask", rows * seq * seq * (1 if compute.attention == "flash" else 4), "B S S", "model_zoo/attention.py"),
    ]  # fmt: skip
    if micro_batches > 1:
        lines.append(Line("accumulators", 4 * gradients, "float32, as the gradients", "train/parallel.py"))
    if parallel.optimizer_shard > 1:
        there = min(layers, 2) if parallel.optimizer_level == "level3" else layers
        lines.append(Line("gathered weights", width * gathered * there // layers,
                          "compute type; level3 keeps two layers of them, levels 1 and 2 all", HSDP))  # fmt: skip
    return lines
