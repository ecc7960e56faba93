"""Model FLOPs utilization: the FLOPs that a step needs, per second, over the matrix product's measured peak."""

import time

PEAK_SIZE = 2048
PEAK_S = 0.5
LEAST_PRODUCTS = 12
"""The peak is looked for so long, and over at least so many products: other programs slow some of them down."""


def measure_peak_flops(dtype: str) -> float:
    """Floating-point operations a second of the best of some square matrix products on this device.

    Args:
        dtype: of the products, as `compute.dtype`.
    """
    import mindspore as ms
    import numpy as np
    from mindspore import ops

    size = PEAK_SIZE
    a, b = (ms.Tensor(np.random.default_rng(s).standard_normal((size, size), np.float32)) for s in (1, 2))
    a, b = a.astype(getattr(ms, dtype)), b.astype(getattr(ms, dtype))
    product = ops.MatMul(transpose_b=True)
    product(a, b).asnumpy()
    seconds: list[float] = []
    while sum(seconds) < PEAK_S or len(seconds) < LEAST_PRODUCTS:
        started = time.perf_counter()
        product(a, b).asnumpy()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)
