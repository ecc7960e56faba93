"""One training step over a mesh of NPUs: the sharded forward pass, its derivative, and an update of what an NPU holds.

MindSpore's partitioner cuts the loss and what it calls; its derivative follows. What comes after the derivative works
on an NPU's own slices, so the global norm is summed there over slices, each divided by the NPUs that hold it alike:

    norm^2 = sum over NPUs and tensors of |slice|^2 / copies

which is the norm of the whole under every layout.
With stages or micro batches the derivative adds up in accumulators, one a weight; MindSpore finds them by their names.
Covers: rows over dp, layers over mp, optimizer sharding (HSDP) of levels 1 to 3, micro batches, pipeline stages.
Does not cover: how the rows of a micro batch reach the later stages (every stage is fed them).
"""

# Shapes: B rows of all NPUs, S sequence, V vocabulary, N = B*S
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops, value_and_grad

from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.sharding import Cuts
from mindgeex.train.batch import BatchPlan
from mindgeex.train.optimizer import AdamW, scaled
from mindgeex.train.parallel_config import ParallelConfig
from mindgeex.train.pipeline import check_pieces, of_two_stages, optimizer_pieces, stages


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
        self.nats, self.weigh, self.sum = ops.Sub(), ops.Mul(), ops.ReduceSum()
        self.ids_1V = Tensor(np.arange(vocab_size, dtype=np.int32).reshape(1, -1))

    def construct(self, rows_BS1: Tensor, weights_BS: Tensor, seeds_B: Tensor) -> Tensor:
        """Rows, weights that the loss scale's factor is in already, seeds of the rows' dropout -> scalar."""
        rows, length = rows_BS1.shape
        inputs_BS = self.cut_inputs(rows_BS1, (0, 0), (rows, length - 1), (1, 1))
        labels_N1 = self.cut_labels(rows_BS1, (0, 1), (rows, length), (1, 1)).reshape(-1, 1)
        logits_BSV = self.model(inputs_BS, seeds_B)
        logits_NV = logits_BSV.reshape(-1, logits_BSV.shape[-1]).astype(ms.float32)
        shifted_NV = self.less(logits_NV, ops.stop_gradient(self.highest(logits_NV, 1)))
        is_label_NV = self.same(labels_N1, self.ids_1V).astype(ms.float32)
        own_N1 = self.chosen(self.pick(shifted_NV, is_label_NV), 1)
        nats_N1 = self.nats(self.log(self.total(self.exp(shifted_NV), 1)), own_N1)
        return self.sum(self.weigh(nats_N1.reshape(rows, length - 1), weights_BS))


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
    }


