"""Tensors that are read when asked for: what every format is read from and written from, one at a time.

A checkpoint of any size passes through as `Mapping[str, TensorRef]`: names, shapes and types are known at once, values
are read only while they are written elsewhere. Covers: float32, float16, bfloat16, integers. Does not cover: complex
numbers, sparse or quantised tensors of other tools.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": BFLOAT16,
}
"""The types that weights may have, by the name a user types."""


@dataclass(frozen=True)
class TensorSpec:
    """What is known of a tensor without reading it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def num_bytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class TensorRef:
    """A tensor somewhere on disk, or made from others."""

    spec: TensorSpec
    read: Callable[[], np.ndarray]
    """A contiguous array of `spec`, read anew each time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return self.spec.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.spec.dtype
