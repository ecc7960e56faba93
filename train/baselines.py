"""What a compressor and a table of counts reach on the held-out bytes: `xz -9`, and a 5-gram model over tokens.

The 5-gram model is interpolated modified Kneser-Ney (Chen and Goodman 1999, "An Empirical Study of Smoothing Techniques
for Language Modeling", equations of section 3): at each order p(w|h) = max(c - D(c), 0) / c(h) + (sum of D) / c(h)
p(w|h'), with raw counts at the highest order, numbers of different words in front below it, and 1/V at the bottom. It
reads the tokens the model reads: an n-gram does not reach across rows, an end of document is a token like others.

An n-gram is a node: the number of its key (node of its first n-1 tokens) * V + (its last token) in a sorted array, so
that all is numpy sorts and searches: a million tokens take about 0.8 s and 130 MB to train on, 0.5 s to score.

Covers: normalised probabilities after any context, seen or not. Does not cover: counts that do not fit into memory.
"""

# Shapes: R rows, S sequence, M tokens of all rows, G n-grams of one order
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.common.files import read_json, write_json
from mindgeex.data.mindrecord import Corpus
from mindgeex.train.evaluation import HELDOUT_ORDER_SEED, HeldoutRows

BASELINES_FILE = "baselines.json"
ORDER = 5
READ_ROWS = 256


def xz_bits_per_byte(text: bytes) -> float:
    """Compressed bits per byte with `xz -9`."""
    return 8 * len(lzma.compress(text, preset=9)) / len(text)


@dataclass(frozen=True, eq=False)
class _Order:
    """The n-grams of one order that were seen."""

    keys_G: np.ndarray
    """int64, ascending."""
    counts_G: np.ndarray
    """int64: how often, or, below the highest order, behind how many different words; 0 if only at a row's start."""
    discounts: np.ndarray
    """float64 [4]: what is taken from a count of 0, 1, 2, and 3 or more."""
    totals: np.ndarray
    """float64 [contexts]: the sum of the counts behind each context, a node of the order below."""
    shares: np.ndarray
    """float64 [contexts]: the share of a context that was taken from its counts and goes to the order below."""

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The nodes of these keys, -1 for those that were not seen."""
        nodes = np.minimum(np.searchsorted(self.keys_G, keys), len(self.keys_G) - 1)
        return np.where(self.keys_G[nodes] == keys, nodes, -1)


@dataclass(frozen=True, eq=False)
class NGram:
    """A trained model."""

    orders: tuple[_Order, ...]
    """Of 1, 2, ... tokens."""
    vocab_size: int

    @classmethod
    def train(cls, rows_RS1: np.ndarray, vocab_size: int, order: int = ORDER) -> "NGram":
        """Counts the n-grams of rows of ids below `vocab_size`."""
        keys: list[np.ndarray] = []
        counts: list[np.ndarray] = []
        context_RS1 = nodes_RS1 = np.zeros(rows_RS1.shape, np.int64)
        for length in range(1, min(order, rows_RS1.shape[1]) + 1):
            keys_RS1 = np.where(context_RS1 >= 0, context_RS1 * vocab_size + rows_RS1, -1)
            inside = keys_RS1 >= 0
            found, first, inverse, times = np.unique(
                keys_RS1[inside], return_index=True, return_inverse=True, return_counts=True
            )
            if length > 1:  # an n-gram is one word more in front of the (n-1)-gram that ends where it ends
                counts[-1] = np.bincount(nodes_RS1[inside][first], minlength=len(keys[-1]))
            keys.append(found)
            counts.append(times)
            nodes_RS1 = np.full(rows_RS1.shape, -1, np.int64)
            nodes_RS1[inside] = inverse
            context_RS1 = _shifted(nodes_RS1)
        contexts = [1, *map(len, keys)]
        return cls(tuple(_order(*of, vocab_size) for of in zip(keys, counts, contexts, strict=False)), vocab_size)

    def nats(self, rows_RS1: np.ndarray) -> np.ndarray:
        """Negative log-likelihood of each token but a row's first, given those before it in the row: float64 [R, S]."""
        probability_RS1 = np.full(rows_RS1.shape, 1 / self.vocab_size)
        context_RS1 = np.zeros(rows_RS1.shape, np.int64)
        for seen in self.orders:
            nodes_RS1 = seen.find(np.where(context_RS1 >= 0, context_RS1 * self.vocab_size + rows_RS1, -1))
            counts_RS1 = np.where(nodes_RS1 >= 0, seen.counts_G[nodes_RS1], 0)
            kept_RS1 = counts_RS1 - seen.discounts[np.minimum(counts_RS1, 3)]
            totals_RS1 = np.where(context_RS1 >= 0, seen.totals[context_RS1], 0)
            here_RS1 = kept_RS1 / np.maximum(totals_RS1, 1) + seen.shares[context_RS1] * probability_RS1
            probability_RS1 = np.where(totals_RS1 > 0, here_RS1, probability_RS1)
            context_RS1 = _shifted(nodes_RS1)
        return -np.log(probability_RS1[:, 1:])

    def bits_per_byte(self, rows: HeldoutRows) -> float:
        """Of the labels that count, as `Evaluator` has it of a model."""
        return rows.figure((self.nats(rows.rows_RS1) * rows.weights_RS).sum(axis=1))


