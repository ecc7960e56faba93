"""The weights of the loss follow the published mask."""

import mindspore as ms
import numpy as np
from mindspore import nn

from mindgeex.train.loss import MeanTokenLoss, TokenLoss

EOD = 9
KERNEL_ERROR = 1e-5
"""MindSpore's LogSoftmax on CPU is off by 2e-6 to 3e-6 nats, measured against float64 on these values."""


class Table(nn.Cell):
    """Logits that depend on the input token alone."""

    def __init__(self):
        super().__init__()
        self.table = ms.Tensor(np.random.default_rng(0).normal(size=(10, 10)).astype(np.float32))

    def construct(self, ids, seed):
        return self.table[ids]


def test_what_follows_an_end_of_document_does_not_count_and_the_end_itself_does():
    rows = np.array([[1, 2, EOD, 3, 4, EOD, EOD, EOD]], np.int32)
    nats, weights = TokenLoss(Table(), EOD)(ms.Tensor(rows), ms.Tensor(0, ms.int32))
    assert weights.asnumpy().tolist() == [[1, 1, 0, 1, 1, 0, 0]]
    table = Table().table.asnumpy().astype(np.float64)
    log_probabilities = table - np.log(np.exp(table).sum(-1, keepdims=True))
    expected = -log_probabilities[rows[0, :-1], rows[0, 1:]]
    assert np.abs(nats.asnumpy()[0] - expected).max() < KERNEL_ERROR
    mean = MeanTokenLoss(TokenLoss(Table(), EOD))(ms.Tensor(rows), ms.Tensor(0, ms.int32))
    assert abs(float(mean) - expected[[0, 1, 3, 4]].sum() / (4 + 1e-5)) < KERNEL_ERROR


def test_a_row_of_padding_has_no_loss():
    rows = np.full((1, 5), EOD, np.int32)
    assert float(MeanTokenLoss(TokenLoss(Table(), EOD))(ms.Tensor(rows), ms.Tensor(0, ms.int32))) == 0.0
