"""One training step: forward, backward, sum over micro batches and workers, clip, update.

Gradients are those of the weighted sum of nats, so they add up over micro batches and workers; one division by the sum
of the weights makes means of them. How rows are split over either therefore changes nothing but the order of additions.

Covers: float32, and half precision under a loss scale; a step that is not finite or beyond limits changes nothing.
"""

# Shapes: B rows of a micro batch, S sequence
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops, value_and_grad
from mindspore.common.initializer import initializer

from mindgeex.train.batch import BatchPlan
from mindgeex.train.feed import Batch, dropout_seeds
from mindgeex.train.loss import TokenLoss, WeightedLoss
from mindgeex.train.optimizer import AdamW

NO_LIMIT = float(np.finfo(np.float32).max)
"""A loss or norm beyond it is not finite."""


@dataclass(frozen=True)
class Outcome:
    """What a step came to, the same on every worker."""

    loss: float
    """Mean nats over the labels that count."""
    grad_norm: float
    """Of the mean's gradient, before clipping."""
    weight: float
    """Sum of the labels' weights."""
    votes: float
    """Workers that asked to stop."""
    applied: bool
    """False: loss or norm was not finite or beyond its limit, and nothing was changed."""

    @property
    def is_finite(self) -> bool:
        """Whether loss and norm are numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


class Gradients(nn.Cell):
    """A micro batch's scaled sum of nats, and its gradients."""

    def __init__(self, loss: WeightedLoss, optimizer: AdamW):
        super().__init__()
        self.loss = loss
        self.value_and_grad = value_and_grad(loss, None, weights=optimizer.parameters)

    def construct(
        self, rows_BS1: Tensor, weights_BS: Tensor, seeds_B: Tensor, factor: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Rows, weights, seeds, what the sum is multiplied with -> the sum, and a gradient for each parameter."""
        return self.value_and_grad(rows_BS1, weights_BS, seeds_B, factor)


class SumOverWorkers(nn.Cell):
    """Adds up what each worker has, in one exchange: one a gradient takes many times as long."""

    def __init__(self) -> None:
        super().__init__()
        self.all_reduce, self.join = ops.AllReduce(), ops.Concat()

    def construct(
        self, total: Tensor, sums: Tensor, gradients: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """A scalar, float32 [2], and any shapes -> the same, of all workers."""
        joined = self.all_reduce(self.join([total.reshape(1), sums, *[g.reshape(-1) for g in gradients]]))
        parts, start = [], 3
        for gradient in gradients:
            parts.append(joined[start : start + gradient.size].reshape(gradient.shape))
            start += gradient.size
        return joined[0], joined[1:3], tuple(parts)


class Update(nn.Cell):
    """Sums over workers, then clips and updates, unless the step is to change nothing."""

    def __init__(self, optimizer: AdamW, workers: int):
        super().__init__()
        self.optimizer = optimizer
        self.max_norm = optimizer.config.max_grad_norm
        self.over_workers = SumOverWorkers() if workers > 1 else None

    def construct(
        self,
        total: Tensor,
        gradients: tuple[Tensor, ...],
        factor: Tensor,
        sums: Tensor,
        limits: Tensor,
        scalars: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One update.

        Args:
            total: this worker's sum of nats, times `factor`.
            gradients: of `total`.
            factor: what the loss was multiplied with.
            sums: float32 [2], this worker's weight and its vote to stop.
            limits: float32 [2], the highest loss and the highest norm that are applied.
            scalars: of the optimizer.

        Returns:
            Loss, gradient norm before clipping, `sums` over all workers, and whether the update was made.
        """
        if self.over_workers is not None:
            total, sums, gradients = self.over_workers(total, sums, gradients)
        unscale = 1.0 / (factor * ops.maximum(sums[0], 1e-5))
        loss, norm = total * unscale, self.optimizer.norm(gradients) * unscale
        applied = ops.logical_and(loss <= limits[0], norm <= limits[1])  # false for what is not a number
        clip = unscale * self.max_norm / ops.maximum(norm, self.max_norm)
        return ops.depend(loss, self.optimizer(gradients, scalars, clip, applied)), norm, sums, applied


class WholeStep(nn.Cell):
    """A step of one micro batch, as one graph."""

    def __init__(self, gradients: Gradients, update: Update):
        super().__init__()
        self.gradients, self.update = gradients, update

    def construct(
        self,
        rows_BS1: Tensor,
        weights_BS: Tensor,
        seeds_B: Tensor,
        factor: Tensor,
        sums: Tensor,
        limits: Tensor,
        scalars: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The arguments of `Gradients` and `Update` -> what `Update` returns."""
        total, gradients = self.gradients(rows_BS1, weights_BS, seeds_B, factor)
        return self.update(total, gradients, factor, sums, limits, scalars)

    @property
    def compile_phase(self) -> str:
        """Which graph a call runs. MindSpore tells every cell below before each call, which costs milliseconds."""
        return self._compile_phase

    @compile_phase.setter
    def compile_phase(self, phase: str) -> None:
        if phase != self._compile_phase:
            nn.Cell.compile_phase.fset(self, phase)


class Accumulate(nn.Cell):
    """Adds a micro batch's gradients to the sums that `UpdateFromSums` uses."""

    def __init__(self, gradients: Gradients, sums: ParameterTuple):
        super().__init__()
        self.gradients, self.sums = gradients, sums

    def construct(self, rows_BS1: Tensor, weights_BS: Tensor, seeds_B: Tensor, factor: Tensor) -> Tensor:
        """The arguments of `Gradients` -> the scaled sum of nats."""
        total, gradients = self.gradients(rows_BS1, weights_BS, seeds_B, factor)
        return ops.depend(total, ops.HyperMap()(_add, self.sums, gradients))


class UpdateFromSums(nn.Cell):
    """Updates with the accumulated gradients, and empties the sums."""

    def __init__(self, update: Update, accumulated: ParameterTuple):
        super().__init__()
        self.update, self.accumulated = update, accumulated

    def construct(
        self, total: Tensor, factor: Tensor, sums: Tensor, limits: Tensor, scalars: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The arguments of `Update` but the gradients -> what it returns."""
        loss, norm, sums, applied = self.update(total, self.accumulated, factor, sums, limits, scalars)
        loss = ops.depend(loss, (norm, applied))
        return ops.depend(loss, ops.HyperMap()(ops.partial(_empty, loss), self.accumulated)), norm, sums, applied


_add = ops.MultitypeFuncGraph("add")
_empty = ops.MultitypeFuncGraph("empty")


@_add.register("Tensor", "Tensor")
def _add_tensor(accumulated, gradient):  # noqa: ANN001, ANN202
    return ops.assign_add(accumulated, gradient)


@_empty.register("Tensor", "Tensor")
def _empty_tensor(after, accumulated):  # noqa: ANN001, ANN202
    return ops.assign(accumulated, ops.zeros_like(ops.depend(accumulated, after)))


class TrainStep:
    """Runs the cells of a step on one worker's rows."""

    def __init__(self, token_loss: TokenLoss, optimizer: AdamW, plan: BatchPlan, seed: int):
        self.optimizer, self.plan, self.seed = optimizer, plan, seed
        gradients, update = Gradients(WeightedLoss(token_loss), optimizer), Update(optimizer, plan.workers)
        if plan.accumulate == 1:
            self.whole = WholeStep(gradients, update).set_train()
        else:
            sums = ParameterTuple(
                [
                    Parameter(initializer("zeros", p.shape, p.dtype), name=f"grad_sum.{p.name}", requires_grad=False)
                    for p in optimizer.parameters
                ]
            )
            self.accumulate = Accumulate(gradients, sums).set_train()
            self.update = UpdateFromSums(update, sums).set_train()

    def __call__(
        self,
        batch: Batch,
        scalars: Tensor,
        loss_scale: float = 1.0,
        limits: Sequence[float] = (NO_LIMIT, NO_LIMIT),
        vote: bool = False,
    ) -> Outcome:
        """One step.

        Args:
            batch: this worker's rows.
            scalars: of the optimizer.
            loss_scale: of half precision.
            limits: the highest loss and the highest gradient norm that are applied.
            vote: whether this worker asks to stop after this step.
        """
        # The mean's magnitude, as loss scales are meant for; exact for the powers of two that sizes usually are.
        factor = _float32(loss_scale / self.plan.tokens)
        sums = _float32([float(batch.weights_BS.sum(dtype=np.float64)), float(vote)])
        arguments = (factor, sums, _float32(np.minimum(limits, NO_LIMIT)), scalars)
        seeds_B = dropout_seeds(self.seed, batch.slots_B)
        parts = [
            tuple(ms.Tensor(np.ascontiguousarray(array[start : start + self.plan.micro_rows])) for array in
                  (batch.rows_BS1, batch.weights_BS, seeds_B))
            for start in range(0, self.plan.worker_rows, self.plan.micro_rows)
        ]  # fmt: skip
        if self.plan.accumulate == 1:
            loss, norm, sums, applied = self.whole(*parts[0], *arguments)
        else:
            total = sum(self.accumulate(*part, factor) for part in parts)
            loss, norm, sums, applied = self.update(total, *arguments)
        weight, votes = sums.asnumpy().tolist()
        return Outcome(float(loss), float(norm), weight, votes, bool(applied))


def _float32(values: Any) -> Tensor:
    return Tensor(np.array(values, np.float32))
