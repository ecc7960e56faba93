"""The next token of every row: penalty, temperature, top-k, top-p, draw.

What is kept is found without sorting the vocabulary. A probability is proportional to a weight, exp((logit - largest)
/ temperature), in float32; sums of weights are float64. Among equals the lower id goes first.
"""

# Shapes: B batch, V vocabulary, N tokens of a row so far, C candidates
from collections.abc import Sequence

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.decoding.settings import Sampling

BLOCK = 64
"""So many neighbours are summed up first, by their largest logit (top-k) or the sum of their weights (the draw)."""
BIN_BITS = 12
"""Top-p groups weights by their order of magnitude into at most 2^12 bins, and sorts one of them."""
LARGEST_SCALE = 1e30
"""Of 1 / temperature; beyond it only the largest logit has a weight anyway, and float32 would overflow."""
FLOOR = 1e-4
"""Top-p sets aside weights below this share of the largest, if the others are enough; of a trained model they are."""


def choose(
    logits_BV: np.ndarray,
    sampling: Sampling,
    generators: Sequence[np.random.Generator],
    histories: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """The next token's id of every row, int32 [B].

    Top-k keeps the k largest logits, then top-p the smallest set of most likely tokens whose probability reaches p
    (Holtzman et al. 2020); the rest is renormalised. A row draws one number of its generator, and the id is where the
    cumulative probability of the kept ids, in the order of ids, passes it.

    Args:
        logits_BV: float32; changed if there is a penalty.
        sampling: the settings.
        generators: one a row; not used if greedy.
        histories: ids so far of every row, prompt included; needed for the repetition penalty.

    Raises:
        UserError: a logit is NaN or infinite.
    """
    check_numbers(logits_BV)
    if sampling.repetition_penalty != 1.0:
        if histories is None:
            raise ValueError("a repetition penalty needs the tokens so far")
        for logits_V, history_N in zip(logits_BV, histories, strict=True):
            penalise(logits_V, history_N, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return logits_BV.argmax(axis=1).astype(np.int32)
    drawn = [draw(logits_V, sampling, generator) for logits_V, generator in zip(logits_BV, generators, strict=True)]
    return np.array(drawn, np.int32)


def check_numbers(logits_BV: np.ndarray) -> None:
    """Raises UserError if a row's largest logit is no number, which it is as soon as any of them is NaN."""
    if not np.isfinite(logits_BV.max(axis=1)).all():
        raise UserError(
            "the model gives NaN or infinity: its training diverged, its weights are damaged, or float16 is too narrow "
            "for it: take an earlier checkpoint, or float32"
        )


def penalise(scores_V: np.ndarray, history_N: np.ndarray, penalty: float) -> None:
    """Divides the positive scores of what was already there by the penalty and multiplies the others; in place.

    Keskar et al. 2019 (CTRL, section 4.1), as Hugging Face's RepetitionPenaltyLogitsProcessor applies it: an id
    counts once, however often it occurred.
    """
    scores_N = scores_V[history_N]
    scores_V[history_N] = np.where(scores_N < 0, scores_N * penalty, scores_N / penalty)


def draw(logits_V: np.ndarray, sampling: Sampling, generator: np.random.Generator) -> int:
    """One row's id; the temperature is not 0."""
    ids_C = most_likely(logits_V, sampling.top_k) if 0 < sampling.top_k < len(logits_V) else None
    logits_C = logits_V if ids_C is None else logits_V[ids_C]
    weights_C = logits_C - logits_C.max()
    weights_C *= np.float32(min(1 / sampling.temperature, LARGEST_SCALE))
    np.exp(weights_C, out=weights_C)
    if sampling.top_p < 1:
        mass = sampling.top_p * weights_C.sum(dtype=np.float64)
        likely_C = weights_C >= FLOOR
        if (weights_C * likely_C).sum(dtype=np.float64) >= mass:
            ids_C, weights_C = np.flatnonzero(likely_C) if ids_C is None else ids_C[likely_C], weights_C[likely_C]
        weights_C = weights_C * nucleus(weights_C, mass)
    at = position(weights_C, generator.random())
    return at if ids_C is None else int(ids_C[at])


def position(weights_C: np.ndarray, share: float) -> int:
    """Where the cumulative weight passes a share (below 1) of the whole; never at a weight of 0.

    The sums of blocks say in which of them, so that few weights have to be added one by one.
    """
    weights_C = weights_C.astype(np.float64)
    reached = np.cumsum(np.add.reduceat(weights_C, np.arange(0, len(weights_C), BLOCK)))
    number = share * reached[-1]
    block = _passes(reached, number)
    inside = np.cumsum(weights_C[block * BLOCK : (block + 1) * BLOCK])
    return block * BLOCK + _passes(inside, number - (reached[block - 1] if block else 0.0))


def _passes(cumulative: np.ndarray, number: float) -> int:
    """The first index that is above the number, or, where rounding put the number too high, reaches the end."""
    return int(np.searchsorted(cumulative, min(number, np.nextafter(cumulative[-1], 0.0)), side="right"))


def most_likely(logits_V: np.ndarray, k: int) -> np.ndarray:
    """The ids of the k largest logits, in the order of ids; among equals the lower ids.

    The k-th largest of the blocks' largest logits is a bound: at least k logits reach it, and few more do.
    """
    whole = len(logits_V) // BLOCK
    largest = logits_V[: whole * BLOCK].reshape(whole, BLOCK).max(axis=1)
    candidates = np.arange(len(logits_V))
    if k <= whole:
        candidates = np.flatnonzero(logits_V >= np.partition(largest, whole - k)[whole - k])
    logits_C = logits_V[candidates]
    last = np.partition(logits_C, len(logits_C) - k)[len(logits_C) - k]
    above, equal = candidates[logits_C > last], candidates[logits_C == last]
    return np.sort(np.concatenate([above, equal[: k - len(above)]]))


def nucleus(weights_C: np.ndarray, mass: float) -> np.ndarray:
    """Which of the weights (float32, not negative) are the fewest, largest ones whose sum reaches `mass`; bool [C]."""
    # A float's bits, read as an integer, grow with it: exponent first, so bins are by order of magnitude.
    bits_C = weights_C.view(np.int32)
    low, high = int(bits_C.min()), int(bits_C.max())
    bins_C = (high - bits_C) >> max(0, (high - low).bit_length() - BIN_BITS)
    # Converted beforehand, since that is several times as fast as what bincount does itself.
    mass_of_bin = np.bincount(bins_C.astype(np.intp), weights=weights_C.astype(np.float64))
    reached = np.cumsum(mass_of_bin)
    last = min(int(np.searchsorted(reached, mass)), len(reached) - 1)
    inside = np.flatnonzero(bins_C == last)
    order = inside[np.argsort(-weights_C[inside], kind="stable")]
    before = reached[last - 1] if last else 0.0
    needed = int(np.searchsorted(before + np.cumsum(weights_C[order].astype(np.float64)), mass)) + 1
    kept_C = bins_C < last
    kept_C[order[:needed]] = True
    return kept_C
