"""Communication and time of one NPU, from the graph that MindSpore compiled.

time = (products / (peak x efficiency) + other operators' bytes / memory bandwidth + collectives / link bandwidth)
       x (1 + bubble)

Covers: dense transformers of both families. Does not cover: operators that the backend fuses; the estimates of time are
rooflines, not measurements.
"""

# Shapes: B rows of an NPU, S sequence, H hidden, A heads, F feed-forward width
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.train.dryrun.graph import Collective, Product
from mindgeex.train.parallel_config import ParallelConfig
from mindgeex.train.pipeline import bubble, layers_of_stage

PUBLISHED = {"npus": 1536, "tokens_per_day": 54.3e9, "step_s": 10.0, "tokens_per_s_per_npu": 409.0}
"""CodeGeeX-13B's pre-training, padding included (README of the CodeGeeX repository)."""


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


SHARES: dict[str, Callable[[int], float]] = {
    "AllReduce": lambda size: 2 * (size - 1) / size,
    "AllGather": lambda size: size - 1,
    "Send": lambda _: 1,
    "Receive": lambda _: 1,
}
"""Of what an NPU puts in, how much goes over every link."""


def traffic(collectives: list[Collective], parallel: ParallelConfig, rank: int = 0) -> list[Traffic]:
    """Collectives grouped, with the seconds of a ring at the slowest link on its way.

    An AllReduce of n bytes among g moves 2 (g - 1) / g n over every link, a ReduceScatter (g - 1) / g n, an AllGather
    (g - 1) n of what an NPU puts in (Thakur et al. 2005); a Send or a Receive n. `rank` is who speaks.
    """
    sums: dict[tuple[str, str, int, str], list[float]] = defaultdict(lambda: [0, 0, 0.0])
    for item in collectives:
        ranks = item.ranks or tuple(range(parallel.npus))
        if item.kind in ("Send", "Receive"):
            ranks = (rank, *ranks)
        size = len(ranks)
        servers = {rank // parallel.npus_per_server for rank in ranks}
        reach = "inside" if len(servers) == 1 else "across"
        bandwidth = parallel.inside_gb_per_s if reach == "inside" else parallel.across_gb_per_s
        share = SHARES.get(item.kind, lambda size: (size - 1) / size)(size)
        entry = sums[(item.kind, item.purpose, size, reach)]
        entry[0] += item.count
        entry[1] += item.bytes * item.count
        entry[2] += share * item.bytes * item.count / (bandwidth * 1e9)
    return [Traffic(*key, int(n), int(size), seconds) for key, (n, size, seconds) in sorted(sums.items())]


INNER = {"fast_gelu": (9, 15), "gelu": (13, 25), "gelu_tanh": (4, 5)}
"""Activation -> accesses to a value of the feed-forward layer, forward and backward, with its bias."""


def accesses(config: ModelConfig, compute: ComputeConfig) -> list[tuple[int, int, int, int]]:
    """How often the operators of a layer that are no products read or write its values: whole, heads, inner, scores.

    First forward, then backward, as counted in the compiled graphs (tests/train/dryrun/test_accesses.py), with casts
    and the hash of dropout taken for a part of the operators beside them.

    - whole, [B, S, H]: norms, biases of row-parallel products, dropouts, residuals;
    - heads, [B, S, H / mp]: biases, transpositions, scale and rotation of queries, keys, values and their mixture;
    - inner, [B, S, F / mp]: bias and activation;
    - scores, [B, A / mp, S, S]: mask, softmax, dropout; none in a flash kernel.
    """
    dropout, rotary = config.dropout_rate > 0, config.family == "gpt_neox"
    at_once = rotary and config.parallel_residual  # three derivatives are added, and two biases have the same
    flash, (inner, inner_back) = compute.attention == "flash", INNER[config.activation]
    return [
        (14 + 10 * dropout, 16 + 24 * rotary, inner, 0 if flash else 4 + 5 * dropout),
        (18 + 10 * dropout - 3 * at_once, 13 + 32 * rotary, inner_back, 0 if flash else 3 + 5 * dropout),
    ]


def layer_bytes(config: ModelConfig, compute: ComputeConfig, parallel: ParallelConfig, rows: int) -> int:
    """That operators of a layer which are no products read and write for a micro batch.

    Every NPU of an mp group has whole rows between the products, unless they share the tokens (Korthikanti et al. 2022,
    sections 4.2.1 and 4.2.2).
    """
    tokens, mp = rows * config.seq_length, parallel.mp
    hidden, scores = tokens * config.hidden_size, tokens * config.seq_length * config.num_heads // mp
    values = (hidden // (mp if parallel.sequence_parallel else 1), hidden // mp,
              tokens * config.feed_forward_size // mp, scores)  # fmt: skip
    forward, backward = (
        sum(count * size for count, size in zip(counts, values, strict=True)) for counts in accesses(config, compute)
    )
    return (4 if compute.dtype == "float32" else 2) * (forward * (1 + compute.recompute) + backward)


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
    pipeline_s: float
    """Messages between stages, which wait."""
    bubble: float
    """A stage's idle time over its busy time."""
    tokens: int
    """Of a step of all NPUs."""
    peak_flops: float
    model_flops: int
    """Of a step of one NPU, without what is computed again."""

    @property
    def busy_s(self) -> float:
        """Of a stage with all its micro batches."""
        return self.others_s + self.tensor_parallel_s + self.products_s + self.pipeline_s

    @property
    def step_s(self) -> float:
        """With weights and gradients travelling while products are computed."""
        return self.busy_s * (1 + self.bubble) + max(0.0, self.optimizer_s - self.products_s)

    @property
    def serial_s(self) -> float:
        """With nothing overlapping."""
        return self.busy_s * (1 + self.bubble) + self.optimizer_s

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
    stage: int = 0,
) -> Times:
    """The roofline of one step, from what an NPU computes and says in one micro batch."""
    flops = sum(product.flops * product.count for product in products)
    seq, layers = config.seq_length, layers_of_stage(stage, config, parallel)
    moved = layers * layer_bytes(config, compute, parallel, rows)
    of_weights, in_slices = {"weights", "gradients", "table", "accumulation"}, parallel.optimizer_level != "level1"
    efficient = parallel.peak_tflops * 1e12 * parallel.matmul_efficiency
    return Times(
        flops=flops * accumulate,
        products_s=flops * accumulate / efficient,
        others_s=moved * accumulate / (parallel.memory_gb_per_s * 1e9),
        tensor_parallel_s=sum(group.seconds for group in groups if group.purpose not in of_weights | {"pipeline"})
        * accumulate,
        optimizer_s=sum(
            group.seconds * (accumulate if group.kind == "ReduceScatter" and in_slices else 1)
            for group in groups
            if group.purpose in of_weights
        ),
        pipeline_s=sum(group.seconds for group in groups if group.purpose == "pipeline") * accumulate,
        bubble=bubble(parallel, accumulate),
        tokens=rows * seq * parallel.dp * accumulate,
        peak_flops=parallel.peak_tflops * 1e12,
        model_flops=3 * config.forward_flops_per_token() * rows * seq * accumulate // (parallel.mp * parallel.pp),
    )
