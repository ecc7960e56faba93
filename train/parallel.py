"""One training step over a mesh of NPUs: the sharded forward pass, its derivative, and an update of what an NPU holds.

MindSpore's partitioner cuts the loss and what it calls; its derivative follows. What comes after the derivative works
on an NPU's own slices, so the global norm is summed there over slices, each divided by the NPUs that hold it alike:

    norm^2 = sum over NPUs and tensors of |slice|^2 / copies

which is the norm of the whole under every layout.
Covers: rows over dp, layers over mp, optimizer sharding (HSDP) of levels 1 to 3, one micro batch a step.
Does not cover: pipeline stages, accumulation over micro batches.
"""

# Shapes: B rows of all NPUs, S sequence, V vocabulary, N = B*S
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops, value_and_grad

from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.sharding import Cuts
from mindgeex.train.optimizer import AdamW
from mindgeex.train.parallel_config import ParallelConfig


class ParallelLoss(nn.Cell):
    """The weighted sum of nats, from logits that stay cut by the vocabulary.

    Three numbers a label go around: the highest logit, the sum of exponentials, and the label's own logit.
    """

    def __init__(self, model: nn.Cell, vocab_size: int):
        super().__init__()
        self.model = model
        self.cut_inputs, self.cut_labels = ops.StridedSlice(), ops.StridedSlice()
        self.highest, self.less, self.exp = ops.ReduceMax(keep_dims=True), ops.Sub(), ops.Exp()
        self.total, self.log = ops.ReduceSum(keep_dims=True), ops.Log()
        self.same, self.pick, self.chosen = ops.Equal(), ops.Mul(), ops.ReduceSum(keep_dims=True)
        self.nats, self.weigh, self.sum, self.scale = ops.Sub(), ops.Mul(), ops.ReduceSum(), ops.Mul()
        self.ids_1V = Tensor(np.arange(vocab_size, dtype=np.int32).reshape(1, -1))

    def construct(self, rows_BS1: Tensor, weights_BS: Tensor, seeds_B: Tensor, factor: Tensor) -> Tensor:
        """The arguments of `WeightedLoss` -> scalar."""
        rows, length = rows_BS1.shape
        inputs_BS = self.cut_inputs(rows_BS1, (0, 0), (rows, length - 1), (1, 1))
        labels_N1 = self.cut_labels(rows_BS1, (0, 1), (rows, length), (1, 1)).reshape(-1, 1)
        logits_BSV = self.model(inputs_BS, seeds_B)
        logits_NV = logits_BSV.reshape(-1, logits_BSV.shape[-1]).astype(ms.float32)
        shifted_NV = self.less(logits_NV, ops.stop_gradient(self.highest(logits_NV, 1)))
        is_label_NV = self.same(labels_N1, self.ids_1V).astype(ms.float32)
        own_N1 = self.chosen(self.pick(shifted_NV, is_label_NV), 1)
        nats_N1 = self.nats(self.log(self.total(self.exp(shifted_NV), 1)), own_N1)
        return self.scale(self.sum(self.weigh(nats_N1.reshape(rows, length - 1), weights_BS)), factor)


def loss_plan(dp: int, mp: int) -> dict[str, Cuts]:
    """Operators of `ParallelLoss` -> how their inputs are cut."""
    rows, logits = (dp, 1), (dp, mp)
    return {
        "cut_inputs": (rows,),
        "cut_labels": (rows,),
        "highest": (logits,),
        "less": (logits, rows),
        "exp": (logits,),
        "total": (logits,),
        "log": (rows,),
        "same": (rows, (1, mp)),
        "pick": (logits, logits),
        "chosen": (logits,),
        "nats": (rows, rows),
        "weigh": (rows, rows),
        "sum": (rows,),
        "scale": ((), ()),
    }


def slices_of(name: str, shape: tuple[int, ...], plan: dict[str, Cuts], parallel: ParallelConfig) -> int:
    """Into how many different slices a parameter is cut, over mp and over the optimizer's shards."""
    from mindgeex.model_zoo.sharding import cuts_of

    cuts = cuts_of(name, plan)
    over_mp = int(np.prod(cuts, dtype=np.int64)) if cuts else 1
    first = shape[0] // (cuts[0] if cuts else 1)
    return over_mp * (parallel.optimizer_shard if first % parallel.optimizer_shard == 0 else 1)


