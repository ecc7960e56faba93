"""Tensors that are read when asked for: what every format is read from and written from, one at a time.

A checkpoint of any size passes through as `Mapping[str, TensorRef]`: names, shapes and types are known at once, values
are read only while they are written elsewhere. Covers: float32, float16, bfloat16, integers. Does not cover: complex
numbers, sparse or quantised tensors of other tools.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": BFLOAT16}
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


def in_memory(array: np.ndarray) -> TensorRef:
    """An array as a tensor."""
    return TensorRef(TensorSpec(array.shape, array.dtype), lambda: np.ascontiguousarray(array))


def transposed(tensor: TensorRef) -> TensorRef:
    """[a, b] -> [b, a]."""
    spec = TensorSpec(tensor.shape[::-1], tensor.dtype)
    return TensorRef(spec, lambda: np.ascontiguousarray(tensor.read().T))


def concatenated(tensors: Sequence[TensorRef], dim: int = 0) -> TensorRef:
    """Tensors of one type, joined along `dim`."""
    shape = list(tensors[0].shape)
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    spec = TensorSpec(tuple(shape), tensors[0].dtype)
    return TensorRef(spec, lambda: np.concatenate([tensor.read() for tensor in tensors], dim))


def derived(tensor: TensorRef, shape: Sequence[int], change: Callable[[np.ndarray], np.ndarray]) -> TensorRef:
    """A tensor of the same type whose values are `change` of another's."""
    return TensorRef(TensorSpec(tuple(shape), tensor.dtype), lambda: np.ascontiguousarray(change(tensor.read())))


def specs(tensors: Mapping[str, TensorRef]) -> dict[str, TensorSpec]:
    """Names, shapes and types."""
    return {name: tensor.spec for name, tensor in tensors.items()}
