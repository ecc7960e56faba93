"""Next-token cross-entropy, summed with a weight for every label."""

# Shapes: B batch, S sequence, V vocabulary, N = B*S
import mindspore as ms
from mindspore import Tensor, nn, ops

from mindgeex.model_zoo.kernels import fused, library


class TokenLoss(nn.Cell):
    """Rows of S + 1 tokens to the negative log-likelihood of each next token."""

    def __init__(self, model: nn.Cell):
        super().__init__()
        self.model = model
        self.log_softmax = ops.LogSoftmax(axis=-1)
        self.pick = ops.GatherD()
        self.fused = fused.cross_entropy() if library.kernels_here() else None

    def construct(self, rows_BS1: Tensor, seeds_B: Tensor) -> Tensor:
        """Rows [B, S + 1] int32 and the seeds of their dropout -> nats [B, S] float32."""
        inputs_BS, labels_BS = rows_BS1[:, :-1], rows_BS1[:, 1:]
        logits_BSV = self.model(inputs_BS, seeds_B).astype(ms.float32)
        if self.fused is not None:
            return self.fused(logits_BSV, labels_BS)
        log_probabilities_NV = self.log_softmax(logits_BSV.reshape(-1, logits_BSV.shape[-1]))
        return -self.pick(log_probabilities_NV, 1, labels_BS.reshape(-1, 1)).reshape(inputs_BS.shape)


class WeightedLoss(nn.Cell):
    """The weighted sum of a batch's nats: gradients of such sums add up over micro batches and workers."""

    def __init__(self, token_loss: TokenLoss):
        super().__init__()
        self.token_loss = token_loss

    def construct(self, rows_BS1: Tensor, weights_BS: Tensor, seeds_B: Tensor, scale: Tensor) -> Tensor:
        """Rows, the labels' weights (float32), seeds, and a factor that keeps half precision in range -> scalar."""
        return (self.token_loss(rows_BS1, seeds_B) * weights_BS).sum() * scale
