import collections
import itertools
import os
import random
import re
import subprocess
import sys
import sysconfig
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.data import dedup
from mindgeex.data.dedup import (
    BAND_VALUES,
    BANDS,
    DedupRules,
    Duplicate,
    band_keys,
    candidate_groups,
    digest,
    exact_duplicates,
    jaccard,
    near_duplicates,
    shingles,
)

few = settings(max_examples=60, deadline=None)
WORDS = [f"{a}{b}" for a in ("read", "write", "open", "find", "drop") for b in ("er", "_all", "Line", "9", "_")]


def words(count: int, seed: int, vocabulary: int = 3000) -> list[str]:
    rng = random.Random(seed)
    return [f"w{rng.randrange(vocabulary)}" for _ in range(count)]


def changed(original: list[str], count: int, seed: int) -> str:
    """`count` words replaced by new ones."""
    rng = random.Random(seed)
    copy = list(original)
    for place in rng.sample(range(len(copy)), count):
        copy[place] = f"x{rng.randrange(10**9)}"
    return " ".join(copy)


def keys_of(texts: list[str]) -> np.ndarray:
    return np.array([band_keys(text) for text in texts])


def real_files(count: int, seed: int = 5) -> list[str]:
    """Sources of this Python and its packages, of 1 to 30 kB, drawn at random."""
    stdlib, packages = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))
    paths = sorted([*stdlib.glob("*.py"), *stdlib.glob("[a-r]*/*.py"), *packages.glob("numpy/core/include/numpy/*.h")])
    texts = [path.read_text(errors="ignore") for path in paths if 1000 <= path.stat().st_size <= 30_000]
    random.Random(seed).shuffle(texts)
    return texts[:count]


# Exact copies


def test_a_digest_is_blind_to_line_ends_trailing_blanks_and_outer_blank_lines_only() -> None:
    same = ["a\n  b\n", "a \r\n  b\t\r\n\r\n", "\n \n\na\n  b", "a\r  b"]
    assert len({digest(text) for text in same}) == 1
    other = ["a\n  b", "a\n b", "a  b", "a\n\n  b", "A\n  b", " a\n  b", ""]
    assert len({digest(text) for text in other}) == len(other)
    assert {len(digest(text)) for text in [*other, "\ud800"]} == {16}


@few
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(-2, 2)), max_size=30))
def test_of_equal_digests_the_one_with_the_lowest_priority_is_kept_and_of_those_the_first(rows) -> None:
    digests = np.array([row[:2] for row in rows], np.uint64).reshape(-1, 2)
    best = {}
    for number, (*value, priority) in enumerate(rows):
        best.setdefault(tuple(value), []).append((priority, number))
    expected = [min(best[tuple(value)])[1] for *value, _ in rows]
    kept = exact_duplicates(digests, np.array([row[2] for row in rows], np.int64))
    assert kept.tolist() == expected and kept.dtype == np.int64


# Shingles


@few
@given(st.lists(st.sampled_from(WORDS), max_size=40), st.lists(st.sampled_from(WORDS), max_size=40), st.data())
def test_similarity_is_that_of_the_sets_of_five_words(one, other, data) -> None:
    def spans(text: str) -> set[tuple[str, ...]]:
        found = re.findall(r"\w+", text.lower())
        size = max(1, min(5, len(found)))
        return {tuple(found[at : at + size]) for at in range(max(1, len(found) - size + 1))}

    texts = [" ".join(one), data.draw(st.sampled_from(["; ", "\r\n\t", "("])).join([*one[:20], *other])]
    a, b = map(spans, texts)
    assert jaccard(*map(shingles, texts)) == len(a & b) / len(a | b)
    assert [len(shingles(text)) for text in texts] == [len(a), len(b)]


def test_a_shingle_set_is_ascending_without_repetition() -> None:
    found = shingles("a b c d e f g " * 50)
    assert found.dtype == np.uint64 and len(found) == 7
    assert (found[1:] > found[:-1]).all()


def test_texts_with_few_words_or_none_are_like_themselves_alone() -> None:
    texts = ["", "x", "x y", "y x", "x y z t", "+++.>>", "+++.<<", "()", "漢字", "漢字仮名交", "é"]
    similar = [(a, b) for a, b in itertools.combinations(texts, 2) if jaccard(shingles(a), shingles(b)) > 0.5]
    assert similar == []
    assert all(jaccard(shingles(text), shingles(f" {text}\n")) == 1 for text in texts)
    assert keys_of(texts).shape == (len(texts), BANDS)


