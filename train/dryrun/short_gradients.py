"""Gradients of communication that MindSpore parses quickly.

For every weight, MindSpore parses the Python functions that gather it and sum its gradient, of which nearly all lines
are for norms printed to a file, sparse gradients and the like. Here such a function is replaced, where none of that is
asked for, by one line that calls the operator which MindSpore made for it.
Covers: MindSpore 2.9; where its functions look different, they stay as they are. Does not cover: accumulation.
"""

import contextlib
from collections.abc import Callable
from typing import Any

OPERATORS = {"AllGather": "reduce_scatter", "_MirrorOperator": "all_reduce"}
"""Of whose gradient, and what the function calls the operator that makes it."""
OTHERS = ("mean_flag", "dump_local_norm", "dump_device_local_norm", "feat_value_dump_name")
"""What must be off, under the names that the function has for it."""


def shorten_gradients() -> None:
    """Shortens them for this process."""
    from mindspore.ops._grad_experimental.grad_base import bprop_getters
    from mindspore.ops.operations import comm_ops

    for name, operator in OPERATORS.items():
        getter = bprop_getters.get(name, None)
        if getter is not None:
            bprop_getters.register(getattr(comm_ops, name))(shortened(getter, operator))


def shortened(getter: Callable[[Any], Callable], name: str) -> Callable[[Any], Callable]:
    """The getter of a gradient, which gives one that does nothing but call the operator of this name."""

    def get(primitive: Any) -> Callable:
        whole = getter(primitive)
        found = enclosed(whole)
        operator = found.get(name)
        if operator is None or found.get("dev_num", 2) == 1 or any(found.get(other, True) for other in OTHERS):
            return whole

        def bprop(x, out, dout):  # noqa: ANN001, ANN202
            return (operator(dout),)

        return bprop

    return get


def enclosed(function: Callable) -> dict[str, Any]:
    """The variables of the functions around it that it uses, but those that have no value."""
    values = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):
            values[name] = cell.cell_contents
    return values
