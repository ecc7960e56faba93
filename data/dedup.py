"""Which texts are copies: equal ones by a digest, similar ones by MinHash and an exact Jaccard similarity.

A text is the set of its spans of five words (spans.py). Band keys of 120 MinHash values in 20 bands of 6 tell which
texts may be similar (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4): two of Jaccard similarity s
share a key with probability 1 - (1 - s^6)^20, which is 0.99992 at 0.85, 0.61 at 0.6 and 0.005 at 0.25. Candidates are
then compared exactly, so nothing is dropped by chance.

Covers: copies with another name, header, line ends, blanks, comments, or some other words.
Does not cover: copies with all names changed (decontaminate.py finds those of benchmarks); pieces of larger files.
"""

import collections
import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.data import spans

SHINGLE_WORDS = 5
BANDS = 20
BAND_VALUES = 6
SEED = 1
"""Of the MinHash permutations; a part of the format of earlier corpora's keys."""

MAX_COMPARISONS = 64
"""Kept texts that one is compared with at the most: those that share most band keys with it."""

MAX_KEPT_PER_KEY = 64
"""Kept texts a band key leads to at the most: the best ones by priority. Both limits keep a group of texts that share
a key and nothing else linear; texts that are similar share many keys."""

CACHED_TEXTS = 2048
"""Shingle sets of kept texts that stay in memory while a group is compared."""


@dataclass(frozen=True)
class DedupRules:
    """Which copies are dropped."""

    exact: bool = True
    """Equal texts, but for line ends, blanks at line ends, and blank lines at the beginning and end."""

    near: bool = True
    """Texts whose sets of five-word spans are similar."""

    similarity: float = 0.85
    """Smallest Jaccard similarity of near copies. The bands are made for 0.85; far below it, some are missed."""

    def __post_init__(self) -> None:
        if not 0 < self.similarity <= 1:
            raise UserError(f"dedup.similarity={self.similarity}: must be above 0 and at most 1")


@dataclass(frozen=True)
class Duplicate:
    """A near copy."""

    dropped: int
    kept: int
    similarity: float


def digest(text: str) -> bytes:
    """16 bytes of the text without line ends' kind, blanks at line ends, and blank lines at the beginning and end."""
    lines = "\n".join([line.rstrip() for line in text.splitlines()]).strip("\n")
    return hashlib.blake2b(lines.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def shingles(text: str) -> np.ndarray:
    """The set of a text's spans of five words (of all its words, if there are fewer), sorted uint64 hashes."""
    hashes, _, _ = spans.tokens(text.encode("utf-8", "surrogatepass"))
    if not len(hashes):
        return np.zeros(1, np.uint64)
    return np.unique(spans.windows(hashes, min(SHINGLE_WORDS, len(hashes))))


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """|A and B| / |A or B| of two sets as `shingles` gives them."""
    small, large = sorted((a, b), key=len)
    shared = int(spans.is_in(small, large).sum())
    return shared / (len(a) + len(b) - shared)


def band_keys(text: str) -> np.ndarray:
    """MinHash band keys of a text, uint64 [BANDS]; similar texts share at least one."""
    import rensa

    found = shingles(text)
    ends = np.array([0, len(found)], np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(found, ends, BANDS * BAND_VALUES, SEED)
    values = np.array(matrix.to_rows()[0], np.uint64).reshape(BANDS, BAND_VALUES)
    return np.array([spans.windows(values[band], BAND_VALUES)[0] for band in range(BANDS)])


def exact_duplicates(digests: np.ndarray, priority: np.ndarray) -> np.ndarray:
    """For each document the number of the one that is kept of those equal to it; itself, if it is that one.

    Args:
        digests: uint64 [N, 2], of `digest`.
        priority: int64 [N]; the lowest is kept, of equal ones the first.

    Returns:
        int64 [N].
    """
    order = np.lexsort((np.arange(len(digests)), priority, digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    kept = np.empty(len(order), np.int64)
    kept[order] = order[np.flatnonzero(is_first)[np.cumsum(is_first) - 1]] if len(order) else order
    return kept


def candidate_groups(columns: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Documents that are connected by shared band keys; those that share none are left out.

    Args:
        columns: uint64 [N], the keys of one band each; one is in memory at a time.

    Returns:
        int64 arrays of document numbers, ascending; the groups in the order of their first members.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    label = np.zeros(0, np.int64)
    for column in columns:
        if not len(label):
            label = np.arange(len(column))
        order = np.argsort(column, kind="stable")
        same = column[order[1:]] == column[order[:-1]]
        one, other = label[order[:-1][same]], label[order[1:][same]]
        if len(one):
            size = int(label.max()) + 1
            edges = coo_matrix((np.ones(len(one), np.int8), (one, other)), shape=(size, size))
            label = connected_components(edges, directed=False)[1].astype(np.int64)[label]
    order = np.argsort(label, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(label[order])) + 1) if len(order) else []
    return sorted((group for group in groups if len(group) > 1), key=lambda group: int(group[0]))


def near_duplicates(
    group: Sequence[int], keys: np.ndarray, text: Callable[[int], str], similarity: float = 0.85
) -> list[Duplicate]:
    """The members of a group that are like one that is kept.

    Members are looked at in order; each is dropped if one kept before, with which it shares a band key, is at least
    `similarity` like it. So nothing is dropped for being like something that is itself dropped.

    Args:
        group: document numbers, the ones to keep first.
        keys: uint64 [members, BANDS].
        text: a document's text by its number.
        similarity: smallest Jaccard similarity of a copy.
    """
    found: list[Duplicate] = []
    kept_at: dict[tuple[int, int], list[int]] = {}
    sets = functools.lru_cache(CACHED_TEXTS)(lambda place: shingles(text(group[place])))
    for place, number in enumerate(group):
        bands = list(enumerate(keys[place].tolist()))
        shared = collections.Counter(kept for band in bands for kept in kept_at.get(band, ()))
        nearest = sorted(shared, key=lambda kept: (-shared[kept], kept))[:MAX_COMPARISONS]
        copy = None
        if nearest:
            mine = shingles(text(number))
            likeness = ((kept, jaccard(mine, sets(kept))) for kept in sorted(nearest))
            copy = next((Duplicate(number, group[kept], like) for kept, like in likeness if like >= similarity), None)
        if copy:
            found.append(copy)
            continue
        for band in bands:
            members = kept_at.setdefault(band, [])
            if len(members) < MAX_KEPT_PER_KEY:
                members.append(place)
    return found
