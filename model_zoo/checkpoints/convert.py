"""From any format and layout to any other in one pass, tensor by tensor, checked before it is published.

A row of the target's table is read (each part once), cast, packed, cut and written to every rank that holds a piece;
then the next. Memory: at most three times the largest tensor, and what the names, shapes and types take: about 1 KB a
tensor and rank. What was written is read back and compared by SHA-256, and only then moved to its place; a killed
conversion leaves two *.partial at most, the output's and its lock.

Covers: weights, and Adam's moments between the formats that have them. Does not cover: conversion between families.
"""

import contextlib
import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.common.files import atomic_file, atomic_folder, write_json
from mindgeex.common.progress import progress
from mindgeex.model_zoo.checkpoints.casting import CastTally, cast
from mindgeex.model_zoo.checkpoints.containers.safetensors_file import SHARD_BYTES
from mindgeex.model_zoo.checkpoints.containers.streams import byte_view
from mindgeex.model_zoo.checkpoints.formats import Format, format_named, fused, open_writer, read_tensors
from mindgeex.model_zoo.checkpoints.layout import Layout
from mindgeex.model_zoo.checkpoints.names import MOMENTS, Row, moment_rows
from mindgeex.model_zoo.checkpoints.report import REPORT_FILE, Cast, Report, TensorRecord
from mindgeex.model_zoo.checkpoints.reshard import Piece, shards, split
from mindgeex.model_zoo.checkpoints.sidecars import copy_tokenizer, write_layout, write_sizes
from mindgeex.model_zoo.checkpoints.source import Source, open_source
from mindgeex.model_zoo.checkpoints.target import (
    check_target,
    containers,
    has_rank_folders,
    is_file,
    open_files,
    sole_conversion,
)
from mindgeex.model_zoo.checkpoints.tensors import FLOATS, TensorRef, TensorSpec
from mindgeex.model_zoo.config import ModelConfig

KEEP = "keep"


@dataclass(frozen=True)
class ConvertOptions:
    """How to convert; the defaults find out what can be found out and change no value."""

    from_format: str = ""
    """Format of the input; empty: as its files tell."""
    from_layout: Layout | None = None
    """Layout of the input's rank folders; None: as layout.json tells."""
    model: str = ""
    """A shipped model's name or a YAML file with sizes; empty: as the input tells."""
    layout: Layout = Layout()
    """Ranks to write; of one rank: a checkpoint in one piece."""
    dtype: str = KEEP
    """float32, float16, bfloat16, or keep."""
    fused_qkv: bool = False
    """codegeex-torch, megatron: one tensor for queries, keys and values."""
    moments: bool = False
    """Also Adam's moments, and MindSpore's step counters."""
    shard_bytes: int = SHARD_BYTES
    """safetensors: a file takes at most so many bytes."""
    overwrite: bool = False
    """Replace what is at the target."""

    def __post_init__(self) -> None:
        if self.dtype != KEEP and self.dtype not in FLOATS:
            raise UserError(f"dtype is {self.dtype!r}: choose {', '.join(FLOATS)}, or {KEEP}")
        if self.shard_bytes < 1:
            raise UserError(f"shard_bytes is {self.shard_bytes}: it must be at least 1")


def convert(source: Path, target: Path, to_format: str, options: ConvertOptions | None = None) -> Report:
    """Converts a checkpoint and publishes it with its report (conversion.json in the folder, or beside the file).

    Args:
        source: a file or folder of any format that can be read.
        target: a path that does not exist yet. A name that ends in .ckpt or .pt makes one file of the formats that
            have such, any other a folder.
        to_format: name of the format to write.
        options: how.

    Raises:
        UserError: the input is not whole or does not fit the model, format or layout; the target exists, or another
            process writes it; the disk is full. Nothing is published then.
    """
    options = options or ConvertOptions()
    form = format_named(to_format)
    form = fused(form) if options.fused_qkv else form
    if form.container == "mindir" and options.dtype not in (KEEP, "float32"):
        raise UserError(f"dtype is {options.dtype!r}: mindir is exported in float32: leave --dtype out")
    check_target(source, target, form, options.layout, options.moments, options.overwrite)
    opened = open_source(source, options.from_format, options.from_layout, options.model, options.moments)
    with sole_conversion(target, options.overwrite):
        if form.container == "mindir":
            return _export(opened, target, form, options.dtype)
        return _write(opened, target, form, options)


