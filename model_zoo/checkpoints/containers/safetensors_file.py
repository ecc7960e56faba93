"""safetensors: a JSON header of names, types, shapes and ranges, then the bytes. One file, or shards and an index.

    8 bytes   length of the header, little-endian
    header    {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}, padded with blanks
    data      the ranges, counted from here: each byte belongs to exactly one tensor

Why not the safetensors library: it writes from memory only, whole files at a time, and its numpy side has no bfloat16.
Covers: integers of 8 to 64 bits, floats of 16 to 64 bits, booleans. Does not cover: floats of 8 bits and fewer; the
metadata of free form, which is not kept.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from typing_extensions import Self

from mindgeex.common.errors import UserError
from mindgeex.common.files import read_json
from mindgeex.model_zoo.checkpoints.containers.streams import (
    TensorWriter,
    byte_view,
    checked_spec,
    damaged,
    fill,
    reading,
    shown,
    stored_tensor,
)
from mindgeex.model_zoo.checkpoints.tensors import BFLOAT16, TensorRef, TensorSpec

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": BFLOAT16,
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"), "BOOL": np.dtype("?"),
}  # fmt: skip
CODES = {dtype: code for code, dtype in DTYPES.items()}

METADATA = {"format": "pt"}
"""What transformers asks for before it loads a file: tensors are laid out as PyTorch has them."""

MAX_HEADER_BYTES = 100_000_000
"""The library's own limit."""

STEM = "model"
SHARD_BYTES = 5_000_000_000
"""The usual size of a shard on model hubs."""


def read_safetensors(path: Path) -> dict[str, TensorRef]:
    """The tensors of one file, in the order of its header.

    Raises:
        UserError: the file is missing, truncated or damaged, or has a type that is not covered (named).
    """
    with reading(path), FileIO(path) as file:
        size = path.stat().st_size
        prefix = bytearray(min(8, size))
        fill(path, file, 0, memoryview(prefix))
        if size < 8:
            raise damaged(path, f"{size} bytes; a safetensors file begins with 8 bytes that give its header's length")
        (length,) = struct.unpack("<Q", prefix)
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise damaged(path, f"its header would have {length} bytes, the file has {size}")
        header = bytearray(length)
        fill(path, file, 8, memoryview(header))
    entries = _entries(path, bytes(header))
    _check_ranges(path, entries, size - 8 - length)
    return {
        name: stored_tensor(path, spec, {8 + length + begin: end - begin})
        for name, (spec, begin, end) in entries.items()
    }


def read_safetensors_folder(folder: Path, stem: str = STEM) -> dict[str, TensorRef]:
    """The tensors of `STEM.safetensors`, or of the shards that `STEM.safetensors.index.json` lists.

    Raises:
        UserError: neither is there; a shard is missing or damaged (named); index and shards contradict each other.
    """
    path, index_path = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if path.exists():
        return read_safetensors(path)
    if not index_path.exists():
        raise UserError(f"{folder}: has neither {path.name} nor {index_path.name}: give a folder with one of them")
    index = read_json(index_path)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise damaged(index_path, "it has no weight_map")
    shards: dict[str, dict[str, TensorRef]] = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or Path(shard).name != shard or shard in ("", ".", ".."):
            raise damaged(index_path, f"tensor {name} is said to be in {shard!r}, which names no file of this folder")
        if shard not in shards:
            if not (folder / shard).is_file():
                raise UserError(
                    f"{folder}/{shown(shard)}: missing, though {index_path.name} lists it: copy it there too"
                )
            shards[shard] = read_safetensors(folder / shard)
        if name not in shards[shard]:
            raise UserError(
                f"{folder / shard}: has no tensor {shown(name)}, though {index_path.name} says so: "
                "take index and shards from one source"
            )
    for shard, tensors in shards.items():
        if unlisted := [name for name in tensors if weight_map.get(name) != shard]:
            raise UserError(
                f"{folder / shard}: has tensor {shown(unlisted[0])}, which {index_path.name} does not place there "
                f"({len(unlisted)} of that kind): take index and shards from one source"
            )
    return {name: shards[shard][name] for name, shard in weight_map.items()}


class SafetensorsWriter(TensorWriter):
    """Writes one file. Wider types come first in it, whatever the order of writing, so that all are aligned."""

    def __init__(self, path: Path, specs: Mapping[str, TensorSpec]) -> None:
        self._offsets: dict[str, int] = {}
        header: dict[str, Any] = {"__metadata__": METADATA}
        end = 0
        for name, spec in sorted(specs.items(), key=lambda item: -item[1].dtype.itemsize):
            if name in header:
                raise ValueError(f"{path}: a tensor cannot be named {name}")
            begin, end = end, end + spec.num_bytes
            header[name] = {"dtype": CODES[spec.dtype], "shape": spec.shape, "data_offsets": [begin, end]}
            self._offsets[name] = begin
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        if len(text) > MAX_HEADER_BYTES:
            raise ValueError(f"{path}: the header would have {len(text)} bytes; readers take {MAX_HEADER_BYTES}")
        self._data_start = 8 + len(text)
        super().__init__(path, specs)
        self._append(struct.pack("<Q", len(text)) + text)

    def _store(self, name: str, array: np.ndarray) -> None:
        self._file.seek(self._data_start + self._offsets[name])
        self._append(byte_view(array))