# Band keys


def test_two_texts_of_similarity_0_85_meet_with_a_probability_of_0_999() -> None:
    assert 1 - (1 - 0.85**BAND_VALUES) ** BANDS >= 0.999


@pytest.mark.parametrize(("num_changed", "similarity"), [(4, 0.95), (13, 0.85), (26, 0.73), (40, 0.63)])
def test_texts_meet_in_as_many_bands_as_their_similarity_says(num_changed: int, similarity: float) -> None:
    base = [words(800, seed) for seed in range(150)]
    pairs = [(" ".join(text), changed(text, num_changed, seed + 500)) for seed, text in enumerate(base)]
    like = np.array([jaccard(shingles(a), shingles(b)) for a, b in pairs])
    shared = np.array([(band_keys(a) == band_keys(b)).sum() for a, b in pairs])
    agree = like**BAND_VALUES
    assert like.mean() == pytest.approx(similarity, abs=0.01)
    assert shared.mean() == pytest.approx(BANDS * agree.mean(), rel=0.1)
    assert (shared > 0).mean() == pytest.approx((1 - (1 - agree) ** BANDS).mean(), abs=0.05)


def test_unlike_texts_do_not_meet() -> None:
    keys = keys_of([" ".join(words(300, seed)) for seed in range(200)])
    assert all(len(np.unique(column)) == len(keys) for column in keys.T)


def test_band_keys_are_the_same_in_every_process_and_release() -> None:
    script = "from mindgeex.data.dedup import band_keys; print(*band_keys('def add(a, b):\\n    return a + b'))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout.split()[0]
        for seed in ("1", "2")
    }  # fmt: skip
    here = band_keys("def add(a, b):\n    return a + b").tolist()
    assert here[:3] == [16420457784922343723, 947369457616552069, 10860420699696745626]
    assert printed == {str(here[0])}


# Candidates


@few
@given(st.integers(1, 4).flatmap(lambda b: st.lists(st.tuples(*[st.integers(0, 12)] * b), max_size=25)))
def test_groups_are_the_connected_components_of_shared_keys(rows) -> None:
    group_of = list(range(len(rows)))
    for (i, a), (j, b) in itertools.combinations(enumerate(rows), 2):
        if any(x == y for x, y in zip(a, b, strict=True)):
            old, new = group_of[j], group_of[i]
            group_of = [new if group == old else group for group in group_of]
    members = collections.defaultdict(list)
    for number, group in enumerate(group_of):
        members[group].append(number)
    expected = sorted(group for group in members.values() if len(group) > 1)
    columns = [np.array(column, np.uint64) for column in zip(*rows, strict=True)]
    assert [group.tolist() for group in candidate_groups(iter(columns))] == expected
    assert [group.tolist() for group in candidate_groups(columns[::-1])] == expected


def test_groups_that_meet_256_times_are_one() -> None:
    first = np.repeat(np.array([0, 1], np.uint64), 256)
    second = np.tile(np.arange(256, dtype=np.uint64), 2)
    assert [len(group) for group in candidate_groups([first, second])] == [512]


def test_links_of_a_popular_key_are_as_many_as_its_documents() -> None:
    keys = np.random.default_rng(1).integers(0, 1 << 63, (3, 200_000), dtype=np.uint64)
    keys[:, 50_000:150_000] = keys[:, :1]
    started = time.process_time()
    tracemalloc.start()
    groups = candidate_groups(keys)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(group) for group in groups] == [100_001]
    assert peak < 150 * keys.shape[1]  # bytes
    assert time.process_time() - started < 5


# Near copies


def reference(texts: list[str], keys: np.ndarray, similarity: float) -> list[Duplicate]:
    kept, found = [], []
    sets = [shingles(text) for text in texts]
    for number in range(len(texts)):
        for other in kept:
            if (keys[number] == keys[other]).any() and (like := jaccard(sets[number], sets[other])) >= similarity:
                found.append(Duplicate(number, other, like))
                break
        else:
            kept.append(number)
    return found