def _export(source: Source, target: Path, form: Format, dtype: str) -> Report:
    """The graph for MindSpore Lite, in a folder."""
    from mindgeex.model_zoo.checkpoints.mindir import export_mindir

    with atomic_folder(target) as folder:
        report = export_mindir(source, target, folder, form)
        notes = write_sizes(folder, source.config, form, dtype) + copy_tokenizer(source, form, folder)
        files = sum(path.is_file() for path in folder.rglob("*")) + 1
        report = replace(report, files=files, notes=(*report.notes, *notes))
        write_json(folder / REPORT_FILE, report.as_tree())
    return report


def _write(source: Source, target: Path, form: Format, options: ConvertOptions) -> Report:
    """A file with its report beside it, or a folder with its report in it."""
    conversion = _Conversion(source, form, target, options)
    if conversion.is_file:
        with atomic_file(target) as partial:
            report = conversion.run(partial)
        write_json(target.with_name(f"{target.name}.{REPORT_FILE}"), report.as_tree())
    else:
        with atomic_folder(target) as partial:
            report = conversion.run(partial)
            write_json(partial / REPORT_FILE, report.as_tree())
    return report


class _Conversion:
    """One conversion: what is written, and how far it is."""

    def __init__(self, source: Source, form: Format, target: Path, options: ConvertOptions):
        self.source, self.form, self.target, self.options = source, form, target, options
        self.config: ModelConfig = source.config
        self.layout = options.layout
        self.is_file = is_file(target, form, options.layout)
        self.rows = form.rows(self.config)
        self.rows += moment_rows(self.rows) if options.moments else []
        self.tensors: dict[str, TensorRef] = source.tensors()
        self.stored_as = {name: row.stored for row in source.rows for name in row.ours}
        self.state = source.state if options.moments and form.container == "mindspore" else {}
        self.cuts = {row.stored: shards(row, self.config, self.layout, form.dims) for row in self.rows}
        self.tallies: dict[str, CastTally] = {}
        self.digests: dict[str, list[str]] = defaultdict(list)
        self.start = time.monotonic()

    def run(self, place: Path) -> Report:
        """Writes everything to `place`, which is not published yet, reads it back and reports."""
        paths = containers(place, self.form, self.layout, self.is_file)
        with open_files(self.layout.ranks):
            self._write(paths)
        self._verify(paths)
        dtypes = [self._dtype(row) for row in self.rows]
        notes = [*self.source.notes]
        heads, mp = self.config.num_heads, self.layout.mp
        if heads % mp:
            notes.append(
                f"num_heads={heads} is not divisible by mp={mp}: networks that split attention by heads, as CodeGeeX's "
                "do, cannot load these files"
            )
        if self.is_file:
            notes.append("one file does not say the model's sizes: give --model when it is read")
        else:
            common = max(set(dtypes), key=dtypes.count)
            notes += write_sizes(place, self.config, self.form, str(common))
            notes += copy_tokenizer(self.source, self.form, place)
        if has_rank_folders(self.form, self.layout):
            write_layout(place, self.form, self.layout)
        return self._report(notes, place)

    def _dtype(self, row: Row) -> np.dtype:
        """The type in which a row is stored. Moments keep theirs."""
        found = [self.tensors[name].dtype for name in row.ours]
        if self.options.dtype != KEEP and not row.stored.startswith(MOMENTS):
            return FLOATS[self.options.dtype]
        if any(dtype != found[0] for dtype in found):
            kinds = ", ".join(f"{name} {self.tensors[name].dtype}" for name in row.ours)
            raise UserError(f"{row.stored} would hold tensors of different types ({kinds}): give --dtype")
        return found[0]

    def _write(self, paths: Mapping[int, Path]) -> None:
        specs: dict[int, dict[str, TensorSpec]] = {rank: {} for rank in paths}
        for row in self.rows:
            found, shape = self.cuts[row.stored]
            spec = TensorSpec(shape, self._dtype(row))
            for piece in found:
                for rank in piece.holders:
                    specs[rank][row.stored] = spec
        for per_rank in specs.values():
            per_rank |= {name: tensor.spec for name, tensor in self.state.items()}
        with contextlib.ExitStack() as stack, progress("converting", len(self.rows)) as bar:
            writers = {
                rank: stack.enter_context(open_writer(self.form.container, path, specs[rank], self.options.shard_bytes))
                for rank, path in paths.items()
            }
            for row in self.rows:
                for piece, array in self._pieces(row):
                    self.digests[row.stored].append(_sha256(array))
                    for rank in piece.holders:
                        writers[rank](row.stored, array)
                bar.advance()
            for name, tensor in self.state.items():
                for write in writers.values():
                    write(name, tensor.read())

    def _pieces(self, row: Row) -> Iterator[tuple[Piece, np.ndarray]]:
        """Reads and casts what a row holds; gives it in pieces."""
        found, _ = self.cuts[row.stored]
        return split(row, [self._cast(name, self._dtype(row)) for name in row.ours], self.config, found, self.form.dims)

    def _cast(self, name: str, dtype: np.dtype) -> np.ndarray:
        array, tally = cast(self.tensors[name].read(), dtype)
        self.tallies[name] = tally
        return array

    def _verify(self, paths: Mapping[int, Path]) -> None:
        """Reads back what was written.

        Raises:
            UserError: it is not what was written.
        """
        with progress("reading back", len(paths) * len(self.rows)) as bar:
            for rank, path in paths.items():
                tensors = read_tensors(self.form.container, path)
                for row in self.rows:
                    found, _ = self.cuts[row.stored]
                    number = next(n for n, piece in enumerate(found) if rank in piece.holders)
                    tensor = tensors.pop(row.stored, None)
                    if tensor is None or _sha256(tensor.read()) != self.digests[row.stored][number]:
                        raise UserError(
                            f"{self.target}: {row.stored} reads back otherwise than it was written: "
                            "check the disk and convert again"
                        )
                    bar.advance()

    def _report(self, notes: Sequence[str], place: Path) -> Report:
        records = []
        for row in self.rows:
            found, shape = self.cuts[row.stored]
            whole = row.packed_shape(self.tensors[row.ours[0]].shape)
            source = tuple(dict.fromkeys(self.stored_as[name] for name in row.ours))
            digests = tuple(self.digests[row.stored])
            dtype = str(self._dtype(row))
            records.append(TensorRecord(row.ours, source, row.stored, whole, dtype, len(found), digests))
        sizes = [int(np.prod(record.shape)) for record in records]
        return Report(
            source=str(self.source.path),
            target=str(self.target),
            from_format=self.source.form.name,
            to_format=self.form.name,
            from_layout=str(self.source.ranks.layout),
            to_layout=str(self.layout),
            dtype=self.options.dtype,
            files=1 if self.is_file else sum(path.is_file() for path in place.rglob("*")) + 1,
            values=sum(sizes),
            bytes=sum(size * self._dtype(row).itemsize for size, row in zip(sizes, self.rows, strict=True)),
            seconds=time.monotonic() - self.start,
            tensors=tuple(records),
            casts=tuple(
                Cast(name, tally.overflowed, tally.flushed)
                for name, tally in self.tallies.items()
                if tally.overflowed or tally.flushed
            ),
            dropped=self.source.dropped(kept=len(self.state)),
            absent_ranks=tuple(self.source.ranks.absent),
            notes=tuple(notes),
        )


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(byte_view(array)).hexdigest()
