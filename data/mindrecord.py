"""Rows -> MindRecord shards with checksums; and a corpus back as batches in an order that can be resumed anywhere.

A shard is a `.mindrecord` file with one column, `input_ids` int32 [seq_length + 1], and its `.db` index. Shards are
read with MindDataset and a SubsetSampler: in random order 9,400 rows of 257 tokens a second on one core. FileReader
gives 17,000 from beginning to end, but can neither shuffle nor start in the middle.

Covers: altered, truncated and missing files; the same global order for every number of ranks.
Does not cover: writing with several processes; corpora whose permutation (8 bytes a row) does not fit in memory.
"""

import errno
import hashlib
import itertools
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.common.files import disk_errors, read_json, sha256_file
from mindgeex.data.document import Document, file_entry, read_shard
from mindgeex.data.tokenizer import Tokenizer, load_tokenizer

FORMAT = "mindgeex-corpus-1"
WRITE_ROWS = 1024
"""Rows handed to MindSpore at a time; part of the format, since a shard's bytes depend on it."""

HEADER_BYTES = 1 << 20
PAGE_BYTES = 1 << 22
"""MindRecord writes whole headers and pages; its own 16 and 32 MB would make the smallest shard 50 MB. A page holds at
least one row, so rows may have a million tokens."""

CHUNK_ROWS = 1 << 16
"""Rows a reader plans ahead; an epoch is read in chunks of this size."""

Split = Literal["train", "heldout"]