@few
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(0, 9)), max_size=14),
    st.sampled_from([0.5, 0.75, 0.85, 1.0]),
    st.booleans(),
)
def test_the_greedy_result_is_that_of_comparing_all_pairs(recipes, similarity, one_band_is_shared) -> None:
    texts = [changed(words(120, base), count, seed) for base, count, seed in recipes]
    keys = keys_of(texts).reshape(-1, BANDS)
    if one_band_is_shared:
        keys[:, 3] = 7
    found = near_duplicates(range(len(texts)), keys, texts.__getitem__, similarity)
    assert found == reference(texts, keys, similarity)
    dropped = {copy.dropped for copy in found}
    for copy in found:
        assert copy.kept not in dropped and copy.kept < copy.dropped
        assert jaccard(shingles(texts[copy.dropped]), shingles(texts[copy.kept])) == copy.similarity >= similarity


def test_nothing_is_dropped_for_being_like_a_dropped_one() -> None:
    base = words(400, 1)
    chain = [" ".join(base), " ".join([*base[20:], *words(20, 2)]), " ".join([*base[40:], *words(40, 2)])]
    a, b, c = map(shingles, chain)
    assert jaccard(a, b) >= 0.85 and jaccard(b, c) >= 0.85 and jaccard(a, c) < 0.85
    keys = np.zeros((3, BANDS), np.uint64)
    assert near_duplicates([30, 10, 20], keys, dict(zip([30, 10, 20], chain, strict=True)).__getitem__) == [
        Duplicate(10, 30, jaccard(a, b))
    ]
    assert {copy.dropped for copy in near_duplicates([1, 0, 2], keys, chain.__getitem__)} == {0, 2}


@pytest.mark.parametrize("cached", [0, 2_000, 1 << 24])
def test_a_small_cache_changes_the_reads_and_not_the_result(cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "CACHED_SHINGLES", cached)
    texts = [changed(words(300, seed % 9), seed % 25, seed) for seed in range(80)]
    keys = keys_of(texts)
    keys[:, 0] = 1
    assert near_duplicates(range(len(texts)), keys, texts.__getitem__) == reference(texts, keys, 0.85)


@pytest.mark.parametrize(("kind", "num_kept"), [("copies", 1), ("unlike", 2000)])
def test_a_large_group_is_compared_in_linear_time_and_every_text_is_read_once(kind: str, num_kept: int) -> None:
    base = words(200, 0)
    texts = [changed(base, 1, seed) if kind == "copies" else " ".join(words(200, seed)) for seed in range(2000)]
    keys = keys_of(texts)
    keys[:, 0] = 5
    reads = collections.Counter()

    def text(number: int) -> str:
        reads[number] += 1
        return texts[number]

    started = time.process_time()
    found = near_duplicates(range(len(texts)), keys, text)
    assert len(texts) - len(found) == num_kept
    assert set(reads.values()) == {1} and len(reads) == len(texts)
    assert time.process_time() - started < 8  # comparing all pairs of the unlike would take a minute


def test_memory_for_a_group_is_a_few_hundred_bytes_a_document_and_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "CACHED_SHINGLES", 10_000)
    texts = [" ".join(words(500, number)) for number in range(2000)]
    keys = np.random.default_rng(1).integers(0, 1 << 63, (len(texts), BANDS), dtype=np.uint64)
    keys[:, 0] = np.arange(len(texts)) // 8
    tracemalloc.start()
    found = near_duplicates(range(len(texts)), keys, texts.__getitem__)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == []
    assert peak < 600 * len(texts) + 8 * 10_000 + 4_200_000  # the tables of spans.py for its powers have 4.2 MB


# Copies of real files


def new_lines(text: str, share: float, rng: random.Random) -> str:
    """A share of the lines replaced by new ones."""
    lines = text.splitlines()
    for place in rng.sample(range(len(lines)), int(share * len(lines))):
        lines[place] = f"    value_{rng.randrange(10**9)} = call_{rng.randrange(10**9)}({rng.random()})"
    return "\n".join(lines)


def datasketch_pairs(sets: list[np.ndarray], similarity: float) -> set[tuple[int, int]]:
    import datasketch

    index = datasketch.MinHashLSH(threshold=similarity, num_perm=128)
    pairs = set()
    for number, found in enumerate(sets):
        sketch = datasketch.MinHash(128, hashfunc=lambda value: int(value) & 0xFFFFFFFF)
        sketch.update_batch(found.tolist())
        pairs |= {(int(other), number) for other in index.query(sketch)}
        index.insert(number, sketch)
    return pairs


