"""LoRA: a frozen network whose linear layers get a small trained addition (Hu et al. 2021, arXiv 2106.09685).

A layer y = x W^T + b becomes y = x W^T + b + (alpha / rank) (x A^T) B^T, with A [rank, in] normal and B [out, rank]
zero, so that it begins as it was. Only A and B are trained. Merged, W + (alpha / rank) B A is a plain layer again.
With dropout, the addition sees x with some values dropped and the others scaled, as drawn from the rows' seeds.

Covers: the Linear layers of both families by the names of their attributes, in float32 and half precision, with the
model's own dropout and recomputation. Does not cover: embeddings and with them CodeGeeX's head, which is one; int8
weights.
"""

# Shapes: I inputs, O outputs, R rank, N rows of tokens
from collections.abc import Iterator, Mapping

import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.nn.utils import no_init_parameters

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import ComputeConfig
from mindgeex.model_zoo.families import Model
from mindgeex.model_zoo.layers import Dropout, Linear
from mindgeex.model_zoo.lora_config import LoraConfig


class LoraLinear(nn.Cell):
    """y = x W^T + b + scale (drop(x) A^T) B^T; takes the place of a Linear and keeps its W and b, frozen."""

    def __init__(self, linear: Linear, config: LoraConfig, lora_a_RI: np.ndarray, salt: int):
        super().__init__()
        self.in_size, self.out_size, self.dtype = linear.in_size, linear.out_size, linear.dtype
        self.scale = config.scale
        self.weight, self.bias = linear.weight, linear.bias
        self.lora_a = Parameter(Tensor(lora_a_RI), name="lora_a")
        self.lora_b = Parameter(Tensor(np.zeros((self.out_size, config.rank), np.float32)), name="lora_b")
        self.matmul, self.add = ops.MatMul(transpose_b=True), ops.Add()
        self.dropout = Dropout(config.dropout, salt) if config.dropout else None

    def construct(self, x_BTI: Tensor, seeds_B: Tensor | None = None) -> Tensor:
        """[B, ..., in], and in training with dropout the rows' seeds, int32 -> [B, ..., out]."""
        x_NI = x_BTI.astype(self.dtype).reshape(-1, self.in_size)
        y_NO = self.matmul(x_NI, self.weight.astype(self.dtype))
        if self.bias is not None:
            y_NO = self.add(y_NO, self.bias.astype(self.dtype))
        if self.dropout is not None:
            x_NI = self.dropout(x_BTI.astype(self.dtype), seeds_B).reshape(-1, self.in_size)
        down_NR = self.matmul(x_NI, self.lora_a.astype(self.dtype))
        y_NO = y_NO + self.matmul(down_NR * self.scale, self.lora_b.astype(self.dtype))
        return y_NO.reshape(x_BTI.shape[:-1] + (self.out_size,))


def add_lora(model: Model, config: LoraConfig, seed: int = 0) -> None:
    """Puts a LoraLinear in the place of every target, in place, and freezes all but A and B.

    A depends on the seed and on the layer's place in the network alone.

    Raises:
        UserError: the model has none of the targets, or has additions already.
    """
    if adapter_parameters(model):
        raise UserError("this model has LoRA additions already: merge them first")
    places = [place for place in _linears(model, Linear) if place[1] in config.targets]
    missing = [target for target in config.targets if all(name != target for _, name, _ in places)]
    if missing:
        raise UserError(f"lora.targets has {missing[0]!r}, but a {model.config.family} model has no linear layer of it")
    for parameter in model.get_parameters():
        parameter.requires_grad = False
    for index, (cell, name, linear) in enumerate(places):
        random = np.random.Generator(np.random.Philox(key=[seed, index]))
        lora_a_RI = random.normal(0, linear.in_size**-0.5, (config.rank, linear.in_size)).astype(np.float32)
        # The salts of the model's own dropouts are up to 4 num_layers.
        setattr(cell, name, LoraLinear(linear, config, lora_a_RI, 4 * model.config.num_layers + 1 + index))
    _name_by_path(model)


