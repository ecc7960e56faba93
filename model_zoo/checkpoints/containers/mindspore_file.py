"""MindSpore's .ckpt files: protobuf messages one after the other, a tensor in each, or a slice of 512 MiB of one.

    Checkpoint { repeated Value value = 1 }
    Value { string tag = 1; TensorProto tensor = 2; MapTensorProto maptensor = 3 }
    TensorProto { repeated int64 dims = 1; string tensor_type = 2; bytes tensor_content = 3 }

Slices of a tensor follow each other under the same tag, each with the dims of the whole. A file saved with `crc_check`
ends in `crc_num` and ten bytes. The protobuf library would hold the whole file in memory, hence its wire format here.
Covers: tensors of integers, booleans and floats in files of any size; a checksum that is there is compared, which reads
the file once more. Does not cover: encrypted files, map tensors and 4-bit integers, all refused; text entries, left
out; a file without checksum that was cut exactly between two tensors, which is a whole file of fewer tensors.
"""

import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.containers.streams import (
    TensorWriter,
    byte_view,
    checked_spec,
    damaged,
    reading,
    shown,
    stored_tensor,
)
from mindgeex.model_zoo.checkpoints.tensors import BFLOAT16, TensorRef, TensorSpec

DTYPES: dict[str, np.dtype[Any]] = {
    "Float64": np.dtype("<f8"), "Float32": np.dtype("<f4"), "Float16": np.dtype("<f2"), "BFloat16": BFLOAT16,
    "Int64": np.dtype("<i8"), "Int32": np.dtype("<i4"), "Int16": np.dtype("<i2"), "Int8": np.dtype("i1"),
    "UInt64": np.dtype("<u8"), "UInt32": np.dtype("<u4"), "UInt16": np.dtype("<u2"), "UInt8": np.dtype("u1"),
    "Bool": np.dtype("?"),
}  # fmt: skip
TYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
TEXT = "str"

SLICE_BYTES = 512 << 20
"""MindSpore's own; protobuf's messages end at 2 GB."""

CRC_MARK = b"crc_num"
CRC_BYTES = len(CRC_MARK) + 10
BLOCK_BYTES = 1 << 20

VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5
"""Wire types: how a field's value is stored."""
MAX_TEXT_BYTES = 1 << 16


def read_mindspore(path: Path) -> dict[str, TensorRef]:
    """The tensors of a .ckpt file, in its order.

    Raises:
        UserError: the file is missing, truncated, damaged or encrypted, or has a type that is not covered (named).
    """
    with reading(path), path.open("rb") as file:
        end = _end_of_messages(path, file)
        entries: dict[str, _Entry] = {}
        last = None
        for name, entry in _entries(path, file, end):
            if name == last:
                entries[name].add(path, name, entry)
            elif name in entries:
                raise damaged(path, f"tensor {name} comes twice, with others in between")
            else:
                entries[name] = entry
            last = name
    if not entries:
        raise damaged(path, "it holds no tensor")
    return {name: entry.tensor(path, name) for name, entry in entries.items() if entry.type_name != TEXT}


@dataclass
class _Entry:
    """A tensor, or what is known of it so far."""

    dims: list[int] = field(default_factory=list)
    type_name: str = ""
    pieces: dict[int, int] = field(default_factory=dict)
    """Offset in the file -> bytes."""

    def add(self, path: Path, name: str, following: "_Entry") -> None:
        """Takes the next slice."""
        if (following.dims, following.type_name) != (self.dims, self.type_name):
            raise damaged(path, f"the slices of tensor {name} differ in shape or type")
        self.pieces |= following.pieces

    def tensor(self, path: Path, name: str) -> TensorRef:
        """The tensor, once all slices are known."""
        if self.type_name not in DTYPES:
            raise UserError(
                f"{path}: {shown(f'tensor {name} has type {self.type_name}')}; only {', '.join(DTYPES)} can be read"
            )
        dtype, size = DTYPES[self.type_name], sum(self.pieces.values())
        scalar = self.dims == [0] and size == dtype.itemsize  # what MindSpore once wrote for a scalar, and reads as one
        try:
            spec = checked_spec([] if scalar else self.dims, dtype)
        except ValueError as error:
            raise damaged(path, f"tensor {name}: {error}") from None
        if spec.num_bytes != size:
            raise damaged(
                path, f"tensor {name}, {self.type_name}{self.dims}, has {size} bytes instead of {spec.num_bytes}"
            )
        return stored_tensor(path, spec, self.pieces)


def _entries(path: Path, file: BinaryIO, end: int) -> Iterator[tuple[str, _Entry]]:
    for number, value in _fields(path, file, 0, end):
        if number != 1 or not isinstance(value, range):
            raise damaged(path, f"it has a field {number} where MindSpore has tensors; or it is encrypted")
        name, entry = None, _Entry()
        for part, content in _fields(path, file, value.start, value.stop):
            match part, content:
                case 1, range():
                    name = _text(path, file, content)
                case 2, range():
                    entry = _tensor_entry(path, file, content)
                case 3, range():
                    raise UserError(f"{path}: {shown(str(name))} is a map tensor: save the checkpoint without it")
                case _:
                    raise damaged(path, f"an entry has the unknown field {part}")
        if name is None:
            raise damaged(path, "an entry has no name")
        yield name, entry


