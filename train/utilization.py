"""Model FLOPs utilization: the FLOPs that a step needs, per second, over the matrix product's measured peak."""

import time
from collections.abc import Callable
from typing import Any

SIZES = (1024, 2048, 4096, 8192)
LEAST_PRODUCT_S = 0.004
"""Products are made larger until one takes so long: shorter ones measure how fast they are started."""
PEAK_S = 0.2
LEAST_PRODUCTS = 12
"""The peak is looked for so long, and over at least so many products: other programs slow some of them down."""


def measure_peak_flops(dtype: str) -> float:
    """Floating-point operations a second of the best of some square matrix products on this device.

    Args:
        dtype: of the products, as `compute.dtype`.
    """
    from mindspore import ops

    from mindgeex.model_zoo.kernels import library, linear

    operators = [ops.MatMul(transpose_b=True)]
    if dtype == "float32" and library.kernels_here():  # a step uses it, and it may be the quicker one
        operators.append(linear.product())
    return max(_peak(operator, dtype) for operator in operators)


def _peak(operator: Callable[..., Any], dtype: str) -> float:
    for size in SIZES:
        product = _product(operator, size, dtype)
        seconds = [_seconds(product)]
        if seconds[0] >= LEAST_PRODUCT_S:
            break
    while sum(seconds) < PEAK_S or len(seconds) < LEAST_PRODUCTS:
        seconds.append(_seconds(product))
    return 2 * size**3 / min(seconds)


def _product(operator: Callable[..., Any], size: int, dtype: str) -> Callable[[], object]:
    """Multiplies two matrices of random numbers, and has done so once."""
    import mindspore as ms
    import numpy as np

    a, b = (ms.Tensor(np.random.default_rng(s).standard_normal((size, size), np.float32)) for s in (1, 2))
    a, b = a.astype(getattr(ms, dtype)), b.astype(getattr(ms, dtype))
    operator(a, b).asnumpy()
    return lambda: operator(a, b).asnumpy()


def _seconds(product: Callable[[], object]) -> float:
    started = time.perf_counter()
    product()
    return time.perf_counter() - started
