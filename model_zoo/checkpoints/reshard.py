"""Rank files to whole tensors and back, one tensor at a time.

Merging reads every byte once: each slice from one rank, and its copies on the other ranks to compare them. Splitting
writes each slice to all ranks that hold it while the tensor is in memory. Covers: any two layouts, absent ranks as
long as every slice is left. Does not cover: ranks whose tensors differ in names. Memory: one whole tensor, one slice of
it, one copy to compare.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.containers.streams import shown
from mindgeex.model_zoo.checkpoints.layout import Layout, slice_shape, split_dim
from mindgeex.model_zoo.checkpoints.names import Row, parameter_name
from mindgeex.model_zoo.checkpoints.tensors import FLOATS, TensorRef, TensorSpec
from mindgeex.model_zoo.config import ModelConfig

SHOWN = 10
"""Names that an error lists; the rest is counted."""
NAME_LENGTH = 100
"""So much of a name is shown."""


@dataclass(frozen=True)
class Ranks:
    """What lies on disk: stored name -> tensor, of every rank that is there. In one piece, it is rank 0 of 1."""

    layout: Layout
    tensors: Mapping[int, Mapping[str, TensorRef]]
    paths: Mapping[int, Path]
    """Rank -> its file or folder, for messages."""
    split_dims: Mapping[str, int]

    @property
    def absent(self) -> list[int]:
        """Ranks of the layout that are not there."""
        return [rank for rank in range(self.layout.ranks) if rank not in self.tensors]


@dataclass(frozen=True)
class Piece:
    """A part of a stored tensor: where it lies among the slices, and who holds it."""

    m: int
    """Which slice along mp."""
    part: int
    """Which part of that slice along dim 0 as stored."""
    holders: tuple[int, ...]
    """All ranks that hold it, ascending."""


class CopiesDiffer(UserError):
    """Ranks that should hold the same do not."""


def pieces(row: Row, layout: Layout, dims: Mapping[str, int], parts: int, along_dp: bool = False) -> list[Piece]:
    """The pieces of a row's tensor, in the order in which they follow each other.

    Args:
        row: the stored tensor.
        layout: of the ranks.
        dims: our names -> dim that is split over mp.
        parts: how often each slice is cut along dim 0: layout.optimizer_shard, or 1 if it stays whole.
        along_dp: by the other rule of layout.py for tensors that are not split.
    """
    split = layout.mp > 1 and split_dim(row.ours[0], dims) is not None
    found = []
    for m in range(layout.mp if split else 1):
        holders = layout.holders(split, m, along_dp)
        found += [Piece(m, part, tuple(holders[part::parts])) for part in range(parts)]
    return found


def stored_slice_shape(row: Row, config: ModelConfig, mp: int, dims: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of one mp slice of a row's tensor as stored."""
    name = row.ours[0]
    return row.packed_shape(slice_shape(name, config.shapes[parameter_name(name)], mp, dims))


def problems(rows: Sequence[Row], config: ModelConfig, ranks: Ranks) -> list[str]:
    """What does not fit: missing and surplus tensors, wrong shapes and types; empty if all is well.

    Args:
        rows: what there has to be.
        config: the sizes.
        ranks: what is there.
    """
    wanted = {row.stored for row in rows}
    found: list[str] = []
    for rank, tensors in ranks.tensors.items():
        missing = [name for name in wanted if name not in tensors]
        surplus = [name for name in tensors if name not in wanted]
        for what, names in (("missing", missing), ("surplus", surplus)):
            if names:
                found.append(f"{ranks.paths[rank]}: {len(names)} tensors {what}: {listed(sorted(names))}")
    if found:
        return found
    for row in rows:
        try:
            whole = stored_slice_shape(row, config, ranks.layout.mp, ranks.split_dims)
        except UserError as error:
            return [f"{next(iter(ranks.paths.values()))}: {error}"]
        allowed = {whole, _cut(whole, ranks.layout.optimizer_shard)}
        first = next(iter(ranks.tensors.values()))[row.stored].spec
        for rank, tensors in ranks.tensors.items():
            wrong = _misfit(tensors[row.stored].spec, first, allowed, ranks.layout)
            if wrong:
                found.append(f"{ranks.paths[rank]}: {row.stored} {wrong}")
                break  # the other ranks' are alike
    return found


def _misfit(spec: TensorSpec, first: TensorSpec, allowed: set[tuple[int, ...]], layout: Layout) -> str:
    """What is wrong with a stored tensor; empty if nothing is."""
    if spec.shape not in allowed:
        expected = " or ".join(str(list(shape)) for shape in sorted(allowed, reverse=True))
        return f"has shape {list(spec.shape)}, the model's is {expected}" + (
            f" in the layout {layout}" if layout.ranks > 1 else ""
        )
    if spec.dtype not in FLOATS.values():
        return f"has type {spec.dtype}: weights are {listed(FLOATS)}"
    if spec != first:
        return f"is {spec.dtype}{list(spec.shape)}, in the first rank's file {first.dtype}{list(first.shape)}"
    return ""


def listed(names: Sequence[str] | Mapping[str, object]) -> str:
    """The first ten names and the number of the others."""
    names = list(names)
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(shown(name, NAME_LENGTH) for name in names[:SHOWN]) + more


