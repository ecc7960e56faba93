"""MindSpore's operators in NumPy, by their documentation: one NPU's arithmetic, without any communication."""

# Shapes: as MindSpore's documentation of the operator says
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.train.dryrun.graph_text import TYPES, Node

erf = np.vectorize(math.erf, otypes=[np.float64])


def matmul(a: Any, b: Any, transpose_a: int, transpose_b: int) -> Any:
    return (a.swapaxes(-1, -2) if transpose_a else a) @ (b.swapaxes(-1, -2) if transpose_b else b)


def part(begin: tuple, end: tuple, strides: tuple) -> tuple[slice, ...]:
    """An end beyond the axis means its end: rows are counted before they are cut over dp."""
    return tuple(slice(*bounds) for bounds in zip(begin, end, strides, strict=True))


def strided_slice(x: Any, begin: tuple, end: tuple, strides: tuple, *masks: int) -> Any:
    """The masks are MindSpore's: begin, end, ellipsis, new axis, shrink axis; the first two are for axes not named."""
    found = x[part(begin, end, strides)]
    return found.reshape([size for axis, size in enumerate(found.shape) if not masks[4] >> axis & 1])


def strided_slice_grad(dy: Any, shape: tuple, begin: tuple, end: tuple, strides: tuple) -> Any:
    result = np.zeros(shape)
    result[part(begin, end, strides)] = dy
    return result


def softmax(x: Any, axis: Any) -> Any:
    shares = np.exp(x - x.max(axis, keepdims=True))
    return shares / shares.sum(axis, keepdims=True)


def softmax_backward(dy: Any, y: Any, axis: int) -> Any:
    return y * (dy - (dy * y).sum(axis, keepdims=True))


def layer_norm(x: Any, gamma: Any, beta: Any, norm_axis: int, params_axis: int, epsilon: float) -> Any:
    assert norm_axis == params_axis == -1
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta, mean, variance


def layer_norm_grad(x: Any, dy: Any, variance: Any, mean: Any, gamma: Any, *axes: int, epsilon: float = 1e-5) -> Any:
    scale = 1 / np.sqrt(variance + epsilon)
    normal, inner, rows = (x - mean) * scale, dy * gamma, tuple(range(x.ndim - 1))
    dx = inner - inner.mean(-1, keepdims=True) - normal * (inner * normal).mean(-1, keepdims=True)
    return scale * dx, (dy * normal).sum(rows), dy.sum(rows)


def segment_sum(x: Any, ids: Any, count: int) -> Any:
    result = np.zeros((count, *x.shape[ids.ndim :]))
    np.add.at(result, ids, x)
    return result


def reduce_sum(x: Any, axes: Any, keep_dims: int, *_: int) -> Any:
    return x.sum(axes or None, keepdims=bool(keep_dims))


def split_with_size(x: Any, widths: tuple, axis: int) -> Any:
    return tuple(np.split(x, np.cumsum(widths)[:-1], axis))


def assign_add(held: Any, value: Any, after: None) -> Any:
    """In place."""
    held += value
    return held


def assign(held: Any, value: Any, after: None) -> Any:
    """In place."""
    held[...] = value
    return held


OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": lambda a, b: a + b,
    "AddN": lambda values: sum(values[1:], values[0]),
    "Assign": assign,
    "AssignAdd": assign_add,
    "BatchMatMul": matmul,
    "BitwiseXor": lambda a, b: a ^ b,
    "Concat": lambda values, axis: np.concatenate(values, axis),
    "Cos": np.cos,
    "Cummax": lambda x, axis: (np.maximum.accumulate(x, axis), None),
    "Depend": lambda value, after: value,
    "Div": lambda a, b: a / b,
    "Divs": lambda a, b: a / b,
    "Equal": lambda a, b: a == b,
    "Erf": erf,
    "Exp": np.exp,
    "ExpandDims": np.expand_dims,
    "Gather": lambda table, ids, axis, batch_dims: table.take(ids, axis),
    "GreaterEqual": lambda a, b: a >= b,
    "LayerNorm": layer_norm,
    "LayerNormGrad": layer_norm_grad,
    "Less": lambda a, b: a < b,
    "LessEqual": lambda a, b: a <= b,
    "Load": lambda value, after: value.copy(),
    "Log": np.log,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
    "MakeTuple": lambda *values: values,
    "MatMul": matmul,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Mul": lambda a, b: a * b,
    "Muls": lambda a, factor: (a * np.asarray(factor, a.dtype)).astype(a.dtype),
    "Neg": lambda a: -a,
    "PowTensorScalar": lambda a, exponent: a**exponent,
    "ReLU": lambda a: np.maximum(a, 0),
    "RealDiv": lambda a, b: a / b,
    "Reciprocal": lambda a: 1 / a,
    "ReduceMax": lambda x, axes, keep_dims: x.max(axes, keepdims=bool(keep_dims)),
    "ReduceSum": reduce_sum,
    "Reshape": lambda x, shape: x.reshape(shape),
    "RightShift": lambda a, b: a >> b,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "SigmoidGrad": lambda y, dy: dy * y * (1 - y),
    "Sin": np.sin,
    "Softmax": softmax,
    "SoftmaxBackward": softmax_backward,
    "SplitWithSize": split_with_size,
    "Sqrt": np.sqrt,
    "Square": np.square,
    "StridedSlice": strided_slice,
    "StridedSliceGrad": strided_slice_grad,
    "Sub": lambda a, b: a - b,
    "SumExt": lambda x, axes, keep_dims, dtype: reduce_sum(x, axes, keep_dims),
    "TensorMove": lambda value: value.copy(),
    "Tile": np.tile,
    "Transpose": np.transpose,
    "TupleGetItem": lambda values, index: values[index],
    "UnsortedSegmentSum": segment_sum,
    "UpdateState": lambda *after: None,
}


def adam_weight_decay(
    p: Any, m: Any, v: Any, rate: Any, beta1: Any, beta2: Any, epsilon: Any, decay: Any, gradient: Any, *_: Any
) -> None:
    """In place, as MindSpore's ops.AdamWeightDecay documents it: without bias correction."""
    m[...] = beta1 * m + (1 - beta1) * gradient
    v[...] = beta2 * v + (1 - beta2) * gradient**2
    p -= rate * (m / (np.sqrt(v) + epsilon) + decay * p)


def evaluate(node: Node, inputs: list[Any]) -> Any:
    """What an operator makes of its inputs; its shape has to be the one that MindSpore inferred.

    Raises:
        NotImplementedError: it has no arithmetic here.
    """
    if node.operator == "Cast":
        result = inputs[0].astype(TYPES[node.dtype])
    elif node.operator in OPERATORS:
        result = OPERATORS[node.operator](*inputs)
    else:
        raise NotImplementedError(f"{node.operator} is not in arithmetic.py: add it")
    if node.shape is not None:
        result = np.asarray(result)
        assert result.shape == node.shape, f"{node.target} {node.operator}: {result.shape}, not {node.shape}"
    return result
