"""Third stage: the documents that stay -> shards of either split, as text.

Covers: whole repositories held out; shards of a settable size, each a task of its own.
Does not cover: the mixture, which is chosen among tokens (rows.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindgeex.data.config import BuildConfig
from mindgeex.data.document import file_entry, write_shard
from mindgeex.data.engines import Engine
from mindgeex.data.split import heldout_repositories
from mindgeex.data.stages import run_stage
from mindgeex.data.stages.pool import Picks, Pool

SPLITS = ("train", "heldout")


@dataclass(frozen=True)
class DocumentsTask:
    """One shard of documents for one worker."""

    out: Path
    picks: Picks
    attempt: int = 0


@dataclass(frozen=True)
class SplitDocuments:
    """The documents of a split."""

    numbers: np.ndarray
    """int64 [documents], their numbers in the pool, in the order of the shards."""

    shards: list[Path]
    entries: list[dict[str, Any]]
    """What the manifest says of each shard."""


def split_documents(pool: Pool, config: BuildConfig, earlier: int) -> dict[str, np.ndarray]:
    """The numbers of the documents that stay, split by a hash of their repositories' names."""
    stays = (pool.fate == 0) & (pool.source >= earlier)
    names = [pool.names["repo"][number] for number in np.unique(pool.columns["repo"][stays])]
    heldout = heldout_repositories(names, config.seed, config.heldout_share)
    is_heldout = np.array([name in heldout for name in pool.names["repo"]], bool)
    held = is_heldout[pool.columns["repo"]] if len(pool) else np.zeros(0, bool)
    return {"train": np.flatnonzero(stays & ~held), "heldout": np.flatnonzero(stays & held)}


def write_documents(
    pool: Pool, splits: dict[str, np.ndarray], folder: Path, config: BuildConfig, engine: Engine
) -> dict[str, SplitDocuments]:
    """Writes the shards of documents below `folder`/documents, those that are not there yet."""
    (folder / "documents").mkdir(exist_ok=True)
    written = {}
    for split, numbers in splits.items():
        pieces = list(_cut(numbers, pool.columns["num_bytes"][numbers], config.document_shard_bytes))
        tasks = [
            DocumentsTask(folder / "documents" / f"{split}-{number:05d}.jsonl.zst", pool.picks(piece))
            for number, piece in enumerate(pieces)
        ]
        entries = list(run_stage(engine, write_one, tasks, f"write {split} documents, shards", len(tasks)))
        written[split] = SplitDocuments(numbers, [task.out for task in tasks], entries)
    return written


def write_one(task: DocumentsTask) -> dict[str, Any]:
    """Writes one shard, unless it is there.

    Returns:
        What the manifest says of it.
    """
    if not task.out.exists():
        reader = task.picks.reader()
        write_shard(task.out, reader.lines(range(len(task.picks.row))))
    return file_entry(task.out, task.out.parent.parent)


def _cut(numbers: np.ndarray, num_bytes: np.ndarray, shard_bytes: int) -> Iterator[np.ndarray]:
    """Runs of documents of about `shard_bytes` of text."""
    shard = (np.cumsum(num_bytes, dtype=np.int64) - 1) // shard_bytes
    starts = np.flatnonzero(np.diff(shard, prepend=-1))
    yield from np.split(numbers, starts[1:]) if len(numbers) else []
