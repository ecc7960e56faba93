"""Nats of each label, and which labels count."""

import mindspore as ms
import numpy as np
from mindspore import nn

from mindgeex.train.feed import label_weights
from mindgeex.train.loss import TokenLoss, WeightedLoss

EOD, PAD = 9, 8
KERNEL_ERROR = 1e-5
"""MindSpore's LogSoftmax on CPU is off by 2e-6 to 3e-6 nats, measured against float64 on these values."""


class Table(nn.Cell):
    """Logits that depend on the input token alone."""

    def __init__(self):
        super().__init__()
        self.table = ms.Tensor(np.random.default_rng(0).normal(size=(10, 10)).astype(np.float32))

    def construct(self, ids, seeds):
        return self.table[ids]


def test_nats_are_those_worked_out_in_double_precision_and_weighted_sums_of_them():
    rows = np.array([[1, 2, EOD, 3, 4, EOD, EOD, EOD]], np.int32)
    table = Table().table.asnumpy().astype(np.float64)
    log_probabilities = table - np.log(np.exp(table).sum(-1, keepdims=True))
    expected = -log_probabilities[rows[0, :-1], rows[0, 1:]]
    nats = TokenLoss(Table())(ms.Tensor(rows), ms.Tensor([0], ms.int32)).asnumpy()
    assert np.abs(nats[0] - expected).max() < KERNEL_ERROR
    weights = np.array([[1, 0.5, 0, 2, 0, 0, 1]], np.float32)
    arguments = (ms.Tensor(rows), ms.Tensor(weights), ms.Tensor([0], ms.int32), ms.Tensor(4.0, ms.float32))
    total = float(WeightedLoss(TokenLoss(Table()))(*arguments))
    assert abs(total - 4 * (expected * weights[0]).sum()) < 10 * KERNEL_ERROR


def test_what_follows_an_end_of_document_does_not_count_and_the_end_itself_does():
    rows = np.array([[1, 2, EOD, 3, 4, EOD, EOD, EOD]], np.int32)
    assert label_weights(rows, EOD).tolist() == [[1, 1, 0, 1, 1, 0, 0]]


def test_padding_of_another_id_does_not_count_and_the_same_id_inside_a_document_does():
    rows = np.array(
        [[1, PAD, 2, EOD, PAD, PAD], [PAD, PAD, 3, PAD, PAD, PAD], [PAD, PAD, PAD, PAD, PAD, PAD]], np.int32
    )
    assert label_weights(rows, EOD, PAD).tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]
