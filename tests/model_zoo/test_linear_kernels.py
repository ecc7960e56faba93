"""Products of the fused kernels, on the matrix unit and without it, against float64."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.model_zoo.kernels import library
from tests.model_zoo.test_fused import call

pytestmark = pytest.mark.skipif(not library.kernels_here(), reason="needs a CPU with g++")


@pytest.fixture(params=["matrix unit", "vectors"])
def unit(request):
    """Both ways to multiply."""
    use = ctypes.CDLL(library.library_here()).use_matrix_unit
    if use(2 if request.param == "matrix unit" else 0) != (request.param == "matrix unit"):
        use(1)
        pytest.skip("this processor has no matrix unit")
    yield request.param
    use(1)


def largest_error(found, exact, terms):
    """In units of what the terms of a sum come to without their signs."""
    return (np.abs(found - exact) / np.maximum(terms, 1e-30)).max()


SIZE = st.integers(1, 150)


@given(
    rows=SIZE,
    inputs=SIZE,
    outputs=st.lists(SIZE, min_size=2, max_size=3),
    deep=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=25, deadline=None)
def layers_of_any_size(rows, inputs, outputs, deep, seed):
    rng = np.random.default_rng(seed)
    rows, inputs = rows + 700 * deep, inputs + 600 * deep  # beyond what is packed at once

    def drawn(*shapes):
        return [rng.normal(size=shape).astype(np.float32) for shape in shapes]

    (x,), dys = drawn((rows, inputs)), drawn(*((rows, size) for size in outputs))
    weights, biases = drawn(*((size, inputs) for size in outputs)), drawn(*outputs)
    ys, dx, dweights, dbiases = unset(dys), np.full_like(x, np.nan), unset(weights), unset(biases)
    call("two_linears" if len(outputs) == 2 else "three_linears", x, *weights, *biases, *ys)
    call("linear_inputs", *dys, *weights, dx)
    call("linear_weights", x, *dys, *dweights, *dbiases)
    exact = [[value.astype(np.float64) for value in values] for values in ([x], weights, biases, dys)]
    sizes = [[abs(value) for value in values] for values in exact]
    for found, expected, terms in zip((*ys, dx, *dweights, *dbiases), products(*exact), products(*sizes), strict=True):
        assert largest_error(found, expected, terms) < 5e-7


def unset(likes):
    return [np.full_like(like, np.nan) for like in likes]


def products(xs, weights, biases, dys):
    (x,) = xs
    ys = [x @ weight.T + bias for weight, bias in zip(weights, biases, strict=True)]
    dx = sum(dy @ weight for dy, weight in zip(dys, weights, strict=True))
    return *ys, dx, *(dy.T @ x for dy in dys), *(dy.sum(0) for dy in dys)


def test_layers_of_any_size_and_their_gradients_equal_float64(unit):
    layers_of_any_size()


@pytest.mark.parametrize("inner", [45, 333])  # either factor of the weights' gradient is the larger one
def test_a_layer_behind_a_gelu_and_its_gradients_equal_float64(unit, inner):
    rng = np.random.default_rng(inner)
    x, dy, w, b = (rng.normal(size=s).astype(np.float32) for s in ((170, inner), (170, 130), (130, inner), 130))
    y, dx, dw, db = (np.full_like(like, np.nan) for like in (dy, x, w, b))
    call("gelu_linear", x, w, b, y)
    call("gelu_linear_inputs", dy, w, x, dx)
    call("gelu_linear_weights", x, dy, dw, db)
    x, dy, w, b = (value.astype(np.float64) for value in (x, dy, w, b))
    gate = 1 / (1 + np.exp(-1.702 * x))
    slope = gate * (1 + 1.702 * x * (1 - gate))
    for found, exact in ((y, x * gate @ w.T + b), (dx, dy @ w * slope), (dw, dy.T @ (x * gate)), (db, dy.sum(0))):
        assert np.abs(found - exact).max() < 2e-6 * np.abs(exact).max()


def test_a_product_is_as_exact_as_float32_at_any_magnitude(unit):
    rng = np.random.default_rng(0)
    for scale in (1e-12, 1.0, 1e12):
        x, w = (rng.normal(size=shape).astype(np.float32) * np.float32(scale) for shape in ((256, 384), (256, 384)))
        y = np.empty((256, 256), np.float32)
        call("product", x, w, y)
        exact = x.astype(np.float64) @ w.T.astype(np.float64)
        in_turn = np.zeros_like(y)  # one term after the other: NumPy's own product adds as the processor likes it
        for left, right in zip(x.T, w.T, strict=True):
            in_turn += np.outer(left, right)
        assert np.abs(y - exact).mean() < 1.1 * np.abs(in_turn - exact).mean()


def test_what_is_no_number_stays_none(unit):
    for bad in (np.inf, np.nan):
        x, w, y = np.ones((40, 40), np.float32), np.ones((50, 40), np.float32), np.empty((40, 50), np.float32)
        x[3, 5] = bad
        call("product", x, w, y)
        assert not np.isfinite(y[3]).any() and np.array_equal(np.delete(y, 3, 0), np.full((39, 50), 40))
