"""Which stage of a pipeline computes what; apart from the cells, so that an estimate needs no mindspore.

Consecutive layers form a stage; a stage with `interleave` pieces takes turns with the others. The embeddings are with
the first layer, the final norm, the top query layer and the head with the last. The network is that of one device: a
tied table is held by the first and the last stage, sent once a step, its gradient sent back (Narayanan et al. 2021,
Efficient Large-Scale Language Model Training on GPU Clusters, section 2).
"""

import re

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.train.parallel_config import ParallelConfig, divisors, nearest


def stage_of_layer(layer: int, layers: int, parallel: ParallelConfig) -> int:
    """Of layer 0, 1, ..., of which there are `layers`."""
    pieces = parallel.pp * parallel.interleave
    return layer * pieces // layers % parallel.pp


def layers_of_stage(stage: int, config: ModelConfig, parallel: ParallelConfig) -> int:
    """How many layers it holds."""
    layers = config.num_layers
    return sum(stage_of_layer(layer, layers, parallel) == stage for layer in range(layers))


def stages(config: ModelConfig, parallel: ParallelConfig) -> dict[str, int]:
    """Path of every cell that is placed -> its stage.

    Raises:
        UserError: there are more pieces than layers.
    """
    layers, last = config.num_layers, parallel.pp - 1
    check_pieces(config, parallel)
    placed = {"word_embedding": 0}
    tied = config.family == "codegeex"
    blocks = layers - 1 if tied else layers
    placed |= {f"blocks.{layer}": stage_of_layer(layer, layers, parallel) for layer in range(blocks)}
    if tied:
        placed |= {"position_embedding": 0, "query_embedding": last, "top_query": last}
    return placed | {"final_norm": last, "head": last}


def check_pieces(config: ModelConfig, parallel: ParallelConfig) -> None:
    """Refuses stages without a layer.

    Raises:
        UserError: with the nearest number that fits.
    """
    layers, pieces = config.num_layers, parallel.pp * parallel.interleave
    if pieces <= layers:
        return
    if parallel.pp > layers:
        legal = [n for n in divisors(parallel.npus // parallel.mp) if n * parallel.interleave <= layers] or [1]
        raise UserError(
            f"parallel.pp={parallel.pp} is more than {layers} layers: set parallel.pp={nearest(parallel.pp, legal)}"
        )
    raise UserError(
        f"parallel.pp={parallel.pp} x interleave={parallel.interleave} is more than {layers} layers: "
        f"set parallel.interleave={layers // parallel.pp}"
    )


def check_micro_batches(parallel: ParallelConfig, accumulate: int) -> None:
    """Refuses fewer micro batches than stages, which MindSpore does not compile.

    Raises:
        UserError: with numbers that fit.
    """
    if parallel.pp == 1:
        return
    if accumulate < parallel.pp:
        raise UserError(
            f"a pipeline of parallel.pp={parallel.pp} stages needs as many micro batches, but batch.accumulate is "
            f"{accumulate}: set batch.accumulate={parallel.pp} (and fewer batch.micro_rows), or fewer stages"
        )


def stages_of_parameter(name: str, placed: dict[str, int], tied: bool) -> tuple[int, ...]:
    """The stages that hold a weight: one, or the first and the last for a tied table."""
    cell = match[0] if (match := re.match(r"blocks\.\d+", name)) else name.partition(".")[0]
    held = {placed[cell]}
    if tied and cell == "word_embedding":
        held.add(placed["head"])
    return tuple(sorted(held))


def of_two_stages(name: str, config: ModelConfig, parallel: ParallelConfig) -> bool:
    """Whether a weight is the tied table of a pipeline.

    HSDP does not cut it: MindSpore 2.9 would scatter its gradient twice, and let the last stage read a piece.
    """
    return parallel.pp > 1 and config.family == "codegeex" and name == "word_embedding.weight"


def optimizer_pieces(name: str, length: int, config: ModelConfig, parallel: ParallelConfig) -> int:
    """Into how many pieces HSDP cuts a weight whose first axis is `length` long after mp; 1: it does not."""
    whole = of_two_stages(name, config, parallel) or length % parallel.optimizer_shard
    return 1 if whole else parallel.optimizer_shard


def micro_batches_in_flight(stage: int, parallel: ParallelConfig, micro_batches: int) -> float:
    """Micro batches whose activations a stage holds at most, in units of all its layers (1F1B).

    Narayanan et al. 2021, section 2.2 and its Megatron-LM: stage s of p holds p - s; with v pieces, those begun before
    the first backward pass, 2 (p - s - 1) + (v - 1) p + 1, each 1 / v of the stage.
    """
    pp, pieces = parallel.pp, parallel.interleave
    if pp == 1:
        return 1.0
    if pieces == 1:
        return float(min(micro_batches, pp - stage))
    begun = min(micro_batches * pieces, 2 * (pp - stage - 1) + (pieces - 1) * pp + 1)
    return begun / pieces


def bubble(parallel: ParallelConfig, micro_batches: int) -> float:
    """Idle time over busy time: (p - 1) / (v m) (Narayanan et al. 2021, section 2.2)."""
    return (parallel.pp - 1) / (parallel.interleave * micro_batches)
