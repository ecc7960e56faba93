"""The baselines: probabilities that sum to one, figures worked out by hand, and a cache that knows its subject."""

import lzma
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.files import read_json, write_json
from mindgeex.data.mindrecord import Corpus
from mindgeex.train.baselines import BASELINES_FILE, NGram, load_or_measure, train_rows, xz_bits_per_byte
from mindgeex.train.evaluation import heldout_sets

VOCABULARY = 7


def zipf_rows(seed: int, rows: int, width: int, vocabulary: int = VOCABULARY) -> np.ndarray:
    """Rows in which a token depends on the one before it."""
    random = np.random.default_rng(seed)
    steps = np.minimum(random.zipf(1.6, (rows, width)) - 1, vocabulary - 1)
    return (np.cumsum(steps, axis=1) % vocabulary).astype(np.int32)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 60),
    width=st.integers(2, 12),
    context=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6),
    order=st.integers(1, 5),
)
def test_after_any_context_the_probabilities_of_all_words_are_positive_and_sum_to_one(
    seed, rows, width, context, order
):
    model = NGram.train(zipf_rows(seed, rows, width), VOCABULARY, order)
    every = np.array([[*context, word] for word in range(VOCABULARY)], np.int32)
    probabilities = np.exp(-model.nats(every)[:, -1])
    assert (probabilities > 0).all()
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)


def test_probabilities_sum_to_one_over_a_large_vocabulary_after_seen_and_unseen_contexts():
    rows = zipf_rows(3, 400, 65, 5000)
    model = NGram.train(rows, 5000)
    for context in (rows[7, 20:24], [4999, 0, 4999, 1]):
        every = np.array([[*context, word] for word in range(5000)], np.int32)
        assert np.exp(-model.nats(every)[:, -1]).sum() == pytest.approx(1, abs=1e-9)


def test_a_bigram_model_is_worked_out_by_hand():
    # Bigrams: ab twice, ac, bc. Too few for an estimate, so discounts are 0.5 of a count of 1 and 0.75 of 2.
    a, b, c = 0, 1, 2
    model = NGram.train(np.array([[a, b], [a, b], [a, c], [b, c]], np.int32), 4, order=2)
    # Words behind how many different ones: b 1, c 2. Unigram of c: (2 - 0.75) / 3 + (0.5 + 0.75) / 3 / 4.
    unigram_c = 1.25 / 3 + 1.25 / 3 / 4
    # After a: b twice, c once.
    expected = (1 - 0.5) / 3 + (0.75 + 0.5) / 3 * unigram_c
    assert math.exp(-model.nats(np.array([[a, c]], np.int32))[0, 0]) == pytest.approx(expected)
    assert math.exp(-model.nats(np.array([[3, c]], np.int32))[0, 0]) == pytest.approx(unigram_c)  # nothing behind 3


def test_five_tokens_predict_what_two_cannot():
    phrase = [1, 2, 3, 4, 5, 1, 2, 3, 4, 6, 0, 2, 3, 4, 5]
    rows = np.array([phrase] * 50, np.int32)
    short, long = (NGram.train(rows, VOCABULARY, order).nats(rows[:1]) for order in (2, 5))
    assert long[0, -1] < short[0, -1] / 2


def test_a_file_of_one_line_tells_what_xz_makes_of_a_text():
    text = b"for i in range(10):\n" * 50
    assert xz_bits_per_byte(text) == 8 * len(lzma.compress(text, preset=9)) / 1000


def test_baselines_are_kept_and_measured_anew_only_for_other_rows(corpus_folder, tmp_path):
    corpus = Corpus.open(corpus_folder)
    sets = heldout_sets(corpus, 40, 40)
    first = load_or_measure(tmp_path, corpus, sets, ngram_rows=200)
    assert list(first["sets"]) == ["all", "python"]
    for name, figures in first["sets"].items():
        assert figures["bytes"] == len(sets[name].text)
        assert 0 < figures["ngram"] < 8
        assert 0 < figures["xz"] < 8
    path = tmp_path / BASELINES_FILE
    write_json(path, {**read_json(path), "mark": 1})
    for ngram_rows in (200, 0):
        assert load_or_measure(tmp_path, corpus, sets, ngram_rows)["mark"] == 1
    assert "mark" not in load_or_measure(tmp_path, corpus, heldout_sets(corpus, 30, 40))
    more = load_or_measure(tmp_path, corpus, sets, ngram_rows=400)
    assert "mark" not in more
    assert more["sets"]["all"]["ngram"] < first["sets"]["all"]["ngram"], "more text is read, and nothing gained"
    path.write_text('{"sets": {')
    assert load_or_measure(tmp_path, corpus, sets, ngram_rows=400) == more


def test_the_train_rows_are_the_first_of_one_order_and_all_if_there_are_fewer(corpus_folder):
    corpus = Corpus.open(corpus_folder)
    assert np.array_equal(train_rows(corpus, 300)[:20], train_rows(corpus, 20))
    assert len(train_rows(corpus, 1 << 40)) == corpus.num_rows("train")