def _tensor_entry(path: Path, file: BinaryIO, place: range) -> _Entry:
    entry = _Entry()
    for number, value in _fields(path, file, place.start, place.stop):
        match number, value:
            case 1, int():
                entry.dims.append(value)
            case 1, range():  # the packed way to write numbers, which protobuf's readers take as well
                while value:
                    size, start = _varint(path, file, value.start, value.stop)
                    entry.dims.append(size)
                    value = range(start, value.stop)
            case 2, range():
                entry.type_name = _text(path, file, value)
            case 3, range():
                entry.pieces = {value.start: len(value)}
            case _:
                raise damaged(path, f"a tensor has the unknown field {number}")
    return entry


def _fields(path: Path, file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, int | range]]:
    """Number and value of each field of a message: the number itself, or where the bytes of the value lie."""
    while begin < end:
        key, begin = _varint(path, file, begin, end)
        number, wire_type = key >> 3, key & 7
        if wire_type == VARINT:
            value, begin = _varint(path, file, begin, end)
            yield number, value
            continue
        if wire_type == LENGTH:
            length, begin = _varint(path, file, begin, end)
        elif wire_type in (EIGHT_BYTES, FOUR_BYTES):
            length = 8 if wire_type == EIGHT_BYTES else 4
        else:
            raise damaged(path, f"no protobuf field begins at byte {begin - 1}; or it is encrypted")
        if begin + length > end:
            raise damaged(path, f"a field of {length} bytes at byte {begin} goes beyond byte {end}; or it is encrypted")
        yield number, range(begin, begin + length)
        begin += length


def _varint(path: Path, file: BinaryIO, begin: int, end: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and where it ends."""
    file.seek(begin)
    value = 0
    for i, byte in enumerate(file.read(min(10, end - begin))):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, begin + i + 1
    raise damaged(path, f"a number at byte {begin} does not end")


def _text(path: Path, file: BinaryIO, place: range) -> str:
    if len(place) > MAX_TEXT_BYTES:
        raise damaged(path, f"a name of {len(place)} bytes")
    file.seek(place.start)
    try:
        return file.read(len(place)).decode("utf-8")
    except UnicodeDecodeError:
        raise damaged(path, f"the name at byte {place.start} is not text") from None


def _end_of_messages(path: Path, file: BinaryIO) -> int:
    """Where the checksum begins if there is one, which is then compared; else the end of the file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - CRC_BYTES))
    tail = file.read(CRC_BYTES)
    if len(tail) < CRC_BYTES or not tail.startswith(CRC_MARK):
        return size
    end, crc = size - CRC_BYTES, 0
    file.seek(0)
    for place in range(0, end, BLOCK_BYTES):
        crc = zlib.crc32(file.read(min(BLOCK_BYTES, end - place)), crc)
    if crc != int.from_bytes(tail[len(CRC_MARK) :], "big"):
        raise damaged(path, "its checksum differs")
    return end


class MindSporeWriter(TensorWriter):
    """Writes a .ckpt file byte for byte as `mindspore.save_checkpoint` does, but for tensors without elements.

    Those MindSpore leaves out; here they have an entry, which MindSpore cannot load.
    """

    def __init__(self, path: Path, specs: Mapping[str, TensorSpec]) -> None:
        if odd := [f"{name}: {spec.dtype}" for name, spec in specs.items() if spec.dtype not in TYPE_NAMES]:
            raise ValueError(f"{path}: MindSpore has no such type: {odd[0]}")
        super().__init__(path, specs)

    def _store(self, name: str, array: np.ndarray) -> None:
        data = byte_view(array)
        front = b"".join(_number(1, size) for size in array.shape) + _bytes_field(2, TYPE_NAMES[array.dtype].encode())
        for begin in range(0, len(data) or 1, SLICE_BYTES):
            piece = data[begin : begin + SLICE_BYTES]
            tensor = front + _prefix(3, len(piece))
            value = _bytes_field(1, name.encode()) + _prefix(2, len(tensor) + len(piece)) + tensor
            self._append(_prefix(1, len(value) + len(piece)) + value)
            self._append(piece)


def _encoded(value: int) -> bytes:
    """A number of seven bits a byte, lowest first."""
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _number(number: int, value: int) -> bytes:
    return _encoded(number << 3 | VARINT) + _encoded(value)


def _prefix(number: int, length: int) -> bytes:
    return _encoded(number << 3 | LENGTH) + _encoded(length)


def _bytes_field(number: int, data: bytes) -> bytes:
    return _prefix(number, len(data)) + data
