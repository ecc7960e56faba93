"""Finding near-copies beside datasketch, on one core, from texts to pairs of at least 0.85 similarity.

    python -m tests.benchmarks.dedup

The texts are files of this Python's standard library and packages, and a copy of each with some lines changed. Both
libraries get 120 MinHash values in 20 bands of 6 over the same spans of five words, in the same process, in turns, and
must find the same share of the similar pairs. datasketch is timed from the text, as its users call it, and from the
spans that `shingles` has hashed already.
"""

import random
import re
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from mindgeex.data.dedup import (
    BAND_VALUES,
    BANDS,
    SHINGLE_WORDS,
    band_keys,
    candidate_groups,
    digest,
    jaccard,
    near_duplicates,
    shingles,
)
from tests.benchmarks.tokenizer import library_texts, seconds
from tests.data.test_dedup import new_lines

ROUNDS = 5
TEXT_BYTES = 3_000_000
GROUP = 20_000
WORD = re.compile(r"\w+")


def main() -> None:
    """Prints rates, ratios and recall."""
    rng = random.Random(1)
    originals = [text for text in library_texts(TEXT_BYTES) if 1000 < len(text) < 100_000]
    texts = [*originals, *(new_lines(text, rng.choice([0, 0.01, 0.02, 0.03]), rng) for text in originals)]
    size_mb = sum(len(text.encode()) for text in texts) / 1e6
    check_recall(texts, len(originals))
    rows = list(map(shingles, texts))
    rounds = [
        (seconds(band_keys, texts), seconds(sketch_text, texts), seconds_of_rows(sketch_spans, rows))
        for _ in range(ROUNDS)
    ]
    ours, from_text, from_spans = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"{len(texts)} documents, {size_mb:.1f} MB, {BANDS} bands of {BAND_VALUES}, one core, {ROUNDS} rounds")
    print(f"{'mindgeex digest':<28} {size_mb / seconds(digest, texts):7.2f} MB/s")
    print(f"{'mindgeex shingles':<28} {size_mb / seconds(shingles, texts):7.2f} MB/s")
    print(f"{'mindgeex band_keys':<28} {size_mb / ours:7.2f} MB/s")
    for name, column, peer in (("from text", 1, from_text), ("from our spans", 2, from_spans)):
        ratios = sorted(row[column] / row[0] for row in rounds)
        print(f"{'datasketch ' + name:<28} {size_mb / peer:7.2f} MB/s")
        print(f"{'ratio':<28} {statistics.median(ratios):7.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")
    large_groups()


def sketch_text(text: str):
    """datasketch's MinHash of a text, the way its documentation shows."""
    import datasketch

    words = WORD.findall(text.lower())
    size = min(SHINGLE_WORDS, max(1, len(words)))
    spans = {" ".join(words[at : at + size]).encode("utf-8", "surrogatepass") for at in range(len(words) - size + 1)}
    sketch = datasketch.MinHash(BANDS * BAND_VALUES)
    sketch.update_batch(spans)
    return sketch


def sketch_spans(row: np.ndarray):
    """datasketch's MinHash of hashes."""
    import datasketch

    sketch = datasketch.MinHash(BANDS * BAND_VALUES, hashfunc=_low_bits)
    sketch.update_batch(row.tolist())
    return sketch


def _low_bits(value: int) -> int:
    return value & 0xFFFFFFFF


def seconds_of_rows(sketch: Callable[[np.ndarray], object], rows: Sequence[np.ndarray]) -> float:
    """Processor time of sketching every row."""
    started = time.process_time()
    for row in rows:
        sketch(row)
    return time.process_time() - started


def check_recall(texts: Sequence[str], num_originals: int) -> None:
    """Prints which share of the pairs of a text and its copy that are similar each library has as candidates."""
    import datasketch

    pairs = [(number, number + num_originals) for number in range(num_originals)]
    rows = list(map(shingles, texts))
    true = {pair for pair in pairs if jaccard(rows[pair[0]], rows[pair[1]]) >= 0.85}
    keys = np.array([band_keys(text) for text in texts])
    ours = sum(bool((keys[a] == keys[b]).any()) for a, b in true)
    index = datasketch.MinHashLSH(num_perm=BANDS * BAND_VALUES, params=(BANDS, BAND_VALUES))
    sketches = list(map(sketch_text, texts))
    for number in range(num_originals):
        index.insert(number, sketches[number])
    theirs = sum(a in index.query(sketches[b]) for a, b in true)
    print(
        f"{len(true)} similar pairs; found as candidates: {ours / len(true):.4f}, datasketch {theirs / len(true):.4f}"
    )


def large_groups() -> None:
    """Times the comparison of groups in which all share a key: copies of one text, and texts that are not alike."""
    rng = random.Random(2)
    base = [f"w{rng.randrange(3000)}" for _ in range(800)]
    for name in ("near-copies", "unlike texts"):
        texts = []
        for _ in range(GROUP):
            words = list(base) if name == "near-copies" else [f"w{rng.randrange(3000)}" for _ in base]
            words[rng.randrange(len(words))] = f"x{rng.randrange(10**9)}"
            texts.append(" ".join(words))
        keys = np.array([band_keys(text) for text in texts])
        keys[:, 0] = 0
        started = time.process_time()
        (group,) = candidate_groups(keys.T)
        grouped = time.process_time()
        num_dropped = len(near_duplicates(group.tolist(), keys, texts.__getitem__))
        compared = time.process_time() - grouped
        print(f"{GROUP} {name}: group {grouped - started:.2f} s, compare {compared:.2f} s, {num_dropped} dropped")


if __name__ == "__main__":
    main()
