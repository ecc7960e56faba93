"""Arrays of every kind, and their comparison bit for bit: NaN, -0.0 and subnormal numbers included."""

import numpy as np
from hypothesis import strategies as st

from mindgeex.model_zoo.checkpoints.tensors import BFLOAT16, TensorRef, TensorSpec

DTYPES = [np.dtype(code) for code in ("<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "i1", "u1", "?")] + [BFLOAT16]
"""The types that every container can hold."""


def in_memory(array: np.ndarray) -> TensorRef:
    """An array as a tensor."""
    return TensorRef(TensorSpec(array.shape, array.dtype), lambda: np.ascontiguousarray(array))


def specs(arrays: dict[str, np.ndarray]) -> dict[str, TensorSpec]:
    """What a writer is told before it is given the arrays."""
    return {name: TensorSpec(array.shape, array.dtype) for name, array in arrays.items()}


def bits(array: np.ndarray) -> tuple:
    return array.shape, array.dtype, array.tobytes()


def same(ours: dict, theirs: dict) -> None:
    """Equal names, shapes, types and bits; order does not count."""
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert bits(ours[name]) == bits(theirs[name]), name


@st.composite
def arrays(draw, min_side: int = 0) -> np.ndarray:
    """An array of random bits, of at most a few hundred bytes."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(st.integers(min_side, 5), max_size=3)))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    if dtype == np.bool_:
        return np.array(generator.integers(0, 2, shape), dtype)
    count = int(np.prod(shape, dtype=int)) * dtype.itemsize
    return np.frombuffer(generator.bytes(count), dtype).reshape(shape)


def arrays_by_name(min_size: int = 0, min_side: int = 0):
    """Tensors by name, in any order."""
    words = st.sampled_from(["a", "b", "weight", "blocks.0.x", "größe", "名", "x y", '"', "adam_m.a"])
    return st.dictionaries(words, arrays(min_side), min_size=min_size, max_size=5)