def write_shards(blocks: Iterable[np.ndarray], folder: Path, prefix: str, rows_per_shard: int) -> list[dict[str, Any]]:
    """Writes rows to `<prefix>-00000.mindrecord` and so on, in a folder that nobody reads yet.

    Args:
        blocks: int32 [rows, seq_length + 1] each, any number of rows of the same length.
        folder: where; made if absent.
        prefix: the shards' name, also their `split` in the manifest.
        rows_per_shard: rows in every shard but the last.

    Returns:
        The manifest's entries: file, bytes, sha256, split, rows, and the same of the index.

    Raises:
        UserError: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    pieces: list[np.ndarray] = []
    held = 0
    for block in blocks:
        pieces.append(block)
        held += len(block)
        if held >= rows_per_shard:  # joined only then: joining at every block would copy the same rows over and over
            rows = np.concatenate(pieces)
            while len(rows) >= rows_per_shard:
                entries.append(_write_shard(rows[:rows_per_shard], folder, prefix, len(entries)))
                rows = rows[rows_per_shard:]
            pieces, held = [rows], len(rows)
    if held:
        entries.append(_write_shard(np.concatenate(pieces), folder, prefix, len(entries)))
    return entries


def _write_shard(rows: np.ndarray, folder: Path, prefix: str, number: int) -> dict[str, Any]:
    from mindspore.mindrecord import FileWriter

    path = folder / f"{prefix}-{number:05d}.mindrecord"
    try:
        writer = FileWriter(str(path), shard_num=1)
        writer.set_header_size(HEADER_BYTES)
        writer.set_page_size(PAGE_BYTES)
        writer.add_schema({"input_ids": {"type": "int32", "shape": [rows.shape[1]]}}, "rows of tokens")
        for start in range(0, len(rows), WRITE_ROWS):
            writer.write_raw_data([{"input_ids": row} for row in rows[start : start + WRITE_ROWS]])
        writer.commit()
    except RuntimeError as error:  # MindSpore stops so when less than about 10 MB are free
        with disk_errors(folder):
            if "No free disk" in str(error) or shutil.disk_usage(folder).free < rows.nbytes + PAGE_BYTES:
                raise OSError(errno.ENOSPC, str(error)) from error
        raise
    index = path.with_name(path.name + ".db")
    return {
        **file_entry(path, folder.parent),
        "split": prefix,
        "rows": len(rows),
        "index": file_entry(index, folder.parent),
    }


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


@dataclass(frozen=True)
class Corpus:
    """A folder that `pipeline.build` made, checked file by file."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """Reads the manifest and checks size and SHA-256 of every shard, index and tokenizer file.

        Raises:
            UserError: no corpus, or a file that is missing or not as it was written, by name.
        """
        folder = Path(folder)
        if not (folder / "manifest.json").is_file():
            raise UserError(f"{folder}: no manifest.json, so no complete corpus: make one with `mindgeex data build`")
        manifest = read_json(folder / "manifest.json")
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise UserError(f"{folder}/manifest.json: format is not {FORMAT!r}: choose another folder")
        try:
            for shard in manifest["shards"]:
                _check(folder, shard)
                _check(folder, shard["index"])
            for entry in manifest["tokenizer"]["files"]:
                _check(folder, entry)
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{folder}/manifest.json: altered ({error}): build the corpus again with --overwrite"
            ) from None
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
        """The documents of a split, as text, in the order of the rows.

        Raises:
            UserError: a file is missing or altered.
        """
        for entry in self.manifest["document_shards"]:
            if entry["split"] == split:
                _check(self.folder, entry)
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
        Philox(seed, epoch). A step takes the next `batch_size * world` of them, rank 0 the first `batch_size`. So
        a run may stop after any step and go on with another `world`, from `start_row` = rows seen by all ranks.

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
            UserError: the split has no rows.
        """
        total = self.num_rows(split)
        if total == 0:
            raise UserError(
                f"{self.folder}: split {split!r} has no rows: build with more repositories or another share"
            )
        if not (batch_size > 0 and 0 <= rank < world and start_row >= 0):
            raise ValueError(f"batch_size={batch_size}, rank={rank}, world={world}, start_row={start_row}")
        step_rows = batch_size * world
        steps_a_chunk = max(1, min(CHUNK_ROWS, total) // batch_size)
        order = _Order(total, seed, shuffle)
        end = None if epochs is None else epochs * total
        position = start_row
        while end is None or position < end:
            steps = steps_a_chunk if end is None else min(steps_a_chunk, -(-(end - position) // step_rows))
            starts = position + rank * batch_size + step_rows * np.arange(steps)
            slots = (starts[:, None] + np.arange(batch_size)).ravel()
            yield from self._read(split, order, slots, end, batch_size)
            position += steps * step_rows

    def _read(
        self, split: Split, order: "_Order", slots: np.ndarray, end: int | None, batch_size: int
    ) -> Iterator[np.ndarray]:
        """Batches of the rows at `slots` of the global order; slots at or behind `end` give rows of EOD."""
        inside = slots if end is None else slots[slots < end]
        rows = self._rows(split, order.rows(inside))
        for _ in range(len(slots) // batch_size):
            batch = np.full((batch_size, self.seq_length + 1), self.eod_id, np.int32)
            for place, row in enumerate(itertools.islice(rows, batch_size)):
                batch[place] = row
            yield batch

    def _rows(self, split: Split, indices: np.ndarray) -> Iterator[np.ndarray]:
        """The rows with these numbers, in this order; MindDataset takes at most as many at once as there are rows."""
        import mindspore.dataset as dataset

        files = [str(self.folder / shard["file"]) for shard in self._shards(split)]
        total = self.num_rows(split)
        for start in range(0, len(indices), total):
            sampler = dataset.SubsetSampler(indices[start : start + total].tolist())
            rows = dataset.MindDataset(files, columns_list=["input_ids"], num_parallel_workers=1, sampler=sampler)
            for (row,) in rows.create_tuple_iterator(num_epochs=1, output_numpy=True):
                yield row

    def _shards(self, split: Split) -> list[dict[str, Any]]:
        return [shard for shard in self.manifest["shards"] if shard["split"] == split]


class _Order:
    """The global order: slot -> row. Keeps the permutations of the two epochs last asked for."""

    def __init__(self, total: int, seed: int, shuffle: bool):
        self.total, self.seed, self.shuffle = total, seed, shuffle
        self._epochs: dict[int, np.ndarray] = {}

    def rows(self, slots: np.ndarray) -> np.ndarray:
        epochs, places = np.divmod(slots, self.total)
        if not self.shuffle:
            return places
        result = np.empty_like(places)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            result[chosen] = self._permutation(int(epoch))[places[chosen]]
        return result

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            self._epochs = {key: value for key, value in self._epochs.items() if key == epoch - 1}
            generator = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            self._epochs[epoch] = generator.permutation(self.total)
        return self._epochs[epoch]


def _check(folder: Path, entry: dict[str, Any]) -> None:
    path = folder / entry["file"]
    if not path.is_file():
        raise UserError(f"{path}: missing from the corpus: build it again with --overwrite")
    if path.stat().st_size != entry["bytes"]:
        raise UserError(
            f"{path}: has {path.stat().st_size} bytes, the manifest says {entry['bytes']}: truncated or altered; "
            "build the corpus again with --overwrite"
        )
    if sha256_file(path) != entry["sha256"]:
        raise UserError(
            f"{path}: SHA-256 differs from the manifest's: altered; build the corpus again with --overwrite"
        )
