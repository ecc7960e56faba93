"""Casts: rounded as PyTorch rounds, with every value that was lost counted."""

import itertools
import tracemalloc

import numpy as np
import pytest

from mindgeex.model_zoo.checkpoints import casting
from mindgeex.model_zoo.checkpoints.casting import CastTally, cast
from mindgeex.model_zoo.checkpoints.tensors import BFLOAT16, FLOATS

FLOAT32, FLOAT16 = FLOATS["float32"], FLOATS["float16"]


def every_kind_of_value():
    """Random bits, all 16-bit patterns, and float32 around the limits of the narrower types."""
    noise = np.random.default_rng(0).integers(0, 1 << 32, 100_000, np.uint32).view(np.float32)
    halves = np.arange(1 << 16, dtype=np.uint16)
    edges = np.array([65504, 65519.996, 65520, 65536, 2.0**-24, 2.0**-25, 2.0**-14, 3.3895314e38, 3.4028235e38, 1e-45])
    limits = [
        np.nextafter(np.float32(edge), direction) for edge in edges.astype(np.float32) for direction in (0, np.inf)
    ]
    with np.errstate(invalid="ignore"):
        parts = [noise, halves.view(np.float16), halves.view(BFLOAT16), edges, -edges, limits]
        return np.concatenate([np.asarray(part).astype(np.float32) for part in parts])


def test_values_of_float16_at_its_limits():
    values = np.array([1, 65504, 65520, -70000, np.inf, np.nan, 0, 2.0**-24, 2.0**-26, -1e-30, 2.0**-14], np.float32)
    result, tally = cast(values, FLOAT16)
    assert result.dtype == FLOAT16
    expected = [1, 65504, np.inf, -np.inf, np.inf, np.nan, 0, 2.0**-24, 0, -0.0, 2.0**-14]
    assert np.array_equal(result.astype(float), expected, equal_nan=True)
    assert tally == CastTally(overflowed=2, flushed=2)


def test_values_of_bfloat16_at_its_limits():
    values = np.array([3.4028235e38, 1e-45, 1e-39, 1.00390625, 1.01171875, 70000], np.float32)
    result, tally = cast(values, BFLOAT16)
    assert result[[0, 1, 3, 4]].astype(float).tolist() == [np.inf, 0, 1.0, 1.015625]  # ties go to even
    assert tally == CastTally(overflowed=1, flushed=1)


def test_between_the_two_types_of_16_bits():
    result, tally = cast(np.array([70144, 1e-20, 1.5], BFLOAT16), FLOAT16)
    assert result.tolist() == [np.inf, 0, 1.5] and tally == CastTally(overflowed=1, flushed=1)
    result, tally = cast(np.array([65504, 2.0**-24, 1.5], np.float16), BFLOAT16)
    assert result.astype(float).tolist() == [65536, 2.0**-24, 1.5] and tally == CastTally()


@pytest.mark.parametrize(("before", "after"), list(itertools.product(FLOATS, FLOATS)))
def test_every_cast_is_pytorchs_bit_for_bit(before, after):
    torch = pytest.importorskip("torch", reason="install the extra interop to compare with PyTorch")
    with np.errstate(over="ignore", invalid="ignore"):
        array = every_kind_of_value().astype(FLOATS[before])
    bits = {"float32": (np.int32, torch.int32)}
    numpy_bits, torch_bits = bits.get(before, (np.int16, torch.int16))
    theirs = torch.from_numpy(array.view(numpy_bits)).view(getattr(torch, before)).to(getattr(torch, after))
    numpy_bits, torch_bits = bits.get(after, (np.int16, torch.int16))
    ours, tally = cast(array, FLOATS[after])
    known = ~np.isnan(ours.astype(np.float32))
    assert np.array_equal(~known, theirs.isnan().numpy())
    assert np.array_equal(ours.view(numpy_bits)[known], theirs.view(torch_bits).numpy()[known])
    old, new = torch.from_numpy(array.astype(np.float32)), theirs.to(torch.float32)
    assert tally.overflowed == int((new.isinf() & old.isfinite()).sum())
    assert tally.flushed == int(((new == 0) & (old != 0)).sum())


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16])
def test_what_is_widened_comes_back_bit_for_bit(dtype):
    patterns = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    patterns = patterns[~np.isnan(patterns.astype(np.float32))]
    wide, tally = cast(patterns, FLOAT32)
    assert tally == CastTally()
    again, tally = cast(wide, dtype)
    assert np.array_equal(again.view(np.uint16), patterns.view(np.uint16)) and tally == CastTally()


def test_tallies_do_not_depend_on_chunks(monkeypatch):
    values = every_kind_of_value()
    whole, tally = cast(values, FLOAT16)
    monkeypatch.setattr(casting, "CHUNK", 1000)
    parts, again = cast(values, FLOAT16)
    assert again == tally and np.array_equal(parts.view(np.int16), whole.view(np.int16))
    assert tally.overflowed > 1000 and tally.flushed > 1000


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 0), (3, 5)])
def test_shapes_stay(shape):
    result, _ = cast(np.ones(shape, np.float32), FLOAT16)
    assert result.shape == shape and result.flags.c_contiguous


def test_the_same_type_is_the_same_array():
    array = np.ones(3, np.float32)
    assert cast(array, FLOAT32)[0] is array


def test_a_cast_needs_the_new_array_and_little_else():
    array = np.ones(8 << 20, np.float32)
    tracemalloc.start()
    result, _ = cast(array, FLOAT16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.nbytes <= peak < result.nbytes + (8 << 20)


@pytest.mark.parametrize("dtype", [np.dtype(np.float64), np.dtype(np.int32)])
def test_other_types_are_our_own_mistake(dtype):
    with pytest.raises(ValueError, match="only float32, float16, bfloat16"):
        cast(np.ones(2, np.float32), dtype)
    with pytest.raises(ValueError, match="only float32, float16, bfloat16"):
        cast(np.ones(2, dtype), FLOAT32)
