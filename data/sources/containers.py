"""The members of a tar or zip file, one at a time, nothing written to disk.

Tar is read as a stream, so compression costs no memory; headers are decoded by the standard library, and what may be
large in them is bounded here, which the standard library does not do.

Covers: ustar, GNU and pax names; zip's usual methods. Does not cover: sparse files (named as not a file), archives in
archives, zip files without their directory (nothing is read from one that was cut off).
"""

import io
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mindgeex.common.errors import UserError
from mindgeex.data.sources.streams import Bomb, Corrupt, open_stream

BOMB_RATIO = 250
BOMB_BYTES = 64 << 20
"""An archive that becomes more than this and BOMB_RATIO times its size is not read further."""

_BLOCK = tarfile.BLOCKSIZE
_HEADER_BYTES = 1 << 20
"""Largest extended header (long names, pax records) that is believed."""

_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_WITHOUT_CONTENT = (
    tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
)  # fmt: skip
_LONG_NAME, _LONG_LINK, _PAX = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, (b"x", b"X")


class DamagedMember(Exception):
    """One member cannot be read, the others can."""


@dataclass(frozen=True)
class Member:
    """A file, or something else that is not a folder."""

    name: str
    num_bytes: int
    problem: str | None
    """Why it cannot be read: `not_a_file`, `encrypted`; None for a file."""

    read: Callable[[], bytes]
    """Its bytes; to be called, if at all, before the next member is asked for.

    Raises:
        DamagedMember: they are damaged.
        Corrupt: they are damaged, and so is all that follows.
    """


def members(file: io.BufferedReader, num_bytes: int) -> Iterator[Member]:
    """What a tar or zip file holds, in its own order.

    Args:
        file: at its beginning; a zip file has to be seekable.
        num_bytes: its size, from which a bomb is told; 0 if it is not known, and no bomb either.

    Raises:
        Corrupt: the archive is damaged here; what came before was whole.
        Bomb: it becomes far larger than source code does.
    """
    limit_bytes = BOMB_BYTES + BOMB_RATIO * num_bytes if num_bytes else sys.maxsize
    if file.peek(4)[:2] == b"PK":
        yield from _zip_members(file, limit_bytes)
    else:
        yield from _tar_members(open_stream(file, limit_bytes))


def _tar_members(stream: io.BufferedReader) -> Iterator[Member]:
    longer: dict[str, str] = {}  # what extended headers say about the next member
    first = True
    while True:
        header = _tar_header(stream, first)
        first = False
        if header is None:
            return
        if header.type in (_LONG_NAME, _LONG_LINK, *_PAX, b"g"):
            raw = _read_exactly(stream, header.size, _HEADER_BYTES)
            if header.type == _LONG_NAME:
                longer["path"] = raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
            elif header.type in _PAX:
                longer |= _pax_records(raw)
            continue
        size = _number(longer["size"]) if "size" in longer else header.size
        name = longer.get("path", header.name)
        is_file = header.type in _FILES and not any(key.startswith("GNU.sparse") for key in longer)
        longer = {}
        content = _TarContent(stream, 0 if header.type in _WITHOUT_CONTENT else size)
        if header.type != tarfile.DIRTYPE and not (header.type == tarfile.AREGTYPE and name.endswith("/")):
            yield Member(name, size, None if is_file else "not_a_file", content.read)
        content.skip()


def _tar_header(stream: io.BufferedReader, first: bool) -> tarfile.TarInfo | None:
    """The next header; None behind the last member."""
    block = stream.read(_BLOCK)
    if not block:
        raise Corrupt("empty" if first else "ends without an end mark")
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        if block.count(0) == _BLOCK:
            return None
        raise Corrupt(f"not a tar header: {error}") from None
    except ValueError as error:  # numbers that are none
        raise Corrupt(f"not a tar header: {error}") from None
    if header.size < 0:
        raise Corrupt(f"not a tar header: size {header.size}")
    if header.type == tarfile.GNUTYPE_SPARSE and block[482]:  # its map goes on in further blocks
        while _read_exactly(stream, _BLOCK, _BLOCK)[504]:
            pass
    return header


class _TarContent:
    """The bytes behind a header."""

    def __init__(self, stream: io.BufferedReader, size: int):
        self._stream, self._size, self._left = stream, size, -(-size // _BLOCK) * _BLOCK

    def read(self) -> bytes:
        raw = self._stream.read(self._size)
        self._left -= len(raw)
        if len(raw) < self._size:
            raise Corrupt("ends inside a file")
        return raw

    def skip(self) -> None:
        while self._left:
            block = self._stream.read(min(self._left, 1 << 20))
            if not block:
                raise Corrupt("ends inside a file")
            self._left -= len(block)


def _read_exactly(stream: io.BufferedReader, size: int, limit: int) -> bytes:
    if size > limit:
        raise Corrupt(f"a header of {size} bytes")
    content = _TarContent(stream, size)
    raw = content.read()
    content.skip()
    return raw


def _pax_records(raw: bytes) -> dict[str, str]:
    """Lines of `LENGTH KEY=VALUE`; what does not look so ends them."""
    records: dict[str, str] = {}
    at = 0
    while at < len(raw) and raw[at : at + 1].isdigit():
        space = raw.find(b" ", at, at + 12)
        length = int(raw[at:space]) if space > 0 and raw[at:space].isdigit() else 0
        key, equals, value = raw[space + 1 : at + length].partition(b"=")
        if not equals or at + length > len(raw):
            raise Corrupt("a damaged pax header")
        records[key.decode("utf-8", "replace")] = value.removesuffix(b"\n").decode("utf-8", "surrogateescape")
        at += length
    return records


def _number(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 30):
        raise Corrupt(f"a size of {value[:20]!r}")
    return int(value)


def _zip_members(file: io.BufferedReader, limit_bytes: int) -> Iterator[Member]:
    try:
        archive = zipfile.ZipFile(file)
    except UserError:
        raise
    except Exception as error:  # zipfile raises whatever a damaged directory leads to
        raise Corrupt(_words(error)) from None
    left = limit_bytes
    for info in archive.infolist():
        if info.is_dir():
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        problem = "encrypted" if info.flag_bits & 1 else None
        if kind not in (0, stat.S_IFREG):
            problem = "not_a_file"

        def read(info: zipfile.ZipInfo = info) -> bytes:
            nonlocal left
            try:
                with archive.open(info) as content:
                    raw = content.read(info.file_size + 1)
            except UserError:
                raise
            except Exception as error:
                raise DamagedMember(_words(error)) from None
            left -= len(raw)
            if left < 0:
                raise Bomb(f"more than {limit_bytes >> 20} MiB")
            return raw

        yield Member(info.filename.replace("\\", "/"), info.file_size, problem, read)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ").replace("\n", " ")[:120]
