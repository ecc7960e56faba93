"""Sampling follows its definition, whatever is done to be fast."""

import time

import numpy as np
import pytest

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.decoding.choice import choose, most_likely, position
from mindgeex.model_zoo.decoding.settings import Sampling


def kept_by_definition(logits, temperature, top_k, top_p):
    """Ids and probabilities: everything sorted, everything in float64."""
    scaled = logits.astype(np.float64) / temperature
    order = np.argsort(-scaled, kind="stable")[: top_k or None]
    probabilities = np.exp(scaled[order] - scaled[order[0]])
    probabilities /= probabilities.sum()
    count = min(int(np.searchsorted(np.cumsum(probabilities), top_p)) + 1, len(order))
    order, probabilities = order[:count], probabilities[:count]
    by_id = np.argsort(order)
    return order[by_id], probabilities[by_id] / probabilities.sum()


def logits_of(kind, rows=6, vocab=5003):
    random = np.random.default_rng(sum(map(ord, kind)))
    logits = random.normal(0, 1, (rows, vocab)).astype(np.float32)
    if kind == "trained":
        logits[:, random.integers(0, vocab, 40)] += np.linspace(4, 16, 40, dtype=np.float32)
    if kind == "tied":
        logits = np.round(logits * 2) / 2
    if kind == "equal":
        logits[:] = 1.5
    return logits


@pytest.mark.parametrize("kind", ["flat", "trained", "tied", "equal"])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(0.8, 0, 0.95), (0.2, 0, 0.95), (2.0, 0, 0.5), (1.0, 40, 1.0), (1.0, 1, 1.0), (0.8, 299, 0.9), (1.0, 0, 1.0)]
    + [(1.0, 6000, 1.0), (1.0, 0, 1e-9), (1e-40, 0, 0.95)],
)
def test_a_draw_is_that_of_the_definition(kind, temperature, top_k, top_p):
    logits = logits_of(kind)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    kept = [kept_by_definition(row, temperature, top_k, top_p) for row in logits]
    for seed in range(5):
        drawn = choose(logits, sampling, [np.random.default_rng([seed, row]) for row in range(len(logits))])
        for row, (ids, probabilities) in enumerate(kept):
            number = np.random.default_rng([seed, row]).random()
            assert drawn[row] == ids[np.searchsorted(np.cumsum(probabilities), number, side="right")]


def test_top_k_and_top_p_keep_the_most_likely_tokens():
    logits = np.log(np.array([[0.1, 0.4, 0.2, 0.3]], np.float32))
    generator = np.random.default_rng(0)

    def drawn(**settings):
        return {int(choose(logits, Sampling(temperature=1.0, **settings), [generator])[0]) for _ in range(500)}

    assert drawn(top_p=1.0) == {0, 1, 2, 3}
    assert drawn(top_k=2, top_p=1.0) == {1, 3}
    assert drawn(top_p=0.65) == {1, 3}
    assert drawn(top_p=0.75) == {1, 2, 3}
    assert choose(logits, Sampling(temperature=0.0), [generator]) == [1]


def test_sampling_frequencies_are_the_probabilities():
    logits = np.log(np.array([[0.5, 0.25, 0.25]], np.float32))
    generator = np.random.default_rng(0)
    draws = [choose(logits, Sampling(temperature=1.0, top_p=1.0), [generator])[0] for _ in range(20_000)]
    assert np.abs(np.bincount(draws) / 20_000 - [0.5, 0.25, 0.25]).max() < 5 * 0.5 / np.sqrt(20_000)


@pytest.mark.parametrize("k", [1, 2, 63, 64, 78, 79, 500, 5003])
@pytest.mark.parametrize("kind", ["flat", "tied"])
def test_the_k_most_likely_are_found_without_sorting(kind, k):
    for row in logits_of(kind):
        assert most_likely(row, k).tolist() == sorted(np.argsort(-row, kind="stable")[:k])


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 200])
def test_a_position_is_where_the_cumulative_weight_passes_the_share(size):
    weights = np.random.default_rng(size).random(size).astype(np.float32)
    weights[1::3] = 0
    reached = np.cumsum(weights.astype(np.float64))
    for share in np.random.default_rng(1).random(200):
        assert position(weights, share) == np.searchsorted(reached, share * reached[-1], side="right")
    for share in (0.0, np.nextafter(1.0, 0.0)):
        assert weights[position(weights, share)] > 0


@pytest.mark.parametrize(("kind", "top_k"), [("trained", 0), ("trained", 40), ("flat", 0)])
def test_choosing_costs_a_fraction_of_sorting(kind, top_k):
    logits = logits_of(kind, rows=16, vocab=52_224)
    sampling, generators = Sampling(temperature=0.8, top_k=top_k), [np.random.default_rng(row) for row in range(16)]

    def seconds(act):
        def once():
            start = time.process_time()
            act()
            return time.process_time() - start

        return min(once() for _ in range(5))

    chosen = seconds(lambda: choose(logits, sampling, generators))
    assert chosen < 0.3 * seconds(lambda: [np.argsort(-row, kind="stable") for row in logits])


def test_the_repetition_penalty_divides_or_multiplies_what_was_there_once():
    logits = np.array([[3.0, 2.0, -1.0, -4.0], [3.0, 2.0, -1.0, -4.0]], np.float32)
    histories = [np.array([0, 2, 0, 0]), np.array([3])]
    greedy = Sampling(temperature=0.0, repetition_penalty=2.0)
    assert choose(logits, greedy, [], histories).tolist() == [1, 0]
    assert logits.tolist() == [[1.5, 2.0, -2.0, -4.0], [3.0, 2.0, -1.0, -8.0]]


def test_a_penalty_without_the_tokens_so_far_is_our_own_mistake():
    with pytest.raises(ValueError, match="needs the tokens so far"):
        choose(np.zeros((1, 4), np.float32), Sampling(temperature=0.0, repetition_penalty=1.2), [])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(top_k=3), Sampling(temperature=0.0)], ids=str)
def test_a_model_that_gives_no_numbers_is_told_as_such(sampling, value):
    logits = logits_of("flat")
    logits[2, 17] = value
    with pytest.raises(UserError, match="the model gives NaN or infinity"):
        choose(logits, sampling, [np.random.default_rng(0)] * len(logits))
