"""How PyTorch finds a tensor's values in a storage: an offset, and for each dimension a stride, all in elements.

Covers: any offset and strides, zero included (a value that is repeated). Does not cover: negative strides, which
PyTorch does not have.
"""

import math
from typing import Any

import numpy as np

from mindgeex.model_zoo.checkpoints.containers.streams import byte_view, checked_spec, damaged
from mindgeex.model_zoo.checkpoints.containers.zipped import Member
from mindgeex.model_zoo.checkpoints.tensors import TensorRef, TensorSpec

REPEATED_BYTES = 1 << 30
"""A tensor that repeats values of its storage may have this many bytes, or as many as the storage."""


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a contiguous tensor, as PyTorch counts them where a size is 0."""
    return tuple(math.prod(max(size, 1) for size in shape[i + 1 :]) for i in range(len(shape)))


def view(storage: Member, dtype: np.dtype[Any], offset: object, shape: object, strides: object) -> TensorRef:
    """The tensor at `offset` of a storage.

    Raises:
        ValueError: offset, shape and strides contradict each other.
        UserError: the storage is too short for them.
    """
    spec, steps = checked_spec(shape, dtype), checked_spec(strides, dtype).shape
    if len(steps) != len(spec.shape) or type(offset) is not int or offset < 0:
        raise ValueError(f"a tensor has shape {shape}, strides {strides} and offset {offset!r}")
    last = sum((size - 1) * step for size, step in zip(spec.shape, steps, strict=True))
    span = last + 1 if spec.num_bytes else 0
    needed = (offset + span) * dtype.itemsize if span else 0
    if needed > storage.size:
        raise damaged(
            storage.path,
            f"{storage.name} has {storage.size} bytes, a tensor of shape {list(spec.shape)} needs {needed}",
        )
    if spec.num_bytes > max(REPEATED_BYTES, storage.size):
        raise damaged(storage.path, f"a tensor of shape {list(spec.shape)} repeats the {storage.size} bytes there are")

    def read() -> np.ndarray:
        elements = np.empty(span, dtype)
        if span:
            storage.read_into(byte_view(elements), offset * dtype.itemsize)
        if span == math.prod(spec.shape) and _is_contiguous(spec, steps):
            return elements.reshape(spec.shape)
        byte_steps = [step * dtype.itemsize for step in steps]
        return np.array(np.lib.stride_tricks.as_strided(elements, spec.shape, byte_steps), order="C")

    return TensorRef(spec, read)


def _is_contiguous(spec: TensorSpec, steps: tuple[int, ...]) -> bool:
    """The stride of a dimension of size 1 does not matter."""
    right = contiguous_strides(spec.shape)
    return all(size == 1 or step == usual for size, step, usual in zip(spec.shape, steps, right, strict=True))