class ShardedSafetensorsWriter:
    """Writes `STEM.safetensors`, or if that passes `shard_bytes`, shards of at most that and an index.

    A tensor larger than `shard_bytes` gets a shard of its own. One shard is open at a time.
    """

    def __init__(self, folder: Path, specs: Mapping[str, TensorSpec], shard_bytes: int = SHARD_BYTES) -> None:
        self._plan = plan_shards(specs, shard_bytes)
        self._folder, self._specs = folder, dict(specs)
        self._shards = iter(self._plan)
        self._left: set[str] = set()
        self._writer: SafetensorsWriter | None = None

    def write(self, name: str, array: np.ndarray) -> None:
        """Writes the next tensor; the order is that of the specs."""
        if not self._left:
            self._close()
            self._open()
        assert self._writer is not None
        self._writer.write(name, array)
        self._left.discard(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            if self._writer is not None:
                self._writer.__exit__(kind, error, traceback)
            return
        self._close()
        if not self._specs:
            self._open()
            self._close()
        if absent := next(self._shards, None):
            raise ValueError(f"{self._folder / absent}: its tensors were announced and never written")
        if len(self._plan) > 1:
            index = {
                "metadata": {"total_size": sum(spec.num_bytes for spec in self._specs.values())},
                "weight_map": {name: shard for shard, names in self._plan.items() for name in names},
            }
            path = self._folder / f"{STEM}.safetensors.index.json"
            path.write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def _open(self) -> None:
        shard = next(self._shards, None)
        if shard is None:
            raise ValueError(f"{self._folder}: every announced tensor is written already")
        names = self._plan[shard]
        self._left = set(names)
        self._writer = SafetensorsWriter(self._folder / shard, {name: self._specs[name] for name in names})

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.__exit__(None, None, None)
            self._writer = None


def plan_shards(specs: Mapping[str, TensorSpec], shard_bytes: int) -> dict[str, list[str]]:
    """File name -> tensors, in order: each shard takes what fits into `shard_bytes`, but at least one tensor."""
    shards: list[list[str]] = [[]]
    used = 0
    for name, spec in specs.items():
        if shards[-1] and used + spec.num_bytes > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += spec.num_bytes
    if len(shards) == 1:
        return {f"{STEM}.safetensors": shards[0]}
    return {f"{STEM}-{i:05d}-of-{len(shards):05d}.safetensors": names for i, names in enumerate(shards, start=1)}


def _entries(path: Path, header: bytes) -> dict[str, tuple[TensorSpec, int, int]]:
    """Name -> spec, begin and end, from the header's text."""
    try:
        tree = json.loads(header.decode("utf-8"), object_pairs_hook=lambda pairs: _unique(path, pairs))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its header is not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise damaged(path, "its header is no JSON object")
    tree.pop("__metadata__", None)
    entries = {}
    for name, entry in tree.items():
        try:
            code, shape, (begin, end) = str(entry["dtype"]), entry["shape"], entry["data_offsets"]
            if code not in DTYPES:
                raise UserError(
                    f"{path}: {shown(f'tensor {name} has type {code}')}; only {', '.join(DTYPES)} can be read"
                )
            spec = checked_spec(shape, DTYPES[code])
        except (TypeError, KeyError, ValueError):
            raise damaged(path, f"the header's entry for tensor {name} is {json.dumps(entry)[:200]}") from None
        if type(begin) is not int or type(end) is not int or end - begin != spec.num_bytes:
            raise damaged(
                path, f"tensor {name}, {code}{shape}, takes {spec.num_bytes} bytes, but its range is {begin}..{end}"
            )
        entries[name] = (spec, begin, end)
    return entries


def _unique(path: Path, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in pairs:
        name.encode()  # half a character is no name: a ValueError
        if name in tree:
            raise damaged(path, f"its header names {name!r} twice")
        tree[name] = value
    return tree


def _check_ranges(path: Path, entries: Mapping[str, tuple[TensorSpec, int, int]], size: int) -> None:
    """Every byte of the data belongs to exactly one tensor."""
    place = 0
    for name, (_, begin, end) in sorted(entries.items(), key=lambda item: item[1][1:]):
        if begin != place:
            what = "overlaps what stands before it" if begin < place else f"leaves a gap of {begin - place} bytes"
            raise damaged(path, f"tensor {name} at {begin}..{end} {what}")
        place = end
        if end > size:
            raise damaged(path, f"tensor {name} at {begin}..{end} lies beyond the {size} bytes of data")
    if place != size:
        raise damaged(path, f"{size - place} bytes belong to no tensor")
