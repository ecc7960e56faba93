"""A step gives the original implementation's figures, however its rows are split, and changes nothing if told so."""

import dataclasses
import math

import mindspore as ms
import numpy as np
import pytest

from mindgeex.model_zoo.checkpoints.native import named_parameters
from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.model_zoo.families import build_model
from mindgeex.train.loss import TokenLoss
from mindgeex.train.optimizer import AdamW
from mindgeex.train.optimizer_config import OptimizerConfig
from mindgeex.train.step import NO_LIMIT, TrainStep
from tests.model_zoo.conftest import ORIGINAL
from tests.model_zoo.foreign import load_foreign
from tests.train.stepping import batch_of, curve, outcomes, plan_of

SMALL = ModelConfig("codegeex", 2, 16, 2, 32, 8, 32, dropout_rate=0.3, init_std=0.1, eod_id=0)


@pytest.fixture(scope="module", params=["adamw", "adam_weight_decay"])
def measured(reference_data, request):
    """Losses, norms, and what they should be; trained without ends of documents, as the expected figures were."""
    ms.set_context(mode=ms.GRAPH_MODE)
    folder = reference_data / "fixtures" / "codegeex_torch_tiny"
    expected = np.load(folder / f"train_{request.param}.npz")
    model = load_foreign(folder / "checkpoint.pt", dataclasses.replace(ORIGINAL, eod_id=-1))
    settings = OptimizerConfig(0.9, 0.95, 1e-8, 0.1, bias_correction=request.param == "adamw", max_grad_norm=1.0)
    return curve(model, AdamW(named_parameters(model), settings), expected["batches"]), expected


def test_losses_equal_the_originals(measured):
    pairs, expected = measured
    assert np.abs(pairs[:, 0] - expected["losses"]).max() < 1e-4


def test_gradient_norms_equal_the_originals(measured):
    pairs, expected = measured
    assert np.abs(pairs[:, 1] / expected["grad_norms"] - 1).max() < 1e-3


def small(dtype="float32"):
    """A model with dropout, its optimizer, and three batches of four rows."""
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(1)
    model = build_model(SMALL, ComputeConfig(dtype=dtype))
    parameters = named_parameters(model)
    batches = np.random.default_rng(3).integers(0, 32, (3, 4, 9))
    return model, parameters, AdamW(parameters, OptimizerConfig()), batches


def values(parameters):
    return {name: parameter.asnumpy().copy() for name, parameter in parameters.items()}


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_changes_nothing_but_the_order_of_additions_dropout_included(accumulate):
    model, parameters, optimizer, batches = small()
    whole = outcomes(model, optimizer, batches)
    after_whole = values(parameters)
    model, parameters, optimizer, batches = small()
    split = outcomes(model, optimizer, batches, accumulate)
    for one, other in zip(whole, split, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-5)
    for name, value in values(parameters).items():
        # Scores do not change when all keys move alike: that gradient is nothing but rounding, which Adam scales up.
        if not name.endswith("key.bias"):
            assert np.abs(value - after_whole[name]).max() < 1e-5, name


def test_labels_count_by_their_weights():
    model, _, optimizer, batches = small()
    step = TrainStep(TokenLoss(model), optimizer, plan_of(batches[0]), seed=7)
    nats = TokenLoss(model).set_train()(ms.Tensor(batches[0], ms.int32), ms.Tensor(0, ms.int32)).asnumpy()
    batch = batch_of(batches[0])
    weights = np.random.default_rng(1).uniform(0, 2, nats.shape).astype(np.float32)
    found = step(dataclasses.replace(batch, weights_BS=weights), optimizer.scalars(0.0, 0))
    assert found.weight == pytest.approx(weights.sum(), rel=1e-6)
    # Dropout draws other masks there than here, so the figures are near, not equal; unweighted they would not be.
    model.set_train(False)
    nats = TokenLoss(model).set_train(False)(ms.Tensor(batches[0], ms.int32), ms.Tensor(0, ms.int32)).asnumpy()
    assert abs(found.loss - (nats * weights).sum() / weights.sum()) < 0.3


@pytest.mark.parametrize("limits", [(0.0, NO_LIMIT), (NO_LIMIT, 0.0)])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_beyond_its_limits_changes_nothing_and_leaves_nothing_behind(limits, accumulate):
    model, parameters, optimizer, batches = small()
    step = TrainStep(TokenLoss(model), optimizer, plan_of(batches[0], accumulate), seed=7)
    before, moments = values(parameters), values(optimizer.moments)
    refused = step(batch_of(batches[0]), optimizer.scalars(1e-2, 0), limits=limits)
    assert not refused.applied and refused.is_finite
    for name, value in (values(parameters) | values(optimizer.moments)).items():
        assert np.array_equal(value, (before | moments)[name]), name
    applied = step(batch_of(batches[1]), optimizer.scalars(1e-2, 0))

    model, parameters_2, optimizer, batches = small()
    alone = TrainStep(TokenLoss(model), optimizer, plan_of(batches[0], accumulate), seed=7)(
        batch_of(batches[1]), optimizer.scalars(1e-2, 0)
    )
    assert applied.applied and alone.applied and applied.grad_norm == alone.grad_norm
    for name, value in values(parameters_2).items():
        assert np.array_equal(value, parameters[name].asnumpy()), name


def test_a_batch_that_gives_no_number_changes_nothing():
    model, parameters, optimizer, batches = small()
    step = TrainStep(TokenLoss(model), optimizer, plan_of(batches[0], 2), seed=7)
    before = values(parameters)
    batch = batch_of(batches[0])
    batch.weights_BS[1, 2] = math.nan
    broken = step(batch, optimizer.scalars(1e-2, 0))
    assert not broken.applied and not broken.is_finite
    assert all(np.array_equal(value, before[name]) for name, value in values(parameters).items())
    assert step(batch_of(batches[1]), optimizer.scalars(1e-2, 0)).applied


def test_half_precision_steps_like_full_precision_where_its_scale_fits_and_not_at_all_where_it_does_not():
    model, parameters, optimizer, batches = small()
    full = outcomes(model, optimizer, batches)
    expected = values(parameters)
    model, parameters, optimizer, batches = small("float16")
    half = outcomes(model, optimizer, batches, loss_scale=2.0**12)
    assert all(found.applied for found in half)
    assert (
        np.abs(np.array([(a.loss - b.loss, a.grad_norm - b.grad_norm) for a, b in zip(full, half, strict=True)])).max()
        < 5e-3
    )
    for name, value in values(parameters).items():
        assert value.dtype == np.float32 and np.abs(value - expected[name]).max() < 4e-3, name
    model, parameters, optimizer, batches = small("float16")
    before = values(parameters)
    [overflow] = outcomes(model, optimizer, batches[:1], loss_scale=2.0**32)
    assert not overflow.applied and not overflow.is_finite
    assert all(np.array_equal(value, before[name]) for name, value in values(parameters).items())


def test_votes_are_counted():
    model, _, optimizer, batches = small()
    step = TrainStep(TokenLoss(model), optimizer, plan_of(batches[0]), seed=7)
    assert step(batch_of(batches[0]), optimizer.scalars(1e-3, 0)).votes == 0
    assert step(batch_of(batches[1]), optimizer.scalars(1e-3, 1), vote=True).votes == 1
