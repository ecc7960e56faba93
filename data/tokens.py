"""Documents' tokens on disk: one file a shard of documents, and a store that reads any piece of any document.

A file is int32 throughout: the tokens, one document behind the other without EOD, then each document's length, then
the number of documents. It is written from beginning to end and is whole or absent.

Covers: any number of files, of which a few are mapped at a time; memory does not grow with the corpus unless `lengths`
is asked for (8 bytes a document).
Does not cover: checksums; these files live as long as a build.
"""

import collections
import functools
import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.common.files import atomic_file

OPEN_FILES = 16
"""Files a store keeps mapped."""


def write_tokens(path: Path, documents: Iterable[np.ndarray]) -> np.ndarray:
    """Writes the tokens of some documents as one file, atomically.

    Args:
        path: the file.
        documents: each int32 [tokens], without EOD.

    Returns:
        int64 [documents], their lengths.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    lengths: list[int] = []
    with atomic_file(path) as partial, partial.open("wb") as file:
        for document in documents:
            file.write(np.ascontiguousarray(document, np.int32).data)
            lengths.append(len(document))
        file.write(np.array([*lengths, len(lengths)], np.int32).data)
    return np.array(lengths, np.int64)


class TokenStore:
    """The documents of several files, numbered through all of them in order."""

    def __init__(self, paths: Sequence[Path]):
        """Reads how many documents each file holds.

        Raises:
            UserError: a file is missing or was not written by `write_tokens`.
        """
        self.paths = list(paths)
        self._first = np.cumsum([0, *map(_num_documents, self.paths)])
        self._open: collections.OrderedDict[int, tuple[np.ndarray, np.ndarray]] = collections.OrderedDict()

    def __len__(self) -> int:
        return int(self._first[-1])

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """int64 [documents], tokens of each, without EOD."""
        counts = np.diff(self._first)
        pieces = [_lengths(path, int(count)) for path, count in zip(self.paths, counts, strict=True)]
        return np.concatenate([np.zeros(0, np.int64), *pieces])

    def take(self, document: int, start: int, count: int) -> np.ndarray:
        """`count` tokens of a document from `start`, int32."""
        out = np.empty(count, np.int32)
        first = np.array([[document], [start], [count], [0]], np.int64)
        self.copy(first[0], first[1], first[2], first[3], out)
        return out

    def copy(
        self, document: np.ndarray, start: np.ndarray, count: np.ndarray, place: np.ndarray, out: np.ndarray
    ) -> None:
        """Copies pieces of documents to their places in `out`, file by file.

        Args:
            document: int64 [pieces], which documents.
            start: int64 [pieces], first token of each piece in its document.
            count: int64 [pieces], tokens of each.
            place: int64 [pieces], where each begins in `out`.
            out: int32, one dimension.
        """
        files = np.searchsorted(self._first, document, side="right") - 1
        order = np.argsort(files, kind="stable")
        bounds = np.flatnonzero(np.diff(files[order], prepend=-1, append=len(self.paths)))
        for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
            chosen = order[begin:end]
            file = int(files[chosen[0]])
            tokens, starts = self._file(file)
            sources = starts[document[chosen] - self._first[file]] + start[chosen]
            pieces = zip(sources.tolist(), count[chosen].tolist(), place[chosen].tolist(), strict=True)
            for source, length, target in pieces:
                out[target : target + length] = tokens[source : source + length]

    def _file(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """All of a file, mapped, and where its documents begin."""
        if number not in self._open:
            if len(self._open) >= OPEN_FILES:
                self._open.popitem(last=False)
            with self.paths[number].open("rb") as file:
                content = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.int32)
            lengths = content[len(content) - 1 - int(content[-1]) : -1]
            self._open[number] = (content, np.cumsum(lengths, dtype=np.int64) - lengths)
        self._open.move_to_end(number)
        return self._open[number]


def _num_documents(path: Path) -> int:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 4))
            last = file.read(4)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): build the corpus again") from None
    count = int.from_bytes(last, "little", signed=True)
    if size % 4 or not 0 <= count < size // 4:
        raise UserError(f"{path}: not a whole file of tokens: delete it and build the corpus again")
    return count


def _lengths(path: Path, count: int) -> np.ndarray:
    size = path.stat().st_size // 4
    lengths = np.fromfile(path, np.int32, count, offset=4 * (size - 1 - count)).astype(np.int64)
    if lengths.sum() != size - 1 - count:
        raise UserError(f"{path}: not a whole file of tokens: delete it and build the corpus again")
    return lengths
