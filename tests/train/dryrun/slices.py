"""Which piece of a tensor a rank holds, by MindSpore's layout of it and by the groups that its graph gathers in."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.train.dryrun.cluster import exchange
from tests.train.dryrun.graph_text import Name, Program
from tests.train.dryrun.ranks import Compiled

MOMENTS = ("adam_m.", "adam_v.")


def plain(name: str) -> str:
    """A parameter's name without the cells around it."""
    return name.rpartition("optimizer.")[2]


def gathered(program: Program) -> dict[str, tuple[int, ...]]:
    """Weight -> the ranks whose pieces are gathered to what mp left of it, in order; cut by the optimizer's shards."""
    return {
        plain(node.inputs[0].text.partition("_")[2]): exchange(node, np.empty(0)).ranks
        for graph in program.graphs.values()
        for node in graph.nodes
        if node.operator == "AllGather" and isinstance(node.inputs[0], Name)
        if "_update.optimizer." in node.inputs[0].text
    }


def slice_of(value: np.ndarray, layout: list[Any], rank: int, group: tuple[int, ...]) -> np.ndarray:
    """The slice of `rank`.

    Args:
        value: the whole tensor.
        layout: MindSpore's; its tensor map counts the mesh's axes from the last, and -1 is an axis that is not cut.
        rank: of the mesh.
        group: the ranks among which the optimizer cuts what is left once more along its first axis; empty: it does not.
    """
    mesh, tensor_map = layout[0], layout[1]
    place = np.unravel_index(rank % math.prod(mesh), mesh)  # the mesh is that of a stage
    for axis, mapped in enumerate(tensor_map):
        if mapped >= 0:
            along = len(mesh) - 1 - mapped
            value = np.split(value, mesh[along], axis)[place[along]]
    return np.split(value, len(group))[group.index(rank)] if group else value


def slices(compiled: Compiled, rank: int, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of all values; what MindSpore gives no layout to (it gives none to a single NPU) stays whole."""
    groups = gathered(compiled.program)
    layouts = {plain(name): layout for name, layout in compiled.layouts.items()}
    found = {}
    for name, value in values.items():
        weight = name.removeprefix("adam_m.").removeprefix("adam_v.")
        group = groups.get(weight, ())
        if name in layouts:
            assert (layouts[name][5] != "") == bool(group), name  # MindSpore's name of the group
            value = slice_of(value, layouts[name], rank, group)
        found[name] = value
    return found


def joined(pieces: Mapping[int, np.ndarray], places: Mapping[int, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """The whole, from every rank's piece and the indices in the flat whole that it holds.

    Raises:
        AssertionError: ranks that hold the same differ, or nobody holds some part.
    """
    whole = np.full(int(np.prod(shape)), np.nan)
    for rank, piece in pieces.items():
        held = whole[places[rank]]
        np.testing.assert_allclose(np.where(np.isnan(held), piece, held), piece, rtol=1e-9, atol=1e-15)
        whole[places[rank]] = piece
    assert not np.isnan(whole).any()
    return whole.reshape(shape)