def merged(rows: Sequence[Row], config: ModelConfig, ranks: Ranks) -> dict[str, TensorRef]:
    """Our name -> whole tensor. To be asked after `problems` found none.

    Reading raises:
        UserError: copies of a slice differ (rank and tensor named), or a file is damaged.

    Raises:
        UserError: no rank that holds some slice is there.
    """
    tensors: dict[str, TensorRef] = {}
    for row in rows:
        spec = next(iter(ranks.tensors.values()))[row.stored].spec
        slice_ = stored_slice_shape(row, config, ranks.layout.mp, ranks.split_dims)
        parts = ranks.layout.optimizer_shard if spec.shape != slice_ else 1
        found, otherwise = (pieces(row, ranks.layout, ranks.split_dims, parts, along_dp) for along_dp in (False, True))
        for piece in found:
            if not any(rank in ranks.tensors for rank in piece.holders):
                where = next(iter(ranks.paths.values())).parent
                raise UserError(
                    f"{where}: a part of {row.stored} lies on no rank that is there: add the files of rank "
                    f"{' or '.join(map(str, piece.holders[:4]))}{' or ...' if len(piece.holders) > 4 else ''}"
                )
        source = _Source(row, config, ranks, found, otherwise)
        for number, name in enumerate(row.ours):
            whole = TensorSpec(config.shapes[parameter_name(name)], spec.dtype)
            tensors[name] = TensorRef(whole, partial(source.take, number))
    return tensors


class _Source:
    """Reads a stored tensor once, however many of ours it holds; what was not taken yet is kept."""

    def __init__(self, row: Row, config: ModelConfig, ranks: Ranks, found: Sequence[Piece], otherwise: Sequence[Piece]):
        self._row, self._config, self._ranks, self._pieces, self._otherwise = row, config, ranks, found, otherwise
        self._left: dict[int, np.ndarray] = {}

    def take(self, number: int) -> np.ndarray:
        """Number `number` of the row's tensors, contiguous."""
        if number not in self._left:
            self._left = dict(enumerate(self._read()))
        return np.ascontiguousarray(self._left.pop(number))

    def _read(self) -> list[np.ndarray]:
        slices = max(piece.m for piece in self._pieces) + 1
        if slices == 1:
            return self._row.unpack(self._read_unsplit(), self._config.head_size)
        wholes: list[np.ndarray] = []
        dim = split_dim(self._row.ours[0], self._ranks.split_dims)
        assert dim is not None
        for m in range(slices):
            shares = self._row.unpack(self._read_slice(m), self._config.head_size)
            if not wholes:
                shape = self._config.shapes[parameter_name(self._row.ours[0])]
                wholes = [np.empty(shape, share.dtype) for share in shares]
            width = shares[0].shape[dim]
            for whole, share in zip(wholes, shares, strict=True):
                whole[(slice(None),) * dim + (slice(m * width, (m + 1) * width),)] = share
        return wholes

    def _read_unsplit(self) -> np.ndarray:
        try:
            return self._read_slice(0)
        except CopiesDiffer as error:
            there = all(any(rank in self._ranks.tensors for rank in piece.holders) for piece in self._otherwise)
            if self._otherwise == self._pieces or not there:
                raise
            self._pieces = self._otherwise
            try:
                return self._read_slice(0)
            except CopiesDiffer:
                raise error from None

    def _read_slice(self, m: int) -> np.ndarray:
        parts = [self._read_piece(piece) for piece in self._pieces if piece.m == m]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read_piece(self, piece: Piece) -> np.ndarray:
        here = [rank for rank in piece.holders if rank in self._ranks.tensors]
        first = self._ranks.tensors[here[0]][self._row.stored].read()
        for rank in here[1:]:
            copy = self._ranks.tensors[rank][self._row.stored].read()
            if not np.array_equal(first.reshape(-1).view(np.uint8), copy.reshape(-1).view(np.uint8)):
                raise CopiesDiffer(
                    f"{self._ranks.paths[rank]}: {self._row.stored} differs from its copy on rank {here[0]}: they "
                    f"should be equal in the layout {self._ranks.layout}: check the layout, or leave out the wrong rank"
                )
        return first


def shards(
    row: Row, config: ModelConfig, layout: Layout, dims: Mapping[str, int]
) -> tuple[list[Piece], tuple[int, ...]]:
    """The pieces that a row's tensor is written in, and their common shape.

    Raises:
        UserError: the layout does not divide the tensor.
    """
    whole = stored_slice_shape(row, config, layout.mp, dims)
    cut = _cut(whole, layout.optimizer_shard)
    return pieces(row, layout, dims, layout.optimizer_shard if cut != whole else 1), cut


def split(
    row: Row, wholes: Sequence[np.ndarray], config: ModelConfig, found: Sequence[Piece], dims: Mapping[str, int]
) -> Iterator[tuple[Piece, np.ndarray]]:
    """Whole tensors of ours -> the contiguous pieces to store.

    Args:
        row: the tensor to store.
        wholes: what it is made of, in the order of row.ours.
        config: the sizes.
        found: its pieces, from `shards`.
        dims: our names -> dim that is split over mp.
    """
    slices, parts = max(piece.m for piece in found) + 1, max(piece.part for piece in found) + 1
    dim = split_dim(row.ours[0], dims) or 0
    for m in range(slices):
        width = wholes[0].shape[dim] // slices
        share = (slice(None),) * dim + (slice(m * width, (m + 1) * width),)
        packed = row.pack([whole[share] for whole in wholes], config.head_size)
        rows = packed.shape[0] // parts
        for piece in found[m * parts : (m + 1) * parts]:
            yield piece, np.ascontiguousarray(packed[piece.part * rows : (piece.part + 1) * rows])


def _cut(shape: tuple[int, ...], shard: int) -> tuple[int, ...]:
    """The shape of one of `shard` parts along dim 0; the shape itself where they would not be equal."""
    return (shape[0] // shard, *shape[1:]) if math.gcd(shape[0], shard) == shard else shape