def adapter_parameters(model: nn.Cell) -> dict[str, Parameter]:
    """Name -> parameter of all additions, such as `blocks.0.attention.query.lora_a`. Empty for a plain model."""
    return {
        path: parameter for path, parameter in model.parameters_and_names() if path.endswith((".lora_a", ".lora_b"))
    }


def merge(model: Model) -> None:
    """Adds every addition to its layer's weights, in place; what is left is the plain network, trainable as a whole."""
    for cell, name, lora in _linears(model, LoraLinear):
        _put_back(cell, name, lora, _added(lora.weight.asnumpy(), _product(lora, lora.scale)))
    _name_by_path(model)
    for parameter in model.get_parameters():
        parameter.requires_grad = True


def unmerge(model: Model, config: LoraConfig, adapter: Mapping[str, np.ndarray]) -> None:
    """Takes the additions out of the weights of a plain network that they were merged into, in place.

    The weights are the original ones but for float32's rounding of the sum: half a unit in its last place.

    Args:
        model: merged.
        config: of the additions.
        adapter: name -> A or B, as `adapter_parameters` names them.

    Raises:
        UserError: the additions are not of this model's layers.
    """
    weights = {f"{path}.weight": cell for path, cell in model.cells_and_names() if isinstance(cell, Linear)}
    names = {name.removesuffix(".lora_a") for name in adapter if name.endswith(".lora_a")}
    for name in sorted(names):
        linear, lora_b_OR = weights.get(f"{name}.weight"), adapter.get(f"{name}.lora_b")
        if linear is None or lora_b_OR is None:
            raise UserError(
                f"the adapter adds to {name}, which this model does not have: give the model it was made for"
            )
        product_OI = config.scale * (lora_b_OR.astype(np.float64) @ adapter[f"{name}.lora_a"].astype(np.float64))
        if product_OI.shape != linear.weight.shape:
            raise UserError(
                f"the adapter adds {list(product_OI.shape)} to {name}, which is {list(linear.weight.shape)}: "
                "give the model it was made for"
            )
        linear.weight.set_data(Tensor(_added(linear.weight.asnumpy(), -product_OI)))


def _product(lora: LoraLinear, scale: float) -> np.ndarray:
    return scale * (lora.lora_b.asnumpy().astype(np.float64) @ lora.lora_a.asnumpy().astype(np.float64))


def _added(weight_OI: np.ndarray, product_OI: np.ndarray) -> np.ndarray:
    return (weight_OI.astype(np.float64) + product_OI).astype(weight_OI.dtype)


def _put_back(cell: nn.Cell, name: str, lora: LoraLinear, weight_OI: np.ndarray) -> None:
    """A plain Linear with these weights and the bias in the place of a LoraLinear."""
    compute = ComputeConfig(dtype=str(lora.dtype).lower())
    with no_init_parameters():
        linear = Linear(lora.in_size, lora.out_size, 0.0, compute, bias=lora.bias is not None)
    lora.weight.set_data(Tensor(weight_OI))
    lora.lora_b.set_data(Tensor(np.zeros(lora.lora_b.shape, np.float32)))  # a graph compiled before still adds it
    linear.weight, linear.bias = lora.weight, lora.bias
    setattr(cell, name, linear)


def _linears(cell: nn.Cell, kind: type[nn.Cell]) -> Iterator[tuple[nn.Cell, str, nn.Cell]]:
    """Every layer of a kind below a cell: the cell that holds it, its name there, and itself."""
    for name, child in list(cell.name_cells().items()):
        if isinstance(child, kind):
            yield cell, name, child
        else:
            yield from _linears(child, kind)


def _name_by_path(model: nn.Cell) -> None:
    """A cell that comes in later names its parameters as if it stood alone."""
    for path, parameter in model.parameters_and_names():
        parameter.name = path
