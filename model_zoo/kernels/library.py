"""The library of this folder's C++ files, and its functions as MindSpore operators.

MindSpore's own CPU kernels do not use a processor's matrix unit, and those of what stands between the matrix products
take as long as a third of a step. The cells ask `kernels_here` once, when they are built, and compose MindSpore's
operators where the answer is no: that graph is the one that Ascend compiles.
Covers: float32 on a CPU with g++. Does not cover: half precision (the cells compose it), other compilers, a fork of a
process that has computed.
"""

import logging
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import ops

from mindgeex.model_zoo.shared_library import CannotCompile, shared_library

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
# What -ffast-math stands for, but for its own start-up code, which takes denormal numbers from the whole process.
FAST = ("-fno-math-errno", "-fassociative-math", "-freciprocal-math", "-fno-signed-zeros", "-fno-trapping-math")
WIDE = ("-mprefer-vector-width=512",) if platform.machine() == "x86_64" else ()  # where there are such vectors
OPTIONS = ("-std=c++17", "-O3", "-march=native", *WIDE, *FAST, "-pthread", "-shared", "-fPIC")
Shape = list[int] | tuple[list[int], ...]


def kernels_here() -> bool:
    """True where the fused kernels run: a CPU with a compiler."""
    return ms.get_context("device_target") == "CPU" and library_here() is not None


def name_here() -> str:
    """What last digits depend on: the library, named after sources, compiler and processor, or composed."""
    return Path(str(library_here())).parent.name if kernels_here() else "composed"


@cache
def library_here() -> str | None:
    """Path of the library for this machine's processor, compiled into the user's cache the first time."""
    try:
        return str(shared_library("training", FOLDER, OPTIONS))
    except CannotCompile as error:
        logger.warning("no fused kernels here, so training takes longer and its numbers differ in rounding: %s", error)
        return None


def kernel(name: str, out_shape: Callable[..., Shape], outputs: int = 1, bprop: Callable | None = None) -> Any:
    """A function of the library as an operator of float32 tensors.

    Args:
        name: of the function. MindSpore finds a gradient by it: what has several gradients has several names.
        out_shape: from the inputs' shapes.
        outputs: how many there are.
        bprop: its gradient, as ops.Custom takes it.
    """

    def out_dtype(*_: object) -> Any:
        return ms.float32 if outputs == 1 else (ms.float32,) * outputs

    return ops.Custom(f"{library_here()}:{name}", out_shape, out_dtype, func_type="aot", bprop=bprop)
