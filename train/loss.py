"""Next-token cross-entropy, weighted as CodeGeeX published it."""

# Shapes: B batch, S sequence, V vocabulary, N = B*S
import mindspore as ms
from mindspore import Tensor, nn, ops


class TokenLoss(nn.Cell):
    """Rows of S + 1 tokens to the negative log-likelihood of each next token, and to which of them count.

    A position whose input is the end of a document does not count: so neither padding is trained, nor the first
    token of a document, which nothing predicts; the end of a document itself is trained.
    Source: CodeGeeX, codegeex/mindspore/src/pangu_alpha.py, PanguAlphaWithLoss.
    """

    def __init__(self, model: nn.Cell, eod_id: int):
        super().__init__()
        self.model = model
        self.eod_id = eod_id
        self.log_softmax = ops.LogSoftmax(axis=-1)
        self.pick = ops.GatherD()

    def construct(self, rows_BS1: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [B, S + 1] int32 and the dropout seed -> nats [B, S] float32, weights [B, S] float32 (0 or 1)."""
        inputs_BS, labels_BS = rows_BS1[:, :-1], rows_BS1[:, 1:]
        logits_BSV = self.model(inputs_BS, seed).astype(ms.float32)
        log_probabilities_NV = self.log_softmax(logits_BSV.reshape(-1, logits_BSV.shape[-1]))
        nats_BS = -self.pick(log_probabilities_NV, 1, labels_BS.reshape(-1, 1)).reshape(inputs_BS.shape)
        return nats_BS, (inputs_BS != self.eod_id).astype(ms.float32)


class MeanTokenLoss(nn.Cell):
    """The mean over the positions that count: what training minimises."""

    def __init__(self, token_loss: TokenLoss):
        super().__init__()
        self.token_loss = token_loss

    def construct(self, rows_BS1: Tensor, seed: Tensor) -> Tensor:
        """Rows [B, S + 1] and the dropout seed -> scalar, nats per token."""
        nats_BS, weights_BS = self.token_loss(rows_BS1, seed)
        return (nats_BS * weights_BS).sum() / (weights_BS.sum() + 1e-5)
