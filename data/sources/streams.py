"""Compressed files as streams, told apart by their first bytes; damage is one exception, whatever the format.

Covers: gzip, bzip2, xz, Zstandard, each of several members or frames; plain files; truncation; bombs.
Does not cover: more than one layer of compression, encryption.
"""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from typing import Any, BinaryIO

from mindgeex.common.errors import UserError

BUFFER_BYTES = 1 << 17
ZSTD_CHUNK_BYTES = 1 << 12
"""Fed at a time: what a bomb can make of it (32,768 times as much, by the format) still fits in memory."""

ZSTD_WINDOW_BYTES = 1 << 31
"""Files written with `zstd --long=31` are read too."""


class Corrupt(Exception):
    """The bytes are not what their format promises; the message says how."""


class Bomb(Corrupt):
    """The bytes become far more than any source code does."""


def open_stream(file: io.BufferedReader, limit_bytes: int | None = None) -> io.BufferedReader:
    """What a file holds, decompressed if it is compressed.

    Args:
        file: at its beginning.
        limit_bytes: reading more than this raises Bomb; None reads on.

    Returns:
        A stream that raises Corrupt where the file is damaged or ends too early, after all that came before.
    """
    head = file.peek(6)
    make = next((make for magic, make in _FORMATS if head.startswith(magic)), _plain)
    return io.BufferedReader(_Guarded(make(file), limit_bytes), BUFFER_BYTES)


def _plain(file: io.BufferedReader) -> Callable[[int], bytes]:
    return file.read1


def _gzip(file: io.BufferedReader) -> Callable[[int], bytes]:
    return gzip.GzipFile(fileobj=file, mode="rb").read1


def _bzip2(file: io.BufferedReader) -> Callable[[int], bytes]:
    return bz2.BZ2File(file, "rb").read1


def _xz(file: io.BufferedReader) -> Callable[[int], bytes]:
    return lzma.LZMAFile(file, "rb").read1


def _zstd(file: io.BufferedReader) -> Callable[[int], bytes]:
    return _Zstd(file).read1


_FORMATS: tuple[tuple[bytes, Callable[[io.BufferedReader], Callable[[int], bytes]]], ...] = (
    (b"\x1f\x8b", _gzip),
    (b"BZh", _bzip2),
    (b"\xfd7zXZ\0", _xz),
    (b"\x28\xb5\x2f\xfd", _zstd),
    *((bytes([number]) + b"\x2a\x4d\x18", _zstd) for number in range(0x50, 0x60)),  # a frame to skip comes first
)


class _Zstd:
    """Frames one behind the other; unlike the library's own reader it notices a frame that is cut off."""

    def __init__(self, file: BinaryIO):
        import zstandard

        self._file = file
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
        self._frame: Any = None
        self._input = b""
        self._output = memoryview(b"")

    def read1(self, size: int) -> bytes:
        while not self._output:
            chunk = self._input or self._file.read(ZSTD_CHUNK_BYTES)
            if not chunk:
                if self._frame is not None:
                    raise EOFError("ends inside a Zstandard frame")
                return b""
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            self._output, self._input = memoryview(self._frame.decompress(chunk)), b""
            if self._frame.eof:
                self._input, self._frame = self._frame.unused_data, None
        block, self._output = bytes(self._output[:size]), self._output[size:]
        return block


class _Guarded(io.RawIOBase):
    """A decompressor's output; what it raises becomes Corrupt, and what is too much, Bomb."""

    def __init__(self, read: Callable[[int], bytes], limit_bytes: int | None):
        self._read, self._limit_bytes, self._position = read, limit_bytes, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._read(len(buffer))
        except UserError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise UserError(f"a source cannot be read: {error}: try again, or leave the file out") from error
            raise Corrupt(f"{str(error) or type(error).__name__}"[:120]) from None
        self._position += len(block)
        if self._limit_bytes is not None and self._position > self._limit_bytes:
            raise Bomb(f"more than {self._limit_bytes >> 20} MiB")
        buffer[: len(block)] = block
        return len(block)
