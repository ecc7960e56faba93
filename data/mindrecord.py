"""A corpus of MindRecord shards back as batches, in an order that can be resumed anywhere; and what is wrong with one.

Rows are read a chunk at a time, shard by shard with MindDataset and a SubsetSampler: about 7,000 rows of 257 tokens,
5,500 of 2,049 a second on one core, and some 10 ms for each shard that a chunk touches. Memory is that of a chunk,
whatever the corpus's size; one MindDataset of all shards would take 13 bytes for every row of the corpus.

Covers: altered, truncated and missing files; the same global order for every number of ranks.
Does not cover: reading ahead in the background.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.common.files import read_json
from mindgeex.common.progress import progress
from mindgeex.data.document import Document, read_shard
from mindgeex.data.order import Order
from mindgeex.data.shards import REMEDY, check_file, count_rows, read_rows, write_shard
from mindgeex.data.tokenizers import Tokenizer, load_tokenizer

__all__ = ["FORMAT", "Check", "Corpus", "Split", "fingerprint", "is_corpus", "read_manifest", "verify", "write_shard"]

FORMAT = "mindgeex-corpus-2"
FIRST_CHUNK_ROWS = 256
CHUNK_BYTES = 1 << 27
"""Rows a reader takes at once: few in the beginning, then twice as many each time up to so many bytes."""

VERIFY_ROWS = 1 << 12
"""Rows that `verify` looks at together."""

HASHED_BYTES = 1 << 30
"""Corpora up to this size are hashed when they are opened; it takes a second or two."""

Split = Literal["train", "heldout"]
Check = Literal["auto", "sizes", "full"]


def is_corpus(folder: Path) -> bool:
    """Whether a manifest says that the folder is a corpus, of this format or another; what it holds is not checked."""
    try:
        manifest = read_json(folder / "manifest.json")
    except UserError:
        return False
    return isinstance(manifest, dict) and str(manifest.get("format")).startswith(FORMAT.rstrip("0123456789"))


def fingerprint(shards: list[dict[str, Any]]) -> str:
    """SHA-256 over the manifest's list of shards, in hexadecimal: equal corpora have equal ones."""
    return hashlib.sha256(json.dumps(shards, sort_keys=True).encode("utf-8")).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a corpus of this format; whether its files are there is not looked at.

    Raises:
        UserError: there is none, or of another format.
    """
    if not (folder / "manifest.json").is_file():
        raise UserError(f"{folder}: no manifest.json, so no complete corpus: make one with `mindgeex data build`")
    manifest = read_json(folder / "manifest.json")
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{folder}/manifest.json: format is not {FORMAT!r}: choose another folder, or build it again")
    return manifest


@dataclass(frozen=True)
class Corpus:
    """A folder that `pipeline.build` made."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path, check: Check = "auto") -> "Corpus":
        """Reads the manifest and checks the files of shards and tokenizer.

        Args:
            folder: the corpus's.
            check: `sizes` looks for each file and its size, and hashes the tokenizer; `full` hashes all; `auto` hashes
                all up to HASHED_BYTES. In any case rows are checked when they are read.

        Raises:
            UserError: no corpus, or a file that is missing or not as it was written, by name.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        try:
            entries = [shard[key] for shard in manifest["shards"] for key in ("index", "checksums")]
            entries += manifest["shards"]
            total = sum(entry["bytes"] for entry in entries)
            hashed = check == "full" or (check == "auto" and total <= HASHED_BYTES)
            for entry in entries:
                check_file(folder, entry, hashed)
            for entry in manifest["tokenizer"]["files"]:
                check_file(folder, entry)
        except (KeyError, TypeError) as error:
            raise UserError(f"{folder}/manifest.json: altered ({error}): {REMEDY}") from None
        return cls(folder, manifest)

    @property
    def seq_length(self) -> int:
        """Tokens of input a row; a row has one more."""
        return int(self.manifest["config"]["seq_length"])

    @property
    def vocab_size(self) -> int:
        """Ids are below this."""
        return int(self.manifest["tokenizer"]["vocab_size"])

    @property
    def eod_id(self) -> int:
        """The id that closes a document and pads."""
        return int(self.manifest["tokenizer"]["eod_id"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the manifest's list of shards."""
        return fingerprint(self.manifest["shards"])

    def tokenizer(self) -> Tokenizer:
        """The tokenizer the corpus was made with."""
        return load_tokenizer(self.folder / "tokenizer")

    def num_rows(self, split: Split) -> int:
        """Rows of a split."""
        return sum(shard["rows"] for shard in self._shards(split))

    def documents(self, split: Split) -> Iterator[Document]:
        """The documents of a split, as text, in the order they were numbered.

        Raises:
            UserError: a file is missing or altered.
        """
        for entry in self.manifest["document_shards"]:
            if entry["split"] == split:
                check_file(self.folder, entry)
                yield from read_shard(self.folder / entry["file"])

    def batches(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        start_row: int = 0,
        rank: int = 0,
        world: int = 1,
        shuffle: bool = True,
        epochs: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Batches of rows for one rank, int32 [batch_size, seq_length + 1].

        The rows of all epochs stand in one global order, which depends on `seed` alone: each epoch is a permutation by
        (seed, epoch), see order.py. A step takes the next `batch_size * world` of them, rank 0 the first `batch_size`.
        So a run may stop after any step and go on with another `world`, from `start_row` = rows seen by all ranks.

        Args:
            split: "train" or "heldout".
            batch_size: rows a rank a step.
            seed: of the order.
            start_row: how many rows of the global order are behind us.
            rank: which of `world` we are.
            world: how many ranks share each step.
            shuffle: False keeps the corpus's own order.
            epochs: stop after so many; the last step is then filled up with rows of EOD, which carry no weight in the
                loss, so that every rank gets as many batches of the same shape. None goes on for ever.

        Raises:
            UserError: the split has no rows, or a file is missing or altered.
        """
        total = self.num_rows(split)
        if total == 0:
            raise UserError(
                f"{self.folder}: split {split!r} has no rows: build with more repositories or another share"
            )
        if not (batch_size > 0 and 0 <= rank < world and start_row >= 0):
            raise ValueError(f"batch_size={batch_size}, rank={rank}, world={world}, start_row={start_row}")
        order = Order(total, seed, shuffle)
        width, end = self.seq_length + 1, None if epochs is None else epochs * total
        position, chunk_rows = start_row, FIRST_CHUNK_ROWS
        while end is None or position < end:
            starts = position + batch_size * (rank + world * np.arange(max(1, chunk_rows // batch_size)))
            starts = starts[: None if end is None else -(-(end - position) // (batch_size * world))]
            slots = (starts[:, None] + np.arange(batch_size)).ravel()
            rows = np.full((len(slots), width), self.eod_id, np.int32)
            inside = slots if end is None else slots[slots < end]
            self._read(split, order.rows(inside), rows)
            yield from rows.reshape(-1, batch_size, width)
            position += len(starts) * batch_size * world
            chunk_rows = min(2 * chunk_rows, CHUNK_BYTES // (4 * width))

    def _read(self, split: Split, numbers: np.ndarray, out: np.ndarray) -> None:
        """Reads the rows of the split with these numbers, shard by shard, into the first places of `out`."""
        shards = list(self._shards(split))
        first = np.cumsum([0, *(shard["rows"] for shard in shards)])
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], first)
        for number, (begin, end) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            if begin < end:
                places = order[begin:end]
                wanted, which = np.unique(numbers[places] - first[number], return_inverse=True)
                out[places] = read_rows(self.folder, shards[number], wanted)[which]

    def _shards(self, split: Split) -> Iterator[dict[str, Any]]:
        return (shard for shard in self.manifest["shards"] if shard["split"] == split)


def verify(folder: Path) -> Iterator[str]:
    """What is wrong with a corpus, problem by problem: every file is hashed, every row and document read.

    Args:
        folder: the corpus's.

    Raises:
        UserError: it has no manifest, or none of this format.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    entries = list(_file_entries(manifest))
    bad = set()
    with progress("verify files, MB", sum(entry["bytes"] for entry in entries) // 1_000_000) as bar:
        for entry in entries:
            try:
                check_file(folder, entry)
            except UserError as error:
                bad.add(entry["file"])
                yield str(error)
            bar.advance(entry["bytes"] // 1_000_000)
    known = {entry["file"] for entry in entries}
    for part in ("shards", "documents", "tokenizer"):
        for path in sorted((folder / part).rglob("*")):
            if path.is_file() and path.relative_to(folder).as_posix() not in known:
                yield f"{path}: not in the manifest: delete it"
    try:
        whole = [s for s in manifest["shards"] if bad.isdisjoint(entry["file"] for entry in _file_entries(s))]
        with progress("verify rows", sum(shard["rows"] for shard in whole)) as bar:
            for shard in whole:
                yield from _verify_rows(folder, shard, manifest["tokenizer"]["vocab_size"])
                bar.advance(shard["rows"])
        yield from _verify_counts(folder, manifest, bad)
    except (KeyError, TypeError) as error:
        yield f"{folder}/manifest.json: altered ({error}): {REMEDY}"


def _file_entries(value: Any) -> Iterator[dict[str, Any]]:
    """Everything in a manifest that tells of a file."""
    if isinstance(value, dict) and {"file", "bytes", "sha256"} <= value.keys():
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _file_entries(inner)


def _verify_rows(folder: Path, shard: dict[str, Any], vocab_size: int) -> Iterator[str]:
    path = folder / shard["file"]
    try:
        if (count := count_rows(folder, shard)) != shard["rows"]:
            yield f"{path}: has {count} rows, the manifest says {shard['rows']}: {REMEDY}"
            return
        for start in range(0, count, VERIFY_ROWS):
            rows = read_rows(folder, shard, np.arange(start, min(count, start + VERIFY_ROWS)))
            outside = (rows < 0) | (rows >= vocab_size)
            if outside.any():
                row, column = np.argwhere(outside)[0]
                yield (
                    f"{path}: row {start + row} holds id {rows[row, column]}, the tokenizer has {vocab_size}: {REMEDY}"
                )
                return
    except UserError as error:
        yield str(error)


def _verify_counts(folder: Path, manifest: dict[str, Any], bad: set[str]) -> Iterator[str]:
    """Rows and documents of each split, as counted here and as the manifest's `splits` has them."""
    for split, counts in manifest["splits"].items():
        rows = sum(shard["rows"] for shard in manifest["shards"] if shard["split"] == split)
        if rows != counts["rows"]:
            yield f"{folder}/manifest.json: splits.{split}.rows={counts['rows']}, its shards have {rows}: {REMEDY}"
        shards = [entry for entry in manifest["document_shards"] if entry["split"] == split]
        if bad.isdisjoint(entry["file"] for entry in shards):
            documents = sum(1 for entry in shards for _ in read_shard(folder / entry["file"]))
            if documents != counts["documents"]:
                yield (
                    f"{folder}/manifest.json: splits.{split}.documents={counts['documents']}, "
                    f"its files hold {documents}: {REMEDY}"
                )
