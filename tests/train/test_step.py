"""Thirty training steps give the losses and gradient norms of the original implementation."""

import dataclasses

import mindspore as ms
import numpy as np
import pytest

from mindgeex.model_zoo.checkpoints.native import named_parameters
from mindgeex.train.loss import MeanTokenLoss, TokenLoss
from mindgeex.train.optimizer import AdamW
from mindgeex.train.optimizer_config import OptimizerConfig
from mindgeex.train.step import TrainStep
from tests.model_zoo.conftest import ORIGINAL
from tests.model_zoo.foreign import load_foreign


@pytest.fixture(scope="module", params=["adamw", "adam_weight_decay"])
def curve(reference_data, request):
    """Losses, norms, and what they should be; trained without ends of documents, as the expected figures were."""
    ms.set_context(mode=ms.GRAPH_MODE)
    folder = reference_data / "fixtures" / "codegeex_torch_tiny"
    expected = np.load(folder / f"train_{request.param}.npz")
    model = load_foreign(folder / "checkpoint.pt", dataclasses.replace(ORIGINAL, eod_id=-1))
    settings = OptimizerConfig(0.9, 0.95, 1e-8, 0.1, bias_correction=request.param == "adamw", max_grad_norm=1.0)
    optimizer = AdamW(named_parameters(model), settings)
    step = TrainStep(MeanTokenLoss(TokenLoss(model, eod_id=-1)), optimizer).set_train()
    pairs = []
    for number, rows in enumerate(expected["batches"].astype(np.int32)):
        loss, norm = step(ms.Tensor(rows), ms.Tensor(number, ms.int32), optimizer.scalars(1e-3, number))
        pairs.append((float(loss), float(norm)))
    return np.array(pairs), expected


def test_losses_equal_the_originals(curve):
    pairs, expected = curve
    assert np.abs(pairs[:, 0] - expected["losses"]).max() < 1e-4


def test_gradient_norms_equal_the_originals(curve):
    pairs, expected = curve
    assert np.abs(pairs[:, 1] / expected["grad_norms"] - 1).max() < 1e-3
