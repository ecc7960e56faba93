"""Which texts are copies: equal ones by a digest, similar ones by MinHash and an exact Jaccard similarity.

A text is the set of its spans of five words (spans.py), as 64-bit hashes: two sets of 20,000 spans share one by
accident once in 5e10 pairs, so their similarity is exact. Band keys of 120 MinHash values in 20 bands of 6 tell which
texts may be similar (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4): a band of two texts of
similarity s agrees with probability s^6, and at least one of 20 with 1 - (1 - s^6)^20, which at 0.85 is
1 - (1 - 0.377)^20 = 0.99992, at 0.6 is 0.61 and at 0.25 is 0.005. Candidates are then compared exactly, so nothing is
dropped by chance.

Covers: copies with another name, header, line ends, indentation, blanks, upper and lower case, some other words.
Does not cover: copies with all names changed (decontaminate.py finds those of benchmarks), or all comments (of Python's
own files, half are less than 0.85 similar then); pieces of larger files.
"""

import collections
import hashlib
import itertools
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

PROBE_SHINGLES = 16
"""Shingles looked up beyond twice as many as may be missing, before two sets are compared in full."""

CACHED_SHINGLES = 1 << 24
"""Shingles of kept texts that stay in memory while a group is compared, 8 bytes each."""


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
    r"""BLAKE2b of the text, 16 bytes, without what does not make it another text.

    Lines end where `str.splitlines` ends them (\n, \r\n, \r, form feeds and their like), whichever it is; blanks at
    their ends (`str.rstrip`), and blank lines before the first and after the last, do not count. All else does.
    """
    lines = "\n".join([line.rstrip() for line in text.splitlines()]).strip("\n")
    return hashlib.blake2b(lines.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def shingles(text: str) -> np.ndarray:
    """The set of a text's spans of five words (of all, if there are fewer; of signs, if there are none).

    Returns:
        uint64 [at least 1], ascending.
    """
    raw = text.encode("utf-8", "surrogatepass")
    hashes = spans.tokens(raw)[0]
    if not len(hashes):
        hashes = spans.tokens(raw, signs=True)[0]
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
    values = np.array(matrix.to_rows()[0], np.uint64)
    return spans.windows(values, BAND_VALUES)[::BAND_VALUES]


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

    Headers and boilerplate link what is not similar: of 28,000 files of Python packages and C headers, 6,300 are one.

    Args:
        columns: uint64 [N], the keys of one band each; one is in memory at a time.

    Returns:
        int64 arrays of document numbers, ascending; the groups in the order of their first members.
    """
    label = np.zeros(0, np.int64)
    for column in columns:
        if not len(label):
            label = np.arange(len(column))
        order = np.argsort(column)
        ordered = column[order]
        same = np.flatnonzero(ordered[1:] == ordered[:-1])
        label = _joined(label, label[order[same]], label[order[same + 1]])
    members = np.flatnonzero(np.bincount(label, minlength=len(label))[label] > 1) if len(label) else label
    members = members[np.argsort(label[members], kind="stable")]
    bounds = np.flatnonzero(np.diff(label[members], prepend=-1, append=-1)).tolist()
    return [members[start:end] for start, end in itertools.pairwise(bounds)]


def _joined(label: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The labels after making one of each two of `one` and `other`; a label is the first document that has it."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    differ = one != other
    if not differ.any():
        return label
    nodes, ends = np.unique(np.concatenate([one[differ], other[differ]]), return_inverse=True)
    ends_2E = ends.reshape(2, -1)
    edges = coo_matrix((np.ones(ends_2E.shape[1]), tuple(ends_2E)), shape=(len(nodes), len(nodes)))
    component = connected_components(edges, directed=False)[1]
    _, first = np.unique(component, return_index=True)
    new = np.arange(len(label))
    new[nodes] = nodes[first[component]]
    return new[label]


def near_duplicates(
    group: Sequence[int], keys: np.ndarray, text: Callable[[int], str], similarity: float = 0.85, settled: int = 0
) -> list[Duplicate]:
    """The members of a group that are like one that is kept.

    Members are looked at in order; each is dropped if one kept before, with which it shares a band key, is at least
    `similarity` like it. So nothing is dropped for being like something that is itself dropped.

    Args:
        group: document numbers, the ones to keep first.
        keys: uint64 [members, BANDS].
        text: a document's text by its number.
        similarity: smallest Jaccard similarity of a copy.
        settled: so many of the first members are kept whatever they are like.
    """
    found: list[Duplicate] = []
    sets = _Sets(lambda place: shingles(text(group[place])))
    kept_with: dict[int, list[int]] = {}
    for place, shared_keys in enumerate(_shared_keys(keys)):
        copy = None
        if place >= settled:
            counts = collections.Counter(itertools.chain.from_iterable(kept_with.get(key, ()) for key in shared_keys))
            nearest = sorted(counts, key=lambda kept: (-counts[kept], kept))[:MAX_COMPARISONS]
            copy = _first_like(place, sorted(nearest), sets, similarity)
        if copy:
            found.append(Duplicate(group[place], group[copy[0]], copy[1]))
            sets.forget(place)
            continue
        for key in shared_keys:
            members = kept_with.setdefault(key, [])
            if len(members) < MAX_KEPT_PER_KEY:
                members.append(place)
    return found


def _shared_keys(keys: np.ndarray) -> Iterable[list[int]]:
    """For each member, numbers of the keys that another member has in the same band."""
    numbers = np.empty(keys.shape, np.int64)
    for band, column in enumerate(keys.T):
        _, number, count = np.unique(column, return_inverse=True, return_counts=True)
        numbers[:, band] = np.where(count[number] > 1, number + band * len(keys), -1)
    return ([key for key in row.tolist() if key >= 0] for row in numbers)


class _Sets:
    """Shingle sets by place, of which the ones used last stay in memory; the sizes of all stay."""

    def __init__(self, make: Callable[[int], np.ndarray]):
        self._make = make
        self._sets: dict[int, np.ndarray] = {}  # the one used last is last
        self._held = 0
        self.sizes: dict[int, int] = {}

    def get(self, place: int) -> np.ndarray:
        found = self._sets.pop(place, None)
        if found is None:
            found = self._make(place)
            self._held += len(found)
            self.sizes[place] = len(found)
        self._sets[place] = found
        while self._held > CACHED_SHINGLES and len(self._sets) > 1:
            self.forget(next(iter(self._sets)))
        return found

    def forget(self, place: int) -> None:
        self._held -= len(self._sets.pop(place, ()))


def _first_like(place: int, candidates: Sequence[int], sets: _Sets, similarity: float) -> tuple[int, float] | None:
    """The first candidate that is at least `similarity` like a member, and how much it is."""
    if not candidates:
        return None
    mine = sets.get(place)
    for kept in candidates:
        size = sets.sizes.get(kept, len(mine))
        if min(size, len(mine)) < similarity * max(size, len(mine)) - 1:
            continue
        theirs = sets.get(kept)
        if _may_be_like(mine, theirs, similarity) and (like := jaccard(mine, theirs)) >= similarity:
            return kept, like
    return None


def _may_be_like(a: np.ndarray, b: np.ndarray, similarity: float) -> bool:
    """False only if so many of the first shingles of one are not in the other that they cannot be similar.

    |A and B| / |A or B| >= s exactly if |A and B| >= s / (1 + s) (|A| + |B|), which limits how many of A B may lack.
    """
    lacking = len(a) - similarity / (1 + similarity) * (len(a) + len(b)) + 1  # 1: rounding never decides
    probe = a[: 2 * max(0, int(lacking)) + PROBE_SHINGLES]
    return len(probe) - int(spans.is_in(probe, b).sum()) <= lacking
