"""One training step as one graph: forward, backward, clip, update."""

# Shapes: B batch, S sequence
from mindspore import Tensor, nn, ops, value_and_grad

from mindgeex.train.loss import MeanTokenLoss
from mindgeex.train.optimizer import AdamW, global_norm, scale


class TrainStep(nn.Cell):
    """Rows in, updated parameters out."""

    def __init__(self, loss: MeanTokenLoss, optimizer: AdamW):
        super().__init__()
        self.loss = loss
        self.optimizer = optimizer
        self.max_norm = optimizer.config.max_grad_norm
        self.value_and_grad = value_and_grad(loss, None, weights=optimizer.parameters)

    def construct(self, rows_BS1: Tensor, seed: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [B, S + 1] int32, the dropout seed, the optimizer's scalars -> loss, gradient norm before clipping."""
        loss, gradients = self.value_and_grad(rows_BS1, seed)
        norm = global_norm(gradients)
        factor = self.max_norm / ops.maximum(norm, self.max_norm)
        updated = self.optimizer(scale(gradients, factor), scalars)
        return ops.depend(loss, updated), norm
