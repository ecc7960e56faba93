"""The members of a zip file: read by range where they are stored as they are, and written one after the other.

Covers: members that are stored as they are or deflated; zip64 (sizes, offsets and counts beyond 32 and 16 bits); the
CRC-32 of members that are read whole. Does not cover: encryption, other compression, compressing when writing.
"""

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.containers.streams import damaged, fill, reading, shown

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END64 = struct.Struct("<4sQ2H2I4Q")
LOCATOR64 = struct.Struct("<4sIQI")
END = struct.Struct("<4s4H2IH")
SEE_64, SEE_64_COUNT = 0xFFFFFFFF, 0xFFFF
"""What the older fields of 32 and 16 bits hold where the number stands in one of 64 bits."""
LIMIT, MANY = SEE_64, SEE_64_COUNT
"""From these on a number does not fit into the older fields."""
FIRST_DAY = 0x21
"""1980-01-01, so that the same tensors give the same bytes."""

BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, EOFError, ValueError, OverflowError)
"""What zipfile raises for bytes that are no zip file."""


@dataclass(frozen=True)
class Member:
    """One file within a zip file."""

    path: Path
    name: str
    size: int
    header_offset: int
    stored: bool
    """Its bytes stand in the zip file as they are."""
    crc: int

    def read_into(self, target: memoryview, begin: int = 0) -> None:
        """Fills `target` with the bytes from `begin` on.

        Raises:
            UserError: the member is shorter, damaged or encrypted.
        """
        if begin + len(target) > self.size:
            raise damaged(self.path, f"member {self.name} has {self.size} bytes, {begin + len(target)} are needed")
        with _zip_errors(self.path):
            self._read_stored(target, begin) if self.stored else self._read_compressed(target, begin)
        if len(target) == self.size and zlib.crc32(target) != self.crc:
            raise damaged(self.path, f"the checksum of member {self.name} differs")

    def _read_stored(self, target: memoryview, begin: int) -> None:
        with FileIO(self.path) as file:
            header = bytearray(LOCAL.size)
            fill(self.path, file, self.header_offset, memoryview(header))
            magic, *_, name_size, extra_size = LOCAL.unpack(header)
            if magic != b"PK\3\4":
                raise damaged(self.path, f"member {self.name} is not where the directory says")
            fill(self.path, file, self.header_offset + LOCAL.size + name_size + extra_size + begin, target)

    def _read_compressed(self, target: memoryview, begin: int) -> None:
        with zipfile.ZipFile(self.path) as archive, archive.open(self.name) as file:
            while begin:
                skipped = len(file.read(min(begin, 1 << 20)))
                if not skipped:
                    raise EOFError(f"member {self.name} ends early")
                begin -= skipped
            done = 0
            while done < len(target):
                piece = file.read(min(len(target) - done, 1 << 20))
                if not piece:
                    raise EOFError(f"member {self.name} ends early")
                target[done : done + len(piece)] = piece
                done += len(piece)


def read_members(path: Path) -> dict[str, Member]:
    """Name -> member, from the directory at the end of the file.

    Raises:
        UserError: no whole zip file, or it names a member twice or has an encrypted one.
    """
    with _zip_errors(path), zipfile.ZipFile(path) as archive:
        entries, file_size = archive.infolist(), path.stat().st_size
    members: dict[str, Member] = {}
    for entry in entries:
        name = entry.filename
        if name in members:
            raise damaged(path, f"it has two members named {name}")
        if entry.flag_bits & 1:
            raise UserError(f"{path}: member {shown(name)} is encrypted: decrypt the file first")
        stored = entry.compress_type == zipfile.ZIP_STORED
        if not stored and entry.compress_type != zipfile.ZIP_DEFLATED:
            raise UserError(f"{path}: member {shown(name)} is compressed by another method than deflate: zip it anew")
        if stored and (entry.file_size != entry.compress_size or entry.header_offset + entry.file_size > file_size):
            raise damaged(path, f"member {name} has {entry.file_size} bytes, of {entry.compress_size} in the file")
        members[name] = Member(path, name, entry.file_size, entry.header_offset, stored, entry.CRC)
    return members


class ZipStream:
    """Writes members one after the other; every member's bytes begin at a multiple of `alignment`."""

    def __init__(self, append: Callable[[bytes | memoryview], None], alignment: int) -> None:
        """`append` writes at the end of the file, which is empty yet."""
        self._append, self._alignment = append, alignment
        self._place = 0
        self._directory: list[bytes] = []

    def add(self, name: str, data: bytes | memoryview) -> None:
        """Writes a member."""
        file_name, size, crc, offset = name.encode(), len(data), zlib.crc32(data), self._place
        large = size >= LIMIT
        extra = struct.pack("<2H2Q", 1, 16, size, size) if large else b""
        padding = -(offset + LOCAL.size + len(file_name) + len(extra) + 4) % self._alignment
        extra += struct.pack("<2s H", b"FB", padding) + bytes(padding)
        short = SEE_64 if large else size
        version = 45 if large or offset >= LIMIT else 20
        self._write(
            LOCAL.pack(b"PK\3\4", version, 0, 0, 0, FIRST_DAY, crc, short, short, len(file_name), len(extra))
            + file_name
            + extra
        )
        self._write(data)
        wide = [size, size] if large else []
        wide += [offset] if offset >= LIMIT else []
        extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        entry = CENTRAL.pack(
            b"PK\1\2", version, version, 0, 0, 0, FIRST_DAY, crc, short, short,
            len(file_name), len(extra), 0, 0, 0, 0, offset if offset < LIMIT else SEE_64,
        )  # fmt: skip
        self._directory.append(entry + file_name + extra)

    def finish(self) -> None:
        """Writes the directory."""
        begin, count, size = self._place, len(self._directory), sum(map(len, self._directory))
        for entry in self._directory:
            self._write(entry)
        if begin >= LIMIT or size >= LIMIT or count >= MANY:
            end = self._place
            self._write(END64.pack(b"PK\6\6", END64.size - 12, 45, 45, 0, 0, count, count, size, begin))
            self._write(LOCATOR64.pack(b"PK\6\7", 0, end, 1))
            count, size, begin = SEE_64_COUNT, SEE_64, SEE_64
        self._write(END.pack(b"PK\5\6", 0, 0, count, count, size, begin, 0))

    def _write(self, data: bytes | memoryview) -> None:
        self._append(data)
        self._place += len(data)


@contextlib.contextmanager
def _zip_errors(path: Path) -> Iterator[None]:
    with reading(path):
        try:
            yield
        except BROKEN as error:
            raise damaged(path, f"{type(error).__name__}: {error}") from None
