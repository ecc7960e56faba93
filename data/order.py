"""A permutation of [0, total) that needs no array: any place can be asked for, in any order, by any rank.

Swap-or-not (Hoang, Morris, Rogaway, "An Enciphering Scheme Based on a Card Shuffle", CRYPTO 2012): in each round a key
pairs every number with another, and a hash of the pair decides whether its two numbers change places. It is exact for
every total, even the smallest.

Covers: totals up to 2**62; the same order on every machine and for every number of ranks.
Does not cover: secrecy; the hash is a mixing function, not a cipher.
"""

from dataclasses import dataclass

import numpy as np

ROUNDS = 96
"""Rounds; a chunk of 65,536 places takes less than a hundredth of the time it takes to read the rows."""


@dataclass(frozen=True)
class Order:
    """The order in which an endless run passes over the rows: one permutation by (seed, epoch) behind the other."""

    total: int
    """Rows of an epoch."""

    seed: int
    """Of the permutations."""

    shuffle: bool = True
    """False: each epoch is 0, 1, 2 ..."""

    def rows(self, slots: np.ndarray) -> np.ndarray:
        """Rows at these places of the order, int64."""
        epochs, places = np.divmod(slots, self.total)
        if not self.shuffle:
            return places
        result = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            result[chosen] = permuted(places[chosen], self.total, self.seed, epoch)
        return result


def permuted(places: np.ndarray, total: int, seed: int, epoch: int) -> np.ndarray:
    """Where the permutation of [0, total) by (seed, epoch) takes these numbers, int64.

    Args:
        places: int64, each in [0, total).
        total: size of the permuted range.
        seed: at least 0 and below 2**64, as the epoch.
        epoch: which permutation.
    """
    raw = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(2 * ROUNDS)
    pairing, mixing = (raw[:ROUNDS] % np.uint64(total)).astype(np.int64), raw[ROUNDS:]
    result = places.astype(np.int64)
    for key, salt in zip(pairing, mixing, strict=True):
        partner = key - result
        partner += (partner >> 63) & total  # modulo total
        swap = _bit(np.maximum(result, partner), salt)
        result ^= (result ^ partner) & -swap
    return result


def _bit(numbers: np.ndarray, salt: np.uint64) -> np.ndarray:
    """0 or 1 by number and salt: the highest bit of what splitmix64 makes of them (Steele and others, OOPSLA 2014)."""
    mixed = numbers.view(np.uint64) ^ salt
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    return (mixed >> np.uint64(63)).view(np.int64)
