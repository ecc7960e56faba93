"""Second stage: which documents of the pool are copies of others, exactly or nearly, within and across sources.

Copies of an earlier corpus's documents always go, the others if the configuration says so. Of equal and similar
documents the one of an earlier corpus stays, else the one from the repository with most stars (a repository whose
stars nobody knows has least), else the first. Exact copies go first; the others are compared where their MinHash bands
meet (dedup.py).

Covers: any number of documents whose columns fit in memory (about 100 bytes each, and 16 for the band at hand).
Does not cover: a pool that is larger than one driver's memory.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindgeex.common.progress import progress
from mindgeex.data.config import BuildConfig
from mindgeex.data.engines import Engine
from mindgeex.data.stages import run_stage
from mindgeex.data.stages.pool import FATES, Picks, Pool
from mindgeex.data.stages.read import band_keys_of

BATCH_DOCUMENTS = 2048
"""Documents of candidate groups that one task compares."""


@dataclass(frozen=True)
class NearTask:
    """Some groups of candidates for one worker."""

    out: Path
    picks: Picks
    ends: np.ndarray
    """int64 [groups], where each group ends in `picks`; a group is in order of priority."""
    settled: np.ndarray
    """int64 [groups], so many of the first of each group are an earlier corpus's."""
    similarity: float
    attempt: int = 0


def deduplicate(pool: Pool, config: BuildConfig, engine: Engine, folder: Path, earlier: int, github: set[int]) -> None:
    """Sets `fate` and `twin` of every document that is a copy.

    Args:
        pool: all documents.
        config: of the build.
        engine: compares candidates.
        folder: for the results of the comparisons.
        earlier: so many of the first sources are earlier corpora.
        github: sources whose repositories must not be in a source before them.
    """
    _drop_repositories_of_earlier_sources(pool, github)
    is_earlier = pool.source < earlier
    order = np.lexsort((np.arange(len(pool)), -pool.columns["stars"], ~is_earlier)) if len(pool) else np.zeros(0, int)
    priority = np.empty(len(pool), np.int64)
    priority[order] = np.arange(len(pool))
    if config.dedup.exact or earlier:
        _exact(pool, priority, is_earlier, config.dedup.exact)
    if config.dedup.near:
        _near(pool, priority, is_earlier, config, engine, folder)


def _drop_repositories_of_earlier_sources(pool: Pool, github: set[int]) -> None:
    first = np.full(len(pool.names["repo"]), np.iinfo(np.int32).max, np.int32)
    np.minimum.at(first, pool.columns["repo"], pool.source)
    late = np.isin(pool.source, sorted(github)) & (first[pool.columns["repo"]] < pool.source)
    pool.fate[late] = FATES.index("in_earlier_source")


def _exact(pool: Pool, priority: np.ndarray, is_earlier: np.ndarray, all_copies: bool) -> None:
    from mindgeex.data.dedup import exact_duplicates

    alive = np.flatnonzero(pool.fate == 0)
    kept = alive[exact_duplicates(pool.columns["digest"][alive], priority[alive])]
    if not all_copies:
        kept = np.where(is_earlier[kept], kept, alive)
    _mark(pool, alive, kept, is_earlier, "duplicate")


def _near(
    pool: Pool, priority: np.ndarray, is_earlier: np.ndarray, config: BuildConfig, engine: Engine, folder: Path
) -> None:
    from mindgeex.data.dedup import BANDS, candidate_groups

    alive = np.flatnonzero(pool.fate == 0)
    with progress("find candidates for near duplicates, bands", BANDS) as bar:

        def columns() -> Iterator[np.ndarray]:
            for band in range(BANDS):
                yield np.concatenate([np.array(band_keys_of(part)[band]) for part in pool.parts])[alive]
                bar.advance()

        groups = [alive[group] for group in candidate_groups(columns())] if len(alive) else []
    folder.mkdir(parents=True, exist_ok=True)
    batches = list(_batches([group[np.argsort(priority[group])] for group in groups]))
    tasks = (
        NearTask(
            folder / f"{number:08d}.npz",
            pool.picks(members),
            ends,
            _counts(is_earlier[members], ends),
            config.dedup.similarity,
        )
        for number, (members, ends) in enumerate(batches)
    )
    sizes = [len(members) for members, _ in batches]
    results = run_stage(engine, compare, tasks, "compare candidates, documents", sum(sizes), sizes.__getitem__)
    for (members, _), (dropped, kept) in zip(batches, results, strict=True):
        _mark(pool, members[dropped], members[kept], is_earlier, "near_duplicate")


def compare(task: NearTask) -> tuple[np.ndarray, np.ndarray]:
    """Compares the texts of candidates, unless that is done.

    Returns:
        int64 [copies] each: the place in `task.picks` of every copy, and of the document it is a copy of.
    """
    from mindgeex.data.dedup import near_duplicates

    if task.out.exists():
        with np.load(task.out) as result:
            return result["dropped"], result["kept"]
    reader, found = task.picks.reader(), []
    bands = reader.bands()
    for start, end, settled in zip([0, *task.ends[:-1]], task.ends, task.settled, strict=True):
        members = range(start, end)
        found += near_duplicates(
            members, bands[start:end], lambda number: reader.document(number).text, task.similarity, settled
        )
    dropped = np.array([copy.dropped for copy in found], np.int64)
    kept = np.array([copy.kept for copy in found], np.int64)
    partial = task.out.with_name(f"{task.out.stem}.partial.npz")
    np.savez(partial, dropped=dropped, kept=kept)
    os.replace(partial, task.out)
    return dropped, kept


def _batches(groups: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Groups together until there are BATCH_DOCUMENTS: their members, and where each group ends."""
    held: list[np.ndarray] = []
    size = 0
    for number, group in enumerate(groups):
        held.append(group)
        size += len(group)
        if size >= BATCH_DOCUMENTS or number == len(groups) - 1:
            yield np.concatenate(held), np.cumsum([len(one) for one in held])
            held, size = [], 0


def _counts(flags: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """How many flags of each group are set, int64 [groups]."""
    return np.diff(np.cumsum(flags)[ends - 1], prepend=0)


def _mark(pool: Pool, documents: np.ndarray, twins: np.ndarray, is_earlier: np.ndarray, fate: str) -> None:
    copies = documents != twins
    documents, twins = documents[copies], twins[copies]
    pool.twin[documents] = twins
    pool.fate[documents] = np.where(is_earlier[twins], FATES.index("in_earlier_corpus"), FATES.index(fate))
