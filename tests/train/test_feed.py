"""Rows, weights and places are the same for every number of workers."""

import numpy as np
import pytest

from mindgeex.data.mindrecord import Corpus
from mindgeex.train.feed import CorpusFeed, dropout_seeds, label_weights


def taken(feed, rows, world, steps, start=0):
    """The rows, weights and slots of some steps, all workers' joined in the order of ranks."""
    workers = [feed.batches(rows // world, start, rank, world) for rank in range(world)]
    batches = [next(worker) for _ in range(steps) for worker in workers]
    return [np.concatenate([getattr(b, name) for b in batches]) for name in ("rows_BS1", "weights_BS", "slots_B")]


@pytest.mark.parametrize("world", [2, 4])
def test_the_steps_are_the_same_for_any_number_of_workers_and_from_anywhere(corpus_folder, world):
    feed = CorpusFeed(Corpus.open(corpus_folder), seed=5)
    alone = taken(feed, 8, 1, 6)
    assert alone[2].tolist() == list(range(48))
    assert np.array_equal(alone[1], label_weights(alone[0], feed.eod_id))
    for one, other in zip(alone, taken(feed, 8, world, 6), strict=True):
        assert np.array_equal(one, other)
    for one, other in zip(alone, taken(feed, 8, world, 4, start=16), strict=True):
        assert np.array_equal(one[16:], other)


def test_dropout_seeds_are_far_apart_for_neighbours_and_other_runs():
    slots = np.arange(100_000)
    seeds, others = dropout_seeds(7, slots), dropout_seeds(8, slots)
    assert seeds.dtype == np.int32 and seeds.min() >= 0
    assert len(np.unique(seeds)) > 99_990  # of 2^31; 2.3 pairs are expected to meet
    assert (seeds == others).sum() < 5
    bits = np.unpackbits((seeds[1:] ^ seeds[:-1]).astype(">i4").view(np.uint8))
    assert abs(bits.mean() - 31 / 64) < 0.002
    assert dropout_seeds(7, np.array([2**40])) == dropout_seeds(7, np.array([2**40]))
