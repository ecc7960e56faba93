"""Memory, communication and time of one NPU, from the layouts and the graph that MindSpore compiled.

memory = weights + both moments + gradients + gathered weights + activations + logits
time   = products / (peak x efficiency) + other operators' bytes / memory bandwidth + collectives / link bandwidth

Formulas of activations: Korthikanti et al. 2022 (Reducing Activation Recomputation in Large Transformer Models),
table 2, with our types: masks of dropout are hashed, not kept; softmax keeps its result in its own type.
Covers: dense transformers of both families. Does not cover: fragmentation, MindSpore's workspace, operators that the
backend fuses; the estimates of time are rooflines, not measurements.
"""

# Shapes: B rows of an NPU, S sequence, H hidden, A heads, F feed-forward width, V vocabulary
import math
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.train.dryrun.graph import Collective, Product
from mindgeex.train.parallel_config import ParallelConfig

PUBLISHED = {"npus": 1536, "tokens_per_day": 54.3e9, "step_s": 10.0, "tokens_per_s_per_npu": 409.0}
"""CodeGeeX-13B's pre-training, padding included (README of the CodeGeeX repository)."""


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


def read_layouts(raw: dict[str, list[Any]]) -> list[Layout]:
    """Of the weights, from MindSpore's `parameter_layout_dict`; moments and inputs are left out."""
    layouts = []
    for name, (mesh, tensor_map, piece, _, _, group, shape, *_) in raw.items():
        name = re.sub(r"^.*?(?:model|optimizer)\.", "", name)  # of the cells around it
        if not name.startswith(("adam_", "args", "update.", "step.")):
            shards = int(group.partition("-")[0]) if group else 1  # a group is named "size-hash"
            held = (piece[0] // shards, *piece[1:]) if piece else ()
            layouts.append(Layout(name, tuple(shape), held, tuple(mesh), tuple(tensor_map), shards))
    return layouts


def memory(
    config: ModelConfig, compute: ComputeConfig, parallel: ParallelConfig, rows: int, held: list[Layout]
) -> list[Line]:
    """Bytes of one NPU.

    Args:
        config: sizes.
        compute: types, attention, recomputation.
        parallel: the mesh.
        rows: that the NPU computes at once.
        held: layouts of the weights.
    """
    seq, hidden, mp, width = config.seq_length, config.hidden_size, parallel.mp, 4 if compute.dtype == "float32" else 2
    softmax_width = 4 if compute.softmax_dtype == "float32" else 2
    values = sum(layout.values for layout in held)
    gathered = sum(layout.values * layout.shards for layout in held)
    rows_values = rows * seq * hidden
    scores = rows * config.num_heads // mp * seq * seq
    # Kept by a block: its input and the inputs of both norms (float32), of the linear layers, and what is cut over mp.
    whole = rows_values * (2 * 4 + 4 * width)
    cut = rows_values * width * 4 // mp + rows * seq * config.feed_forward_size * width * 3 // mp
    attention = 0 if compute.attention == "flash" else scores * (softmax_width + width)
    block = whole + cut + attention
    kept = config.num_layers * (rows_values * width if compute.recompute else block)
    logits = rows * seq * config.vocab_size // mp
    lines = [
        Line("weights", 4 * values, "float32 slices"),
        Line("moments", 8 * values, "two float32 slices a weight"),
        Line("gradients", 4 * (values if parallel.optimizer_level != "level1" else gathered), "float32"),
        Line("activations kept", kept, f"{config.num_layers} x " + ("B S H (inputs of recomputed blocks)" if
             compute.recompute else "a block")),
        Line("one block at work", block if compute.recompute else 0,
             "B S H (8 + 4w) + (4 B S H + 3 B S F) w / mp" + (" + A/mp B S S (softmax + w)" if attention else "")),
        Line("logits", logits * (width + 4 * 3), "B S V / mp in compute type; three more in float32"),
        Line("mask", rows * seq * seq * (1 if compute.attention == "flash" else 4), "B S S"),
    ]  # fmt: skip
    if parallel.optimizer_shard > 1:
        layers = 2 if parallel.optimizer_level == "level3" else config.num_layers
        lines.append(Line("gathered weights", width * gathered * layers // config.num_layers,
                          "compute type; level3 keeps two layers of them, levels 1 and 2 all"))  # fmt: skip
    return lines


@dataclass(frozen=True)
class Traffic:
    """Collectives of one kind, purpose and reach."""

    kind: str
    purpose: str
    group_size: int
    reach: str
    """inside (one server) or across."""
    count: int
    bytes: int
    """Put in by one NPU."""
    seconds: float


def traffic(collectives: list[Collective], parallel: ParallelConfig) -> list[Traffic]:
    """Collectives grouped, with the seconds of a ring at the slowest link on its way.

    An AllReduce of n bytes among g moves 2 (g - 1) / g n over every link, a ReduceScatter (g - 1) / g n, an AllGather
    (g - 1) n of what an NPU puts in (Thakur et al. 2005).
    """
    sums: dict[tuple[str, str, int, str], list[float]] = defaultdict(lambda: [0, 0, 0.0])
    for item in collectives:
        ranks = item.ranks or tuple(range(parallel.npus))
        size = len(ranks)
        servers = {rank // parallel.npus_per_server for rank in ranks}
        reach = "inside" if len(servers) == 1 else "across"
        bandwidth = parallel.inside_gb_per_s if reach == "inside" else parallel.across_gb_per_s
        share = {"AllReduce": 2 * (size - 1) / size, "AllGather": size - 1}.get(item.kind, (size - 1) / size)
        entry = sums[(item.kind, item.purpose, size, reach)]
        entry[0] += 1
        entry[1] += item.bytes
        entry[2] += share * item.bytes / (bandwidth * 1e9)
    return [Traffic(*key, int(n), int(size), seconds) for key, (n, size, seconds) in sorted(sums.items())]


@dataclass(frozen=True)
class Times:
    """Seconds of a step by a roofline, and what follows."""

    flops: int
    products_s: float
    others_s: float
    tensor_parallel_s: float
    """Communication inside blocks, which waits."""
    optimizer_s: float
    """Gathers and reductions of weights and gradients, which can overlap with products."""
    tokens: int
    """Of a step of all NPUs."""
    peak_flops: float
    model_flops: int
    """Of a step of one NPU, without what is computed again."""

    @property
    def step_s(self) -> float:
        """With weights and gradients travelling while products are computed."""
        return self.others_s + self.tensor_parallel_s + max(self.products_s, self.optimizer_s)

    @property
    def serial_s(self) -> float:
        """With nothing overlapping."""
        return self.others_s + self.tensor_parallel_s + self.products_s + self.optimizer_s

    @property
    def tokens_per_day(self) -> float:
        """Of all NPUs."""
        return self.tokens * 86400 / self.step_s

    @property
    def mfu(self) -> float:
        """Model FLOPs over what the NPU's peak would do in a step."""
        return self.model_flops / self.step_s / self.peak_flops


def times(
    config: ModelConfig,
    compute: ComputeConfig,
    parallel: ParallelConfig,
    rows: int,
    products: list[Product],
    groups: list[Traffic],
    accumulate: int = 1,
) -> Times:
    """The roofline of one step."""
    flops = sum(product.flops for product in products)
    width = 4 if compute.dtype == "float32" else 2
    seq, passes = config.seq_length, 4 if compute.recompute else 3
    narrow = 24 * rows * seq * config.hidden_size * width  # norms, dropouts, residuals: read and written, a pass
    scores = 0 if compute.attention == "flash" else 8 * rows * config.num_heads // parallel.mp * seq * seq * width
    moved = passes * config.num_layers * (narrow + scores)
    apart = {"weights", "gradients"}
    efficient = parallel.peak_tflops * 1e12 * parallel.matmul_efficiency
    return Times(
        flops=flops * accumulate,
        products_s=flops * accumulate / efficient,
        others_s=moved * accumulate / (parallel.memory_gb_per_s * 1e9),
        tensor_parallel_s=sum(group.seconds for group in groups if group.purpose not in apart) * accumulate,
        optimizer_s=sum(group.seconds for group in groups if group.purpose in apart),
        tokens=rows * seq * parallel.dp * accumulate,
        peak_flops=parallel.peak_tflops * 1e12,
        model_flops=3 * config.forward_flops_per_token() * rows * seq * accumulate // parallel.mp,
    )
