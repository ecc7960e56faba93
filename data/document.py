"""What flows through the room: a Document, or a Drop that says why there is none; and both ways to disk.

Covers: documents as Zstandard-compressed JSON lines, in shards of a settable size, with checksums.
Does not cover: parquet, or reading a shard from its middle.
"""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindgeex.common.files import sha256_file

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
    """What the reason alone does not say, in a few words: the value that was too large, the document it is a copy of."""


class DocumentShards:
    """Writes documents to `<prefix>-00000.jsonl.zst`, `<prefix>-00001.jsonl.zst` ... in a folder."""

    def __init__(self, folder: Path, prefix: str, shard_bytes: int):
        self.folder, self.prefix, self.shard_bytes = folder, prefix, shard_bytes
        self.files: list[Path] = []
        self._lines: list[bytes] = []
        self._bytes = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, document: Document) -> None:
        """Appends one document; a shard is written when it holds `shard_bytes` of JSON."""
        line = json.dumps(dataclasses.asdict(document), ensure_ascii=False).encode("utf-8") + b"\n"
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= self.shard_bytes:
            self._flush()

    def close(self) -> list[Path]:
        """Writes what is left.

        Returns:
            The shards, in order.
        """
        if self._lines:
            self._flush()
        return self.files

    def _flush(self) -> None:
        import zstandard

        path = self.folder / f"{self.prefix}-{len(self.files):05d}.jsonl.zst"
        path.write_bytes(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(b"".join(self._lines)))
        self.files.append(path)
        self._lines, self._bytes = [], 0


def read_shard(path: Path) -> Iterator[Document]:
    """The documents of one shard, in order."""
    import zstandard

    with path.open("rb") as file:
        for line in zstandard.ZstdDecompressor().stream_reader(file).readall().split(b"\n"):
            if line:
                yield Document(**json.loads(line))


def file_entry(path: Path, folder: Path) -> dict[str, Any]:
    """What the manifest says about a file: its path below `folder`, bytes and SHA-256."""
    return {
        "file": path.relative_to(folder).as_posix(),
        "bytes": path.stat().st_size,
        "sha256": sha256_file(path),
    }