def slices_of(name: str, config: ModelConfig, plan: dict[str, Cuts], parallel: ParallelConfig) -> int:
    """Into how many different slices a parameter is cut, over mp and over the optimizer's shards."""
    from mindgeex.model_zoo.sharding import cuts_of

    cuts = cuts_of(name, plan) or (1,)
    over_mp = int(np.prod(cuts, dtype=np.int64))
    return over_mp * optimizer_pieces(name, config.shapes[name][0] // cuts[0], config, parallel)


_square_sum = ops.MultitypeFuncGraph("shared_square_sum")


@_square_sum.register("Number", "Tensor")
def _square_sum_of_slice(share: float, gradient: Tensor) -> Tensor:
    return ops.square(gradient).sum() * share


class MicroBatches(nn.Cell):
    """The sum of the losses of equal shares of the rows, one after the other.

    MindSpore takes a stage's turns from the attributes: where a micro batch is cut off, and where its loss is added.
    """

    def __init__(self, loss: ParallelLoss, parallel: ParallelConfig, count: int):
        super().__init__()
        self.loss, self.count = loss, count
        dp, staged = parallel.dp, parallel.pp > 1
        self.cuts = [[_share(cuts, 0 if staged else count) for cuts in input_cuts(dp)] for _ in range(count)]
        self.adds = [ops.Add().add_prim_attr("pipeline_end" if staged else "forward_end", at) for at in range(count)]

    def construct(self, rows_BS1: Tensor, weights_BS: Tensor, seeds_B: Tensor) -> Tensor:
        """The arguments of `ParallelLoss` -> scalar."""
        total = None
        share, width, length = rows_BS1.shape[0] // self.count, rows_BS1.shape[1], weights_BS.shape[1]
        for at in range(self.count):
            low, high = at * share, (at + 1) * share
            rows = self.cuts[at][0](rows_BS1, (low, 0), (high, width), (1, 1))
            weights = self.cuts[at][1](weights_BS, (low, 0), (high, length), (1, 1))
            seeds = self.cuts[at][2](seeds_B, (low,), (high,), (1,))
            loss = self.loss(rows, weights, seeds)
            total = loss if total is None else self.adds[at](total, loss)
        return total


def input_cuts(dp: int) -> Cuts:
    """How rows, weights and seeds are cut."""
    return ((dp, 1), (dp, 1), (dp,))


def _share(cuts: tuple[int, ...], accumulated: int) -> ops.Primitive:
    cut = ops.StridedSlice().shard((cuts,))
    cut.add_prim_attr("skip_redistribution", True)
    return cut.add_prim_attr("grad_accu_num", accumulated) if accumulated else cut


class ParallelUpdate(nn.Cell):
    """Clips by the global norm and updates the slices, unless the step is to change nothing."""

    def __init__(self, optimizer: AdamW, shares: tuple[float, ...], parallel: ParallelConfig):
        super().__init__()
        self.optimizer, self.shares = optimizer, shares
        self.row_share = 1.0 / (parallel.mp * parallel.pp)
        self.staged, self.stage_npus = parallel.pp > 1, parallel.stage_npus
        self.max_norm = optimizer.config.max_grad_norm
        self.sum_votes, self.sum_squares, self.sum_losses = ops.AllReduce(), ops.AllReduce(), ops.AllReduce()
        # Not arguments: MindSpore's partitioner takes every argument of a step for rows of the data.
        self.sums = Parameter(Tensor(np.zeros(2, np.float32)), name="step.sums", requires_grad=False)
        self.limits = Parameter(Tensor(np.zeros(2, np.float32)), name="step.limits", requires_grad=False)
        self.factor = Parameter(Tensor(np.ones((), np.float32)), name="step.factor", requires_grad=False)
        self.scalars = Parameter(Tensor(np.zeros(3, np.float32)), name="step.scalars", requires_grad=False)

    def construct(self, total: Tensor, gradients: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As step.Update, whose other arguments are parameters here; `total` and `gradients` are of all rows."""
        limits, scalars, factor = self.limits, self.scalars, self.factor
        sums = self.sum_votes(self.sums) * self.row_share  # NPUs of an mp group, and all stages, have the same rows
        if self.staged:
            total = self.sum_losses(total) / self.stage_npus  # zero but in the last stage
        unscale = 1.0 / (factor * ops.maximum(sums[0], 1e-5))
        squares = ops.addn(ops.HyperMap()(_square_sum, self.shares, gradients))
        loss, norm = total * unscale, ops.sqrt(self.sum_squares(squares)) * unscale
        applied = ops.logical_and(loss <= limits[0], norm <= limits[1])  # false for what is not a number
        clip = unscale * self.max_norm / ops.maximum(norm, self.max_norm)
        clipped = scaled(gradients, clip)  # out here: inside, a stage would count weights that it does not hold
        if applied:
            loss = ops.depend(loss, self.optimizer.update(clipped, scalars))
        return loss, norm, sums, applied


_after = ops.MultitypeFuncGraph("after")
_clear = ops.MultitypeFuncGraph("clear")


@_after.register("Tensor", "Tensor")
def _accumulator_after(accumulator: Tensor, gradient: Tensor) -> Tensor:
    return ops.depend(accumulator, gradient)


@_clear.register("Tensor", "Tensor", "Tensor")
def _clear_accumulator(done: Tensor, accumulator: Tensor, gradient: Tensor) -> Tensor:
    accumulator = ops.depend(accumulator, (done, gradient))
    return ops.assign(accumulator, ops.zeros_like(accumulator))


class ParallelStep(nn.Cell):
    """A whole step as one graph."""

    def __init__(self, loss: nn.Cell, update: ParallelUpdate, accumulates: bool, sharded: bool):
        super().__init__()
        self.update = update
        weights = update.optimizer.parameters
        self.value_and_grad = value_and_grad(loss, None, weights=weights)
        # The partitioner adds every micro batch's gradients to the parameter of this name.
        self.accumulators = weights.clone(prefix="accu_grads", init="zeros") if accumulates else None
        self.sharded, self.map = sharded, ops.HyperMap()

    def construct(self, rows_BS1: Tensor, weights_BS: Tensor, seeds_B: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """An NPU's rows of all micro batches -> what `ParallelUpdate` returns."""
        total, gradients = self.value_and_grad(rows_BS1, weights_BS, seeds_B)
        if self.accumulators is None:
            return self.update(total, gradients)
        # Under HSDP the sums come out of the derivative, reduced; else they stand in the accumulators.
        # One by one: a stage takes the weights of others out of every tuple, and may not miscount what is left.
        summed = gradients if self.sharded else self.map(_after, self.accumulators, gradients)
        loss, norm, sums, applied = self.update(total, summed)
        cleared = self.map(ops.partial(_clear, norm), self.accumulators, gradients)
        return ops.depend(loss, cleared), norm, sums, applied


def parallel_step(
    model: Any, optimizer: AdamW, config: ModelConfig, parallel: ParallelConfig, flash: bool, batch: BatchPlan
) -> Any:
    """The step of a model whose operators are told how they are cut, ready to be compiled or called.

    Raises:
        UserError: mp, stages or micro batches do not fit the model, or each other.
    """
    from mindspore.parallel.auto_parallel import AutoParallel

    from mindgeex.model_zoo.sharding import shard, sharding_plan, token_cuts

    dp, mp, micro_batches = parallel.dp, parallel.mp, batch.accumulate
    check_pieces(config, parallel)
    tokens = token_cuts(config, dp, mp, batch.micro_rows) if parallel.sequence_parallel else None
    plan = sharding_plan(config, dp, mp, flash, tokens)
    shard(model, plan)
    loss: nn.Cell = ParallelLoss(model, config.vocab_size)
    for name, cuts in loss_plan(dp, mp).items():
        getattr(loss, name).shard(cuts)
    if micro_batches > 1:
        # One graph that every micro batch calls, as MindSpore asks for with stages and with HSDP beyond level1.
        loss.cell_init_args = "lazy_inline_loss"
        loss = MicroBatches(loss, parallel, micro_batches)
    if parallel.pp > 1:
        for path, stage in stages(config, parallel).items():
            cell_at(model, path).pipeline_stage = stage
        for name, weight in model.parameters_and_names():
            weight.parallel_optimizer = not of_two_stages(name, config, parallel)
    names = [moment.name.removeprefix("adam_m.") for moment in optimizer.m]
    shares = tuple(slices_of(name, config, plan, parallel) / parallel.stage_npus for name in names)
    update = ParallelUpdate(optimizer, shares, parallel)
    sharded = parallel.optimizer_shard > 1
    loss.set_train()  # not a cell of the step, which holds only its derivative
    step = AutoParallel(ParallelStep(loss, update, micro_batches > 1, sharded).set_train(), "semi_auto")
    step.dataset_strategy(input_cuts(dp))
    if parallel.pp > 1:
        step.pipeline(parallel.pp, interleave=parallel.interleave > 1)
    if sharded:
        step.hsdp(parallel.optimizer_shard, 0, parallel.optimizer_level)
    return step


def cell_at(cell: nn.Cell, path: str) -> nn.Cell:
    """The cell of a dotted path."""
    for name in path.split("."):
        cell = cell[int(name)] if name.isdigit() else getattr(cell, name)
    return cell
