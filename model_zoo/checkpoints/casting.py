"""Weights from one floating-point type to another, and what became of the values on the way.

Rounds to the nearest value, ties to even, as PyTorch and MindSpore do. Covers: float32, float16 and bfloat16 in every
direction. Does not cover: scaling that would keep values in range.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mindgeex.model_zoo.checkpoints.tensors import BFLOAT16, FLOATS

CHUNK = 1 << 18
"""Elements converted at a time, so that what is needed besides the two arrays stays below 4 MB."""

EXACT = {(np.dtype(np.float16), np.dtype(np.float32)), (BFLOAT16, np.dtype(np.float32))}
"""From, to: every value of the one is a value of the other."""


@dataclass(frozen=True)
class CastTally:
    """Counts of values of which a cast left nothing."""

    overflowed: int = 0
    """Finite before, infinite now."""
    flushed: int = 0
    """Not zero before, zero now."""


def cast(array: np.ndarray, dtype: np.dtype[Any]) -> tuple[np.ndarray, CastTally]:
    """The values of `array` in another type; the array itself if it has that type already.

    Raises:
        ValueError: one of the two types is none of float32, float16 and bfloat16.
    """
    if array.dtype not in FLOATS.values() or dtype not in FLOATS.values():
        raise ValueError(f"cannot cast {array.dtype} to {dtype}: only {', '.join(FLOATS)}")
    if array.dtype == dtype:
        return array, CastTally()
    if (array.dtype, dtype) in EXACT:
        return array.astype(dtype, order="C"), CastTally()
    result = np.empty(array.shape, dtype)
    before, after = array.reshape(-1), result.reshape(-1)
    overflowed = flushed = 0
    for begin in range(0, array.size, CHUNK):
        chunk = slice(begin, begin + CHUNK)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            after[chunk] = before[chunk].astype(dtype)
        old = np.abs(before[chunk].astype(np.float32))
        new = np.abs(after[chunk].astype(np.float32))
        overflowed += int(np.count_nonzero(np.isinf(new) & np.isfinite(old)))
        flushed += int(np.count_nonzero((new == 0) & (old != 0)))
    return result, CastTally(overflowed, flushed)
