"""AdamW and AdamWeightDecay with float32 states: on a CPU one kernel for everything, elsewhere MindSpore's, one each.

MindSpore's kernel, ops.AdamWeightDecay, computes p -= lr * (m / (sqrt(v) + eps) + decay * p) without bias correction,
and so does the CPU's. The correction (Loshchilov and Hutter 2019, algorithm 2) folds into the three scalars that they
take, exactly: with c1 = 1 - beta1^t and c2 = 1 - beta2^t,

    lr' = lr * sqrt(c2) / c1        eps' = eps * sqrt(c2)        decay' = decay * lr / lr'

They are computed here in double precision from the step alone, so a resumed run needs no further state. Without the
correction the update is MindSpore's nn.AdamWeightDecay.
"""

import math
from collections.abc import Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindgeex.model_zoo.kernels import fused, library
from mindgeex.train.optimizer_config import OptimizerConfig


class AdamW(nn.Cell):
    """Updates the parameters that are trained, in place, and owns the two moments of each."""

    def __init__(self, parameters: Mapping[str, Parameter], config: OptimizerConfig):
        super().__init__()
        self.config = config
        parameters = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
        self.parameters = ParameterTuple(parameters.values())
        self.m = ParameterTuple([_zeros_like(parameter, f"adam_m.{name}") for name, parameter in parameters.items()])
        self.v = ParameterTuple([_zeros_like(parameter, f"adam_v.{name}") for name, parameter in parameters.items()])
        self.moments = {parameter.name: parameter for parameter in (*self.m, *self.v)}
        """Name -> parameter, as a checkpoint holds them."""
        self.decayed = tuple(parameter.ndim > 1 for parameter in self.parameters)
        self.map = ops.HyperMap()
        self.fused: Any = None
        self.fused_norm: Any = None
        if library.kernels_here() and all(parameter.dtype == ms.float32 for parameter in self.parameters):
            self.fused = fused.adam_weight_decay(self.decayed, config.beta1, config.beta2)
            self.fused_norm = fused.global_norm()

    def scalars(self, learning_rate: float, step: int) -> Tensor:
        """What `construct` takes, for step 0, 1, ...: [lr', eps', decay'] as float32."""
        corrected1 = corrected2 = 1.0
        if self.config.bias_correction:
            corrected1 = 1.0 - self.config.beta1 ** (step + 1)
            corrected2 = 1.0 - self.config.beta2 ** (step + 1)
        scaled = learning_rate * math.sqrt(corrected2) / corrected1
        decay = self.config.weight_decay * corrected1 / math.sqrt(corrected2)
        epsilon = self.config.epsilon * math.sqrt(corrected2)
        return Tensor(np.array([scaled, epsilon, decay], np.float32))

    def norm(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """The Euclidean norm of all gradients together, a scalar."""
        if self.fused_norm is not None:
            return self.fused_norm(*gradients)
        return global_norm(gradients)

    def construct(self, gradients: tuple[Tensor, ...], scalars: Tensor, factor: Tensor, applied: Tensor) -> Any:
        """One update. Gradients in the order of the parameters; they count `factor` times, a scalar.

        Nothing is changed where `applied`, a bool, is false.
        """
        if self.fused is not None:
            return self.fused(self.parameters, self.m, self.v, gradients, factor, scalars, applied)
        if applied:
            factor = ops.depend(factor, self.update(scaled(gradients, factor), scalars))
        return factor

    def update(self, gradients: tuple[Tensor, ...], scalars: Tensor) -> Any:
        """One update by MindSpore's kernel."""
        update = ops.partial(_update, self.config.beta1, self.config.beta2, scalars[0], scalars[1], scalars[2])
        return self.map(update, self.parameters, self.m, self.v, self.decayed, gradients)


def global_norm(gradients: tuple[Tensor, ...]) -> Tensor:
    """The Euclidean norm of all gradients together, a scalar."""
    return ops.sqrt(ops.addn(ops.HyperMap()(_square_sum, gradients)))


def scaled(gradients: tuple[Tensor, ...], factor: Tensor) -> tuple[Tensor, ...]:
    """Every gradient times a scalar."""
    return ops.HyperMap()(ops.partial(_times, factor), gradients)


_square_sum = ops.MultitypeFuncGraph("square_sum")
_times = ops.MultitypeFuncGraph("times")
_update = ops.MultitypeFuncGraph("update")
_kernel = ops.AdamWeightDecay()


@_square_sum.register("Tensor")
def _square_sum_of_tensor(gradient: Tensor) -> Tensor:
    return ops.square(gradient).sum()


@_times.register("Tensor", "Tensor")
def _tensor_times(factor: Tensor, gradient: Tensor) -> Tensor:
    return gradient * factor


@_update.register("Number", "Number", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Bool", "Tensor")
def _update_tensor(beta1, beta2, rate, epsilon, decay, parameter, m, v, decayed, gradient):  # noqa: ANN001, ANN202
    decay = decay if decayed else decay * 0.0
    return ops.depend(True, _kernel(parameter, m, v, rate, beta1, beta2, epsilon, decay, gradient))


def _zeros_like(parameter: Parameter, name: str) -> Parameter:
    moment = parameter.clone("zeros")  # a clone is cut over NPUs as its parameter is
    moment.name, moment.requires_grad = name, False
    return moment
