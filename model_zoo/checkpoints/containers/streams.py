"""What every container shares: ranges of bytes become arrays, arrays become bytes, and tensors come in a known order.

Covers: files of any size, read by range and written straight through; nothing is mapped, nothing is buffered. Does not
cover: big-endian machines; a file that another process changes meanwhile, but for tensors that it cuts short.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from typing_extensions import Self

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.tensors import TensorRef, TensorSpec

MAX_DIMENSIONS = 32
"""What numpy can hold."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns the operating system's refusals to read into a UserError that names the path."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): give a file that you may read") from None


def damaged(path: Path, what: str) -> UserError:
    """The error for a file whose bytes contradict its format."""
    return UserError(f"{path}: truncated or damaged ({shown(what)}): copy it anew, or take an earlier checkpoint")


def shown(text: str, limit: int = 300) -> str:
    """Text that a file brought along, fit for one line of a terminal."""
    text = text if text.isprintable() else text.encode("unicode_escape").decode()
    return text if len(text) <= limit else text[:limit] + "..."


def checked_spec(shape: object, dtype: np.dtype[Any]) -> TensorSpec:
    """A spec from a shape that a file claims.

    Raises:
        ValueError: it is no list of at most 32 sizes that are whole numbers from 0 to 2^63 - 1.
    """
    if not isinstance(shape, (list, tuple)) or not all(type(size) is int and 0 <= size < 1 << 63 for size in shape):
        raise ValueError(f"its shape is {shape!r}")
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"its shape has {len(shape)} dimensions; at most {MAX_DIMENSIONS} can be held")
    return TensorSpec(tuple(shape), dtype)


def byte_view(array: np.ndarray) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data


def fill(path: Path, file: FileIO, offset: int, target: memoryview) -> None:
    """Fills `target` with the bytes from `offset` on.

    Raises:
        UserError: the file ends before.
    """
    file.seek(offset)
    done = 0
    while done < len(target):
        count = file.readinto(target[done:])
        if not count:
            raise damaged(path, f"it ends {len(target) - done} bytes early")
        done += count


def stored_tensor(path: Path, spec: TensorSpec, pieces: Mapping[int, int]) -> TensorRef:
    """A tensor whose bytes lie in `path` in pieces: offset in the file -> number of bytes, in order."""

    def read() -> np.ndarray:
        array = np.empty(spec.shape, spec.dtype)
        rest = byte_view(array)
        with reading(path), FileIO(path) as file:
            for offset, size in pieces.items():
                fill(path, file, offset, rest[:size])
                rest = rest[size:]
        return array

    return TensorRef(spec, read)


class TensorWriter(ABC):
    """A file being written: a context manager that takes tensors one at a time, in the order of their specs.

    The file is complete once the block has ended without an error; it is the caller who publishes it atomically.
    Another name, order, shape or type than announced is a mistake in the calling code and raises a ValueError.
    """

    def __init__(self, path: Path, specs: Mapping[str, TensorSpec]) -> None:
        self.path = path
        self._specs = dict(specs)
        self._awaited = iter(self._specs)
        self._file = FileIO(path, "w")

    def write(self, name: str, array: np.ndarray) -> None:
        """Writes the next tensor.

        Raises:
            OSError: as the system does, for example on a full disk.
        """
        awaited = next(self._awaited, None)
        if name != awaited:
            raise ValueError(f"{self.path}: {name!r} was written where {awaited!r} was awaited")
        spec = self._specs[name]
        if array.shape != spec.shape or array.dtype != spec.dtype:
            raise ValueError(
                f"{self.path}: {name} is {array.dtype}{list(array.shape)}, announced was {spec.dtype}{list(spec.shape)}"
            )
        self._store(name, np.ascontiguousarray(array).reshape(spec.shape))

    @abstractmethod
    def _store(self, name: str, array: np.ndarray) -> None:
        """Writes the bytes of a tensor that was announced so."""

    def _complete(self) -> None:  # noqa: B027 (most containers have nothing to add)
        """Writes what stands after the last tensor."""

    def _append(self, data: bytes | memoryview) -> None:
        """Writes all of `data`: a system call may take less."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                if (absent := next(self._awaited, None)) is not None:
                    raise ValueError(f"{self.path}: {absent!r} was announced and never written")
                self._complete()
