"""What an NPU of a layout holds, computes and says, from sizes alone: what graph.py reads, without compiling.

The items are those of the compiled graph, counted, so memory.py and estimate.py make memory and time of either.
What MindSpore's partitioner does, as its graphs show it:

- every row-parallel product is summed over mp, and so is its derivative; so is the embedding's look-up (float32);
- a weight that a product reads is gathered in the type of the product, tables and norms in float32 (HSDP);
- a gradient is reduced and scattered over the shards, and what remains summed over those who hold the same shard; a
  tensor that mp does not cut counts every NPU of the stage as a holder.

Covers: both families, matmul and flash attention, recomputation, HSDP, shared tokens, stages, interleaved or not. Does
not cover: redistributions, of which the shipped plans have none; level3 with stages.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.model_zoo.sharding import cuts_of, sharding_plan, token_cuts
from mindgeex.train.batch import BatchConfig, plan_batch
from mindgeex.train.dryrun import estimate
from mindgeex.train.dryrun.graph import Collective, Product
from mindgeex.train.dryrun.memory import Layout, memory_lines
from mindgeex.train.parallel_config import ParallelConfig
from mindgeex.train.pipeline import layers_of_stage, of_two_stages, optimizer_pieces, stages, stages_of_parameter

TYPES = {"float16": "Float16", "bfloat16": "BFloat16", "float32": "Float32"}


@lru_cache(maxsize=4096)
def layouts(model: ModelConfig, parallel: ParallelConfig, stage: int) -> tuple[Layout, ...]:
    """Of a stage's weights."""
    plan, placed = sharding_plan(model, parallel.dp, parallel.mp), stages(model, parallel)
    found = []
    for name, shape in model.shapes.items():
        if stage not in stages_of_parameter(name, placed, model.family == "codegeex"):
            continue
        cuts = cuts_of(name, plan)
        piece = tuple(size // cut for size, cut in zip(shape, cuts or (1,) * len(shape), strict=False))
        pieces = optimizer_pieces(name, piece[0], model, parallel)
        found.append(Layout(name, shape, (piece[0] // pieces, *piece[1:]), (parallel.dp, parallel.mp), (), pieces))
    return tuple(found)


class Kind(NamedTuple):
    """What decides how a weight and its gradient travel."""

    piece: tuple[int, ...]
    shards: int
    is_cut: bool
    """Over mp."""
    is_read: bool
    """By a product."""
    is_lent: bool
    """By the first stage, which gets its gradient."""


@lru_cache(maxsize=4096)
def kinds_of_weights(model: ModelConfig, parallel: ParallelConfig, stage: int) -> dict[Kind, int]:
    """How many tensors of each kind a stage holds."""
    counts: dict[Kind, int] = {}
    for layout in layouts(model, parallel, stage):
        is_cut = math.prod(layout.shape) != layout.values * layout.shards
        is_read = layout.name.endswith((".weight", ".bias")) and "embedding" not in layout.name
        is_lent = stage > 0 and of_two_stages(layout.name, model, parallel)
        kind = Kind(layout.slice_shape, layout.shards, is_cut, is_read, is_lent)
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def layers_again(stage: int, model: ModelConfig, compute: ComputeConfig, parallel: ParallelConfig) -> tuple[int, int]:
    """Layers of a stage that are computed again, and how many of these need their attention's sum for it.

    The top query layer is not. The feed-forward branch does not read the attention's where they are in parallel.
    """
    if not compute.recompute:
        return 0, 0
    tied = model.family == "codegeex"
    again = layers_of_stage(stage, model, parallel) - (tied and stage == parallel.pp - 1)
    return again, 0 if not tied and model.parallel_residual else again


def products(
    model: ModelConfig, compute: ComputeConfig, parallel: ParallelConfig, rows: int, stage: int
) -> list[Product]:
    """Of one micro batch, forward and backward; what is computed again is all of a block but its last product."""
    mp, hidden, seq = parallel.mp, model.hidden_size, model.seq_length
    layers, last = layers_of_stage(stage, model, parallel), stage == parallel.pp - 1
    again, sums_again = layers_again(stage, model, compute, parallel)
    values, width, inner = rows * seq, hidden // mp, model.feed_forward_size // mp
    heads, size = model.num_heads // mp, model.head_size

    def matmul(first: int, inside: int, second: int, count: int) -> Product:
        return Product("MatMul", ((first, inside), (second, inside), (first, second)), False, count)

    found = [
        matmul(values, hidden, width, 3 * (3 * layers + again)),  # queries, keys, values
        matmul(values, width, hidden, 3 * layers + sums_again),
        matmul(values, hidden, inner, 3 * layers + again),
        matmul(values, inner, hidden, 3 * layers),
    ]
    vectors, scores = (rows, heads, seq, size), (rows, heads, seq, seq)
    if compute.attention == "flash":
        found.append(Product("FlashAttentionScore", (vectors, vectors, vectors), False, layers + again))
        found.append(Product("FlashAttentionScoreGrad", (vectors, vectors, vectors), False, layers))
    else:
        found.append(Product("BatchMatMul", (vectors, vectors, scores), False, 3 * layers + again))
        found.append(Product("BatchMatMul", (scores, vectors, vectors), False, 3 * layers + again))
    if last:
        found.append(matmul(values, hidden, model.vocab_size // mp, 3))
    return [product for product in found if product.count]


def collectives(
    model: ModelConfig, compute: ComputeConfig, parallel: ParallelConfig, rows: int, stage: int
) -> list[Collective]:
    """Of the first NPU of a stage: in one micro batch, and once a step of weights and whole gradients."""
    return [
        item
        for item in (*inside(model, compute, parallel, rows, stage), *of_weights(model, compute, parallel, stage))
        if item.count and (len(item.ranks) > 1 or item.kind in ("Send", "Receive"))
    ]


def inside(
    model: ModelConfig, compute: ComputeConfig, parallel: ParallelConfig, rows: int, stage: int
) -> Iterator[Collective]:
    """Sums over mp, the loss, and messages between stages."""
    mp, hidden, seq = parallel.mp, model.hidden_size, model.seq_length
    first, last = stage == 0, stage == parallel.pp - 1
    start = stage * parallel.stage_npus
    near, row = tuple(range(start, start + mp)), tuple(range(start, start + parallel.stage_npus, mp))
    shared = parallel.sequence_parallel
    row_pieces, pieces = token_cuts(model, 1, mp, rows) if shared else (1, 1)
    flows = (rows // row_pieces, seq // pieces, hidden)  # between blocks
    kind, layers, values = TYPES[compute.dtype], layers_of_stage(stage, model, parallel), rows * seq
    again, sums_again = layers_again(stage, model, compute, parallel)
    # Branches in parallel have the same derivative, which is summed once.
    back = layers if model.family == "gpt_neox" and model.parallel_residual else 2 * layers
    if shared:
        whole, piece = ((values, hidden), (values // mp, hidden)) if pieces > 1 else ((rows, seq, hidden), flows)
        yield Collective("ReduceScatter", "forward", near, kind, (values, hidden), 2 * layers + sums_again)
        yield Collective("AllGather", "backward", near, kind, (values // mp, hidden), back)
        yield Collective("AllGather", "tokens", near, kind, piece, 2 * (layers + again) + last)
        yield Collective("ReduceScatter", "tokens", near, kind, whole, 2 * layers + last)
    else:
        yield Collective("AllReduce", "forward", near, kind, (values, hidden), 2 * layers + sums_again)
        yield Collective("AllReduce", "backward", near, kind, (values, hidden), back)
    if first:
        yield Collective("AllReduce", "forward", near, "Float32", (rows, seq, hidden))
        yield Collective("AllReduce", "backward", near, "Float32", (rows, seq, hidden))
    if last:
        yield Collective("AllReduce", "forward", near, "Float32", (values, 1), 3)
        yield Collective("AllReduce", "backward", near, "Float32", (values, 1), 2)
        yield Collective("AllReduce", "forward", row, "Float32", ())
        yield Collective("AllReduce", "backward", row, "Float32", (), int(parallel.pp > 1))
    if parallel.pp > 1 and (first or last) and model.family == "codegeex":
        other = (parallel.pp - 1 if first else 0) * parallel.stage_npus
        for say in ("Send", "Receive"):
            yield Collective(say, "table", (other,), "Float32", (model.vocab_size // mp, hidden))
    for other, turns in ((stage - 1, parallel.interleave - first), (stage + 1, parallel.interleave - last)):
        for say in ("Send", "Receive"):  # the last stage's pieces but its last go on with the first stage
            yield Collective(say, "pipeline", (other % parallel.pp * parallel.stage_npus,), kind, flows, turns)


def of_weights(
    model: ModelConfig, compute: ComputeConfig, parallel: ParallelConfig, stage: int
) -> Iterator[Collective]:
    """Gathers of weights, reductions of gradients, and the norm."""
    mp, start, npus = parallel.mp, stage * parallel.stage_npus, parallel.stage_npus
    kind, layers = TYPES[compute.dtype], layers_of_stage(stage, model, parallel)
    again, sums_again = layers_again(stage, model, compute, parallel)
    # The last biases of branches in parallel have the same gradient.
    twins = model.family == "gpt_neox" and model.parallel_residual
    for (piece, shards, is_cut, is_read, is_lent), count in kinds_of_weights(model, parallel, stage).items():
        step, holders = (mp, npus // mp) if is_cut else (1, npus)
        full = (piece[0] * shards, *piece[1:])
        is_bias_of_sum = is_read and not is_cut and full == (model.hidden_size,)
        merged = layers if is_bias_of_sum and twins else 0
        if shards > 1:
            near = tuple(range(start, start + step * shards, step))
            gathers = count
            if parallel.optimizer_level == "level3" and is_read and len(piece) == 2:
                gathers += count  # for the derivative of what it is multiplied with
            elif parallel.optimizer_level == "level3" and len(piece) == 1:  # for what is computed again
                gathers += sums_again if is_bias_of_sum else again * (count // layers if is_read else 4)
            yield Collective("AllGather", "weights", near, kind if is_read else "Float32", piece, gathers)
            # A stage that keeps slices of gradients adds every micro batch's to them.
            purpose = "accumulation" if parallel.pp > 1 and parallel.optimizer_level != "level1" else "gradients"
            yield Collective("ReduceScatter", purpose, near, "Float32", full, count - merged)
        far = tuple(range(start, start + step * holders, step * shards))
        reduced = 0 if is_lent else count - (0 if parallel.pp > 1 else merged)
        yield Collective("AllReduce", "gradients", far, "Float32", piece, reduced)
    yield Collective("AllReduce", "norm", tuple(range(parallel.npus)), "Float32", (2,))
    yield Collective("AllReduce", "norm", tuple(range(parallel.npus)), "Float32", (), 1 + (parallel.pp > 1))


def predict(
    parallel: ParallelConfig, cut: BatchConfig, compute: ComputeConfig, model: ModelConfig
) -> tuple[int, estimate.Times, int]:
    """Bytes of the stage that needs most (the first or the last), the slower one's times, and which that is."""
    batch = plan_batch(cut, model.seq_length, parallel.dp)
    rows, accumulate = batch.micro_rows, batch.accumulate
    memories, times = [], []
    for stage in sorted({0, parallel.pp - 1}):
        held = layouts(model, parallel, stage)
        lines = memory_lines(model, compute, parallel, rows, list(held), stage, accumulate)
        memories.append(sum(line.value for line in lines))
        groups = estimate.traffic(
            collectives(model, compute, parallel, rows, stage), parallel, stage * parallel.stage_npus
        )
        computed = products(model, compute, parallel, rows, stage)
        times.append(estimate.times(model, compute, parallel, rows, computed, groups, accumulate, stage))
    slowest = max(times, key=lambda one: one.step_s)
    return max(memories), slowest, 0 if slowest is times[0] else parallel.pp - 1
