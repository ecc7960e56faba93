"""What flows through the room: a Document, or a Drop that says why there is none; and both ways to disk.

Covers: documents as Zstandard-compressed JSON lines, in shards, with checksums.
Does not cover: parquet, or reading a shard from its middle.
"""

import dataclasses
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindgeex.common.files import atomic_file, sha256_file

ZSTD_LEVEL = 3


@dataclass(frozen=True)
class Document:
    """One source file."""

    text: str
    """The file's text, exactly: line ends, tabs and trailing blanks untouched."""

    language: str
    """A key of `languages.TAGS`."""

    repo: str
    """The repository it belongs to; the train/held-out split never divides one."""

    path: str
    """Its path inside the source's root, with forward slashes."""

    licence: str | None = None
    """SPDX identifier, where the source knows it."""

    stars: int | None = None
    """Stars of the repository, where the source knows them."""

    syntax: float | None = None
    """Syntax score, 0 to 1, where the language has a grammar (analysis.py)."""

    cleanliness: float | None = None
    """Cleanliness score, 0 to 1, where the language has a grammar (analysis.py)."""


@dataclass(frozen=True)
class Drop:
    """A file that did not become part of the corpus."""

    reason: str
    """One word, a key of the manifest's `dropped`."""

    repo: str
    path: str
    detail: str = ""
    """What the reason alone does not say, in a few words: the value, the document it is a copy of."""


def to_line(document: Document) -> bytes:
    """The document as one line of JSON, with its line end."""
    return json.dumps(dataclasses.asdict(document), ensure_ascii=False).encode("utf-8") + b"\n"


def from_line(line: bytes) -> Document:
    """What `to_line` wrote."""
    return Document(**json.loads(line))


def write_shard(path: Path, lines: Iterable[bytes]) -> None:
    """Writes lines of `to_line` as one Zstandard file, atomically."""
    import zstandard

    with (
        atomic_file(path) as partial,
        partial.open("wb") as file,
        zstandard.ZstdCompressor(level=ZSTD_LEVEL).stream_writer(file, closefd=False) as stream,
    ):
        for line in lines:
            stream.write(line)


def read_shard(path: Path) -> Iterator[Document]:
    """The documents of one shard, in order."""
    import zstandard

    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        yield from map(from_line, io.BufferedReader(stream, 1 << 20))


def file_entry(path: Path, folder: Path) -> dict[str, Any]:
    """What the manifest says about a file: its path below `folder`, bytes and SHA-256."""
    return {
        "file": path.relative_to(folder).as_posix(),
        "bytes": path.stat().st_size,
        "sha256": sha256_file(path),
    }
