"""The linear layers of linear.cc as MindSpore operators, each with its gradient (library.py says where they run)."""

# Shapes: I and O columns
from collections.abc import Callable

from mindspore import Tensor

from mindgeex.model_zoo.kernels.library import Shape, kernel


def _outputs_shapes(x: list[int], *weights_and_biases: list[int]) -> Shape:
    count = len(weights_and_biases) // 2
    return tuple([*x[:-1], weight[0]] for weight in weights_and_biases[:count])


def _inputs_shape(*dys_and_weights: list[int]) -> Shape:
    return [*dys_and_weights[0][:-1], dys_and_weights[-1][1]]


def _weights_shapes(x: list[int], *dys: list[int]) -> Shape:
    return *([dy[-1], x[-1]] for dy in dys), *([dy[-1]] for dy in dys)


def layer() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A linear layer: x [..., I], weight [O, I], bias [O] -> [..., O]."""
    to_inputs = kernel("linear_inputs", _inputs_shape)
    to_weights = kernel("linear_weights", _weights_shapes, 2)

    def bprop(x, weight, bias, out, dout):  # noqa: ANN001, ANN202
        dweight, dbias = to_weights(x, dout)
        return to_inputs(dout, weight), dweight, dbias

    return kernel("linear", lambda x, weight, bias: [*x[:-1], weight[0]], 1, bprop)


def gelu_layer() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A linear layer that reads x sigmoid(1.702 x): x [..., I], weight [O, I], bias [O] -> [..., O]."""
    to_inputs = kernel("gelu_linear_inputs", lambda dy, weight, x: x)
    to_weights = kernel("gelu_linear_weights", _weights_shapes, 2)

    def bprop(x, weight, bias, out, dout):  # noqa: ANN001, ANN202
        dweight, dbias = to_weights(x, dout)
        return to_inputs(dout, weight, x), dweight, dbias

    return kernel("gelu_linear", lambda x, weight, bias: [*x[:-1], weight[0]], 1, bprop)


def two_layers() -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Two linear layers of one input: x [..., I], their weights [O, I], their biases [O] -> twice [..., O]."""
    to_inputs = kernel("linear_inputs", _inputs_shape)
    to_weights = kernel("linear_weights", _weights_shapes, 4)

    def bprop(x, weight1, weight2, bias1, bias2, out, dout):  # noqa: ANN001, ANN202
        dweight1, dweight2, dbias1, dbias2 = to_weights(x, dout[0], dout[1])
        return to_inputs(dout[0], dout[1], weight1, weight2), dweight1, dweight2, dbias1, dbias2

    return kernel("two_linears", _outputs_shapes, 2, bprop)


def three_layers() -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]]:
    """Three linear layers of one input: x [..., I], their weights [O, I], their biases [O] -> thrice [..., O]."""
    to_inputs = kernel("linear_inputs", _inputs_shape)
    to_weights = kernel("linear_weights", _weights_shapes, 6)

    def bprop(x, weight1, weight2, weight3, bias1, bias2, bias3, out, dout):  # noqa: ANN001, ANN202
        dy1, dy2, dy3 = dout
        dweight1, dweight2, dweight3, dbias1, dbias2, dbias3 = to_weights(x, dy1, dy2, dy3)
        dx = to_inputs(dy1, dy2, dy3, weight1, weight2, weight3)
        return dx, dweight1, dweight2, dweight3, dbias1, dbias2, dbias3

    return kernel("three_linears", _outputs_shapes, 3, bprop)


def product() -> Callable[[Tensor, Tensor], Tensor]:
    """A linear layer without bias: x [..., I], weight [O, I] -> [..., O]."""
    to_inputs = kernel("linear_inputs", _inputs_shape)
    to_weights = kernel("linear_weights", lambda x, dy: [dy[-1], x[-1]])

    def bprop(x, weight, out, dout):  # noqa: ANN001, ANN202
        return to_inputs(dout, weight), to_weights(x, dout)

    return kernel("product", lambda x, weight: [*x[:-1], weight[0]], 1, bprop)
