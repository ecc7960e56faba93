"""All documents that passed the rules, as columns: what the build knows of the whole corpus at once.

About 100 bytes a document stay in memory, whatever the documents' sizes; their texts stay on disk and are read from
there, one Zstandard frame at a time.
"""

import collections
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindgeex.data.document import Document, from_line
from mindgeex.data.stages.read import COLUMNS, band_keys_of, read_about

CACHED_FRAMES = 64
"""Decompressed frames a reader keeps."""

FATES = ("kept", "in_earlier_source", "duplicate", "near_duplicate", "in_earlier_corpus")
"""What became of a document of the pool; `fate` numbers these."""


@dataclass
class Pool:
    """N documents in source order. Made by `load_pool`."""

    parts: list[Path]
    """Parts that hold documents."""

    part: np.ndarray
    """int32 [N], into `parts`."""

    row: np.ndarray
    """int32 [N], the document's number in its part."""

    source: np.ndarray
    """int32 [N], into the build's sources, earlier corpora first."""

    columns: dict[str, np.ndarray]
    """[N] each: `read.COLUMNS` and `digest` [N, 2]; `repo` and `licence` number the lists below."""

    names: dict[str, list[str]]
    """`repo` and `licence`: names over all parts."""

    fate: np.ndarray
    """int8 [N], into FATES."""

    twin: np.ndarray
    """int64 [N], the kept document that a duplicate is a copy of; -1 otherwise."""

    def __len__(self) -> int:
        return len(self.part)

    def reader(self) -> "PoolReader":
        """Reads documents in this process."""
        return PoolReader([str(part) for part in self.parts], self.part, self.row)

    def picks(self, numbers: np.ndarray) -> "Picks":
        """The documents with these numbers, for a worker."""
        used, places = np.unique(self.part[numbers], return_inverse=True)
        return Picks(tuple(str(self.parts[part]) for part in used), places.astype(np.int32), self.row[numbers])


@dataclass(frozen=True)
class Picks:
    """Some documents of the pool; travels to a worker."""

    parts: tuple[str, ...]
    part: np.ndarray
    """int32 [picked], into `parts`."""
    row: np.ndarray
    """int32 [picked]."""

    def reader(self) -> "PoolReader":
        """Reads them."""
        return PoolReader(self.parts, self.part, self.row)


class PoolReader:
    """Documents by number, from the parts' frames; keeps the frames last used."""

    def __init__(self, parts: Sequence[str], part: np.ndarray, row: np.ndarray):
        import zstandard

        self.parts, self.part, self.row = parts, part, row
        self._frames: collections.OrderedDict[tuple[int, int], list[bytes]] = collections.OrderedDict()
        self._tables: collections.OrderedDict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = (
            collections.OrderedDict()
        )
        self._decompressor = zstandard.ZstdDecompressor()

    def line(self, number: int) -> bytes:
        """The document's line of JSON, with its line end."""
        part, row = int(self.part[number]), int(self.row[number])
        frame_of, first, offsets = self._table(part)
        frame = int(frame_of[row])
        return self._lines(part, frame, offsets)[row - int(first[frame])]

    def document(self, number: int) -> Document:
        """The document."""
        return from_line(self.line(number))

    def lines(self, numbers: Iterable[int]) -> Iterator[bytes]:
        """Their lines, in the order asked for."""
        return map(self.line, numbers)

    def bands(self) -> np.ndarray:
        """Band keys of all of this reader's documents, uint64 [N, BANDS]."""
        order = np.argsort(self.part, kind="stable")
        bounds = np.searchsorted(self.part[order], np.arange(1, len(self.parts)))
        pieces = zip(self.parts, np.split(self.row[order], bounds), strict=True)
        found = np.concatenate([band_keys_of(part)[:, rows].T for part, rows in pieces])  # one part is open at a time
        return found[np.argsort(order)]

    def _table(self, part: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frame of each row, first row of each frame, and where frames begin and end in the file."""
        if part not in self._tables:
            with np.load(f"{self.parts[part]}.npz") as columns:
                frame_of, offsets = columns["frame"], columns["offsets"]
            self._tables[part] = (frame_of, np.searchsorted(frame_of, np.arange(len(offsets) - 1)), offsets)
            if len(self._tables) > CACHED_FRAMES:
                self._tables.popitem(last=False)
        return self._tables[part]

    def _lines(self, part: int, frame: int, offsets: np.ndarray) -> list[bytes]:
        key = (part, frame)
        if key in self._frames:
            self._frames.move_to_end(key)
            return self._frames[key]
        with open(f"{self.parts[part]}.docs", "rb") as file:
            file.seek(int(offsets[frame]))
            packed = file.read(int(offsets[frame + 1] - offsets[frame]))
        self._frames[key] = self._decompressor.decompress(packed).splitlines(keepends=True)
        if len(self._frames) > CACHED_FRAMES:
            self._frames.popitem(last=False)
        return self._frames[key]


def load_pool(outs: Sequence[Path], sources: Sequence[int]) -> Pool:
    """The pool of all parts.

    Args:
        outs: `ReadTask.out` of each part, all of them done.
        sources: number of the source each belongs to.
    """
    parts: list[Path] = []
    lists: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    names: dict[str, dict[str, int]] = {"repo": {}, "licence": {}}
    for out, source in zip(outs, sources, strict=True):
        about = read_about(out)
        if about is None:
            raise RuntimeError(f"{out}: not done")
        if not about["kept"]:
            continue
        with np.load(f"{out}.npz") as columns:
            part = {name: columns[name] for name in columns.files if name not in ("offsets", "frame")}
        for name, table in names.items():
            numbers = np.array([table.setdefault(word, len(table)) for word in about[name]], np.int32)
            part[name] = numbers[part[name]]
        for name, column in part.items():
            lists[name].append(column)
        count = about["kept"]
        lists["part"].append(np.full(count, len(parts), np.int32))
        lists["row"].append(np.arange(count, dtype=np.int32))
        lists["source"].append(np.full(count, source, np.int32))
        parts.append(out)
    for name, kind in COLUMNS.items():
        lists[name].append(np.zeros(0, kind))
    for name in ("part", "row", "source"):
        lists[name].append(np.zeros(0, np.int32))
    lists["digest"].append(np.zeros((0, 2), np.uint64))
    columns = {name: np.concatenate(pieces) for name, pieces in lists.items() if name != "frame"}
    total = len(columns["part"])
    return Pool(
        parts,
        columns.pop("part"),
        columns.pop("row"),
        columns.pop("source"),
        columns,
        {name: list(table) for name, table in names.items()},
        np.zeros(total, np.int8),
        np.full(total, -1, np.int64),
    )