def test_of_real_files_all_similar_pairs_are_candidates_at_least_as_surely_as_with_datasketch() -> None:
    from scipy.sparse import csr_matrix

    rng = random.Random(3)
    originals = real_files(220)
    texts = originals + [new_lines(text, share, rng) for text in originals for share in (0, 0.01, 0.02, 0.04, 0.4)]
    sets = [shingles(text) for text in texts]
    sizes = np.array([len(found) for found in sets])
    _, column = np.unique(np.concatenate(sets), return_inverse=True)
    table = csr_matrix((np.ones(len(column)), column, np.concatenate([[0], np.cumsum(sizes)])))
    shared = (table @ table.T).toarray()
    like = shared / (sizes[:, None] + sizes - shared)
    true = set(zip(*np.nonzero(np.triu(like >= 0.85, 1)), strict=True))
    keys = keys_of(texts)
    met = {pair for pair in true if (keys[pair[0]] == keys[pair[1]]).any()}
    theirs = datasketch_pairs(sets, 0.85) & true
    assert len(true) > 700
    assert len(met) / len(true) >= max(0.995, len(theirs) / len(true))
    edges = [like[i, j] for i, j in true if like[i, j] < 0.9]
    assert len(edges) > 50, "the hard ones are among them"

    copies = []
    for group in candidate_groups(keys.T):
        copies += near_duplicates(group.tolist(), keys[group], texts.__getitem__)
    assert all(like[copy.dropped, copy.kept] == pytest.approx(copy.similarity) for copy in copies)
    assert all(copy.similarity >= 0.85 for copy in copies)
    kept = sorted(set(range(len(texts))) - {copy.dropped for copy in copies})
    left = {(i, j) for i, j in true if i in kept and j in kept}
    assert len(left) <= 0.005 * len(true)


def other_comments(share: float):
    """That share of the comments replaced."""

    def edit(text: str) -> str:
        rng = random.Random(len(text))
        new = r"\1# Something else is said here."
        return re.sub(r"(?m)^(\s*)# .*$", lambda old: old.expand(new) if rng.random() < share else old[0], text)

    return edit


def renamed(num_names: int):
    """That many names, each of which stands three times in the text."""

    def edit(text: str) -> str:
        counts = collections.Counter(re.findall(r"\b[a-z_]{5,}\b", text))
        for name in sorted(name for name, count in counts.items() if count == 3)[:num_names]:
            text = re.sub(rf"\b{name}\b", f"my_{name}", text)
        return text

    return edit


PLANTED = {
    "as it is": (lambda text: text, 1.0),
    "licence header": (
        lambda text: f"# Copyright 2024 Somebody Else\n# Licensed under the MIT licence\n\n{text}", 1.0,
    ),
    "line ends and trailing blanks": (lambda text: text.replace("\n", " \t\r\n"), 1.0),
    "indentation": (lambda text: text.replace("    ", "\t"), 1.0),
    "blank lines and blanks around signs": (lambda text: text.replace("\n", "\n\n").replace(",", " , "), 1.0),
    "upper case": (str.upper, 1.0),
    "a quarter of the comments": (other_comments(0.25), 0.8),
    "all comments": (other_comments(1), 0.3),
    "two names": (renamed(2), 0.9),
    "five names": (renamed(5), 0.6),
}  # fmt: skip
"""Edit, and the share of real files that are still 0.85 similar after it; all of those must be found."""


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_copies_of_real_files_are_found(kind: str) -> None:
    edit, share = PLANTED[kind]
    originals = [text for text in real_files(400, seed=8) if len(text) > 5000][:60]
    num_found = 0
    for pair in ((text, edit(text)) for text in originals):
        found = near_duplicates([0, 1], keys_of(list(pair)), pair.__getitem__)
        assert bool(found) == (jaccard(*map(shingles, pair)) >= 0.85)
        num_found += len(found)
    assert num_found >= share * len(originals)


# Rules


@pytest.mark.parametrize("similarity", [0.0, -0.5, 1.01, float("nan")])
def test_a_similarity_that_is_none_is_refused(similarity: float) -> None:
    with pytest.raises(UserError, match=f"dedup.similarity={similarity}"):
        DedupRules(similarity=similarity)
    assert DedupRules(similarity=1.0).similarity == 1.0
