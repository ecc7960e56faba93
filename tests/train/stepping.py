"""Steps of a model on given rows, without a run around them."""

import numpy as np

from mindgeex.train.batch import BatchPlan
from mindgeex.train.feed import Batch
from mindgeex.train.loss import TokenLoss
from mindgeex.train.step import Outcome, TrainStep


def plan_of(rows: np.ndarray, accumulate: int = 1) -> BatchPlan:
    """One worker that takes all rows."""
    return BatchPlan(len(rows) // accumulate, accumulate, 1, rows.shape[1] - 1)


def batch_of(rows: np.ndarray, number: int = 0) -> Batch:
    """Every label counts."""
    weights = np.ones((len(rows), rows.shape[1] - 1), np.float32)
    return Batch(rows.astype(np.int32), weights, number * len(rows) + np.arange(len(rows)))


def outcomes(model, optimizer, batches, accumulate=1, rate=1e-3, **options) -> list[Outcome]:
    """A step a batch, each with the same learning rate."""
    step = TrainStep(TokenLoss(model), optimizer, plan_of(batches[0], accumulate), seed=7)
    return [
        step(batch_of(rows, number), optimizer.scalars(rate, number), **options) for number, rows in enumerate(batches)
    ]


def curve(model, optimizer, batches) -> np.ndarray:
    """Loss and gradient norm of each step."""
    return np.array([(found.loss, found.grad_norm) for found in outcomes(model, optimizer, batches)])