_square_sum = ops.MultitypeFuncGraph("shared_square_sum")


@_square_sum.register("Number", "Tensor")
def _square_sum_of_slice(share: float, gradient: Tensor) -> Tensor:
    return ops.square(gradient).sum() * share


class ParallelUpdate(nn.Cell):
    """Clips by the global norm and updates the slices, unless the step is to change nothing."""

    def __init__(self, optimizer: AdamW, shares: tuple[float, ...], mp: int):
        super().__init__()
        self.optimizer, self.shares, self.row_share = optimizer, shares, 1.0 / mp
        self.max_norm = optimizer.config.max_grad_norm
        self.sum_votes, self.sum_squares = ops.AllReduce(), ops.AllReduce()
        # Not arguments: MindSpore's partitioner takes every argument of a step for rows of the data.
        self.sums = Parameter(Tensor(np.zeros(2, np.float32)), name="step.sums", requires_grad=False)
        self.limits = Parameter(Tensor(np.zeros(2, np.float32)), name="step.limits", requires_grad=False)
        self.scalars = Parameter(Tensor(np.zeros(3, np.float32)), name="step.scalars", requires_grad=False)

    def construct(
        self, total: Tensor, gradients: tuple[Tensor, ...], factor: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As step.Update, whose other arguments are parameters here; `total` and `gradients` are of all rows."""
        limits, scalars = self.limits, self.scalars
        sums = self.sum_votes(self.sums) * self.row_share  # all NPUs of an mp group have the same rows
        unscale = 1.0 / (factor * ops.maximum(sums[0], 1e-5))
        squares = ops.addn(ops.HyperMap()(_square_sum, self.shares, gradients))
        loss, norm = total * unscale, ops.sqrt(self.sum_squares(squares)) * unscale
        applied = ops.logical_and(loss <= limits[0], norm <= limits[1])  # false for what is not a number
        if applied:
            clip = unscale * self.max_norm / ops.maximum(norm, self.max_norm)
            loss = ops.depend(loss, self.optimizer(gradients, scalars, clip))
        return loss, norm, sums, applied


class ParallelStep(nn.Cell):
    """A whole step as one graph."""

    def __init__(self, loss: ParallelLoss, update: ParallelUpdate):
        super().__init__()
        self.update = update
        self.value_and_grad = value_and_grad(loss, None, weights=update.optimizer.parameters)

    def construct(
        self, rows_BS1: Tensor, weights_BS: Tensor, seeds_B: Tensor, factor: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """An NPU's rows -> what `ParallelUpdate` returns."""
        total, gradients = self.value_and_grad(rows_BS1, weights_BS, seeds_B, factor)
        return self.update(total, gradients, factor)


def parallel_step(model: Any, optimizer: AdamW, config: ModelConfig, parallel: ParallelConfig, flash: bool) -> Any:
    """The step of a model whose operators are told how they are cut, ready to be compiled or called.

    Raises:
        UserError: mp does not fit the model.
    """
    from mindspore.parallel.auto_parallel import AutoParallel

    from mindgeex.model_zoo.sharding import shard, sharding_plan

    dp, mp = parallel.dp, parallel.mp
    plan = sharding_plan(config, dp, mp, flash)
    shard(model, plan)
    loss = ParallelLoss(model, config.vocab_size)
    for name, cuts in loss_plan(dp, mp).items():
        getattr(loss, name).shard(cuts)
    names = [name.removeprefix("adam_m.") for name in (m.name for m in optimizer.m)]
    slices = [slices_of(name, config.shapes[name], plan, parallel) for name in names]
    update = ParallelUpdate(optimizer, tuple(count / parallel.npus for count in slices), mp)
    loss.set_train()  # not a cell of the step, which holds only its derivative
    step = AutoParallel(ParallelStep(loss, update).set_train(), "semi_auto")
    step.dataset_strategy(((dp, 1), (dp, 1), (dp,), ()))
    if parallel.optimizer_shard > 1:
        step.hsdp(parallel.optimizer_shard, 0, parallel.optimizer_level)
    return step