def _order(keys_G: np.ndarray, counts_G: np.ndarray, contexts: int, vocab_size: int) -> _Order:
    """Discounts, and what they leave, of the n-grams of one order."""
    discounts = _discounts(np.bincount(np.minimum(counts_G, 5), minlength=6).astype(np.float64))
    context_G = keys_G // vocab_size
    totals = np.bincount(context_G, counts_G, contexts)
    taken = np.bincount(context_G, discounts[np.minimum(counts_G, 3)], contexts)
    return _Order(keys_G, counts_G, discounts, totals, taken / np.maximum(totals, 1))


def _discounts(numbers: np.ndarray) -> np.ndarray:
    """Chen and Goodman's estimate from how many n-grams have a count of 0, 1, 2, 3 and 4."""
    if not numbers[1:5].all():  # too little text to estimate from
        return np.array([0, 0.5, 0.75, 1.0])
    ratio = numbers[1] / (numbers[1] + 2 * numbers[2])
    counts = np.arange(1, 4)
    taken = counts - (counts + 1) * ratio * numbers[2:5] / numbers[1:4]
    return np.concatenate([[0], np.clip(taken, 0.05, counts - 0.05)])


def _shifted(nodes_RS1: np.ndarray) -> np.ndarray:
    """The nodes that end one token before; -1 at the start of a row."""
    return np.concatenate([np.full((len(nodes_RS1), 1), -1), nodes_RS1[:, :-1]], axis=1)


def load_or_measure(
    run_folder: Path, corpus: Corpus, sets: Mapping[str, HeldoutRows], ngram_rows: int = 0
) -> dict[str, Any]:
    """What RUN/baselines.json holds, measured now if it is not there or is about other rows.

    Args:
        run_folder: where to keep the figures.
        corpus: the run's.
        sets: what the run's held-out figures are about; those without a text have no baseline.
        ngram_rows: train the 5-gram model on at most so many rows of the train split; 0: none, or the one there was.

    Returns:
        `ngram_rows` and `ngram_tokens` that the 5-gram model was trained on, and `sets`: name -> `bytes`, `xz` and
        `ngram` in bits per byte.

    Raises:
        UserError: a file cannot be written, or a file of the corpus is missing or altered.
    """
    texts = {name: rows for name, rows in sets.items() if rows.text}
    about = {
        "corpus": corpus.fingerprint,
        "heldout_rows": {name: len(rows.rows_RS1) for name, rows in texts.items()},
        "ngram_rows": min(ngram_rows, corpus.num_rows("train")),
    }
    known = read_baselines(run_folder)
    if all(known.get(key) == value for key, value in about.items() if ngram_rows or key != "ngram_rows"):
        return known
    figures = {
        name: {"bytes": len(rows.text or b""), "xz": xz_bits_per_byte(rows.text or b"")} for name, rows in texts.items()
    }
    if ngram_rows:
        train = train_rows(corpus, ngram_rows)
        model = NGram.train(train, corpus.vocab_size)
        for name, rows in texts.items():
            figures[name]["ngram"] = model.bits_per_byte(rows)
        about["ngram_tokens"] = train.size
    measured = {**about, "sets": figures}
    write_json(run_folder / BASELINES_FILE, measured)
    return measured


def read_baselines(run_folder: Path) -> dict[str, Any]:
    """What was measured before; nothing if that cannot be read."""
    try:
        known = read_json(run_folder / BASELINES_FILE)
    except UserError:
        return {}
    return known if isinstance(known, dict) and isinstance(known.get("sets"), dict) else {}


def train_rows(corpus: Corpus, limit: int) -> np.ndarray:
    """At most `limit` rows of the train split, the first of a fixed permutation."""
    count = min(limit, corpus.num_rows("train"))
    size = min(count, READ_ROWS)
    batches = corpus.batches("train", size, HELDOUT_ORDER_SEED, epochs=1)
    return np.concatenate([next(batches) for _ in range(-(-count // size))])[:count]
