"""The step of a deep model from two shallow ones: what one more layer says, computes and holds is repeated.

Blocks are cut alike, so the items of a graph, in its order, are runs of a block's items between others, and one more
layer makes every run longer by one block. Two compilations that differ in one layer show where the runs are, and how
long a block is; a third block equal to the two before it shows that they repeat.

Covers: any number of stages, each of which gets a layer more at once. Does not cover: a graph whose runs the two
compilations do not show (`Irregular`): all layers are compiled then.
"""

import dataclasses
import re
from collections.abc import Sequence
from functools import cache
from typing import TypeVar

from mindgeex.model_zoo.config import ModelConfig
from mindgeex.train.dryrun.compiled import Compiled
from mindgeex.train.dryrun.memory import Layout
from mindgeex.train.parallel_config import ParallelConfig
from mindgeex.train.pipeline import stages

Item = TypeVar("Item")
SHALLOW = {"codegeex": 4, "gpt_neox": 3}
"""Layers of a stage's piece in the smaller compilation. The larger one has to show three equal blocks beside the first,
the last and, where there is one, the top query layer, next to which a block may be computed in another order."""
BLOCK = re.compile(r"^blocks\.\d+\.")


class Irregular(ValueError):
    """The larger compilation is not the smaller one with a block more in every run."""


def shallow_layers(config: ModelConfig, parallel: ParallelConfig) -> tuple[int, int] | None:
    """Layers of the two compilations, the second with one more in every piece of a stage; none if nothing is saved."""
    pieces = parallel.pp * parallel.interleave
    small = SHALLOW[config.family] * pieces + config.num_layers % pieces
    return (small, small + pieces) if small + pieces < config.num_layers else None


def repetitions(small: Sequence[Item], large: Sequence[Item]) -> list[tuple[int, int]]:
    """Where `large` repeats what `small` does not, and how many items.

    Each is the third time at least that the same items follow each other.

    Raises:
        Irregular: `large` holds something else than `small` and such repetitions.
    """

    @cache
    def rest(i: int, j: int) -> tuple[tuple[int, int], ...] | None:
        while i < len(small) and j < len(large) and small[i] == large[j]:
            i, j = i + 1, j + 1
        if i == len(small) and j == len(large):
            return ()
        more = (len(large) - j) - (len(small) - i)
        for length in range(min(more, j // 2), 0, -1):
            item = large[j : j + length]
            if item == large[j - length : j] == large[j - 2 * length : j - length]:
                found = rest(i, j + length)
                if found is not None:
                    return ((j, length), *found)
        return None

    found = rest(0, 0)
    if found is None:
        raise Irregular(f"{len(small)} items are not {len(large)} without repetitions")
    return list(found)


def extend(small: Sequence[Item], large: Sequence[Item], layers: int) -> list[Item]:
    """The items of a graph that has `layers` more in every run than `large`, which has one more than `small`."""
    result: list[Item] = []
    done = 0
    for start, length in repetitions(small, large):
        result += [*large[done:start], *list(large[start : start + length]) * layers]
        done = start
    return [*result, *large[done:]]


def extend_step(small: Compiled, large: Compiled, deep: ModelConfig, parallel: ParallelConfig, stage: int) -> Compiled:
    """What MindSpore would make of the deep model's step, from what it made of those of `shallow_layers`.

    Seconds are of the slower one, as they run side by side; bytes of both.

    Raises:
        Irregular: it does not follow.
    """
    pair = shallow_layers(deep, parallel)
    assert pair is not None
    layers = (deep.num_layers - pair[1]) // (pair[1] - pair[0])

    def named(weights: Sequence[Layout], count: int) -> list[Layout]:
        return name_blocks(weights, dataclasses.replace(deep, num_layers=count), parallel, stage)

    small_alike, large_alike = unnumbered(small.weights), unnumbered(large.weights)
    for alike, one, count in ((small_alike, small, pair[0]), (large_alike, large, pair[1])):
        if named(alike, count) != one.weights:
            raise Irregular(f"the weights of {count} layers have other names than the model's in this stage")
    return Compiled(
        weights=named(extend(small_alike, large_alike, layers), deep.num_layers),
        collectives=extend(small.collectives, large.collectives, layers),
        products=extend(small.products, large.products, layers),
        cann=large.cann,
        build_s=max(small.build_s, large.build_s),
        compile_s=max(small.compile_s, large.compile_s),
        total_s=max(small.total_s, large.total_s),
        peak_bytes=small.peak_bytes + large.peak_bytes,
    )


def unnumbered(weights: Sequence[Layout]) -> list[Layout]:
    """Those of all blocks named `blocks.*.`."""
    return [dataclasses.replace(weight, name=BLOCK.sub("blocks.*.", weight.name)) for weight in weights]


def name_blocks(weights: Sequence[Layout], config: ModelConfig, parallel: ParallelConfig, stage: int) -> list[Layout]:
    """Weights named `blocks.*.` with the numbers of the blocks that a stage holds, in their order.

    Raises:
        Irregular: a weight comes more or less often than there are blocks.
    """
    placed = stages(config, parallel)
    held = [path.partition(".")[2] for path, at in placed.items() if path.startswith("blocks.") and at == stage]
    seen: dict[str, int] = {}
    result = []
    for weight in weights:
        if weight.name.startswith("blocks.*."):
            at = seen[weight.name] = seen.get(weight.name, -1) + 1
            if at >= len(held):
                raise Irregular(f"{weight.name} comes more often than {len(held)} times")
            weight = dataclasses.replace(weight, name=weight.name.replace("*", held[at], 1))
        result.append(weight)
    if any(last + 1 != len(held) for last in seen.values()):
        raise Irregular(f"a weight comes less often than {len(held)} times")
    return result
