"""The network agrees with the original implementation on random weights, and its parts with their formulas."""

import dataclasses
import math

import mindspore as ms
import numpy as np
import pytest

from mindgeex.model_zoo.attention import DocumentMask
from mindgeex.model_zoo.config import ComputeConfig, load_model_config
from mindgeex.model_zoo.layers import Dropout, FastGelu

NO_SEED = ms.Tensor(0, ms.int32)


def test_logits_equal_the_originals(original, fixtures):
    expected = np.load(fixtures / "expected.npz")
    logits = original(ms.Tensor(expected["input_ids"]), NO_SEED).asnumpy()
    assert np.abs(logits - expected["logits"]).max() < 1e-4


def test_logits_equal_the_originals_where_documents_are_packed(original, fixtures):
    expected = np.load(fixtures / "expected_eod_reset.npz")
    positions, _ = original.document_mask(ms.Tensor(expected["input_ids"]))
    assert (positions.asnumpy() == expected["position_ids"]).all()
    logits = original(ms.Tensor(expected["input_ids"]), NO_SEED).asnumpy()
    assert np.abs(logits - expected["logits"]).max() < 1e-4


def test_document_starts_follow_each_end_of_document():
    ids = ms.Tensor([[5, 9, 5, 9, 9, 5]], ms.int32)
    assert DocumentMask(
        dataclasses.replace(load_model_config("codegeex_tiny"), eod_id=9), ComputeConfig()
    ).document_starts(ids).asnumpy().tolist() == [[0, 0, 2, 2, 4, 5]]


def test_a_later_token_changes_no_earlier_logit(original, ids):
    before = original(ms.Tensor(ids), NO_SEED).asnumpy()
    ids[:, 40] = (ids[:, 40] + 1) % 511
    after = original(ms.Tensor(ids), NO_SEED).asnumpy()
    assert np.array_equal(before[:, :40], after[:, :40])
    assert not np.array_equal(before[:, 40:], after[:, 40:])


def test_fast_gelu_is_the_originals_formula():
    x = np.linspace(-8, 8, 101, dtype=np.float32)
    formula = x / (1 + np.exp(-1.702 * np.abs(x))) * np.exp(0.851 * (x - np.abs(x)))
    assert np.abs(FastGelu()(ms.Tensor(x)).asnumpy() - formula).max() < 1e-6


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(rate):
    cell = Dropout(rate, salt=3).set_train()
    ones = ms.Tensor(np.ones((1000, 1000), np.float32))
    dropped = cell(ones, ms.Tensor(1, ms.int32)).asnumpy()
    # The share of a million fair draws lies within five standard deviations of the rate.
    assert abs((dropped == 0).mean() - rate) < 5 * math.sqrt(rate * (1 - rate) / 1e6)
    assert np.allclose(dropped[dropped != 0], 1 / (1 - rate))
    rows, columns = (dropped == 0).mean(1), (dropped == 0).mean(0)
    assert np.abs(rows - rate).max() < 6 * math.sqrt(rate * (1 - rate) / 1000)
    assert np.abs(columns - rate).max() < 6 * math.sqrt(rate * (1 - rate) / 1000)


def test_dropout_masks_depend_on_seed_and_place_alone():
    ones = ms.Tensor(np.ones((1000, 1000), np.float32))

    def mask(salt, seed):
        return Dropout(0.5, salt).set_train()(ones, ms.Tensor(seed, ms.int32)).asnumpy() == 0

    first = mask(salt=1, seed=7)
    assert np.array_equal(first, mask(salt=1, seed=7))
    for other in (mask(salt=1, seed=8), mask(salt=2, seed=7)):
        agreement = (first == other).mean()
        assert abs(agreement - 0.5) < 5 * 0.5 / 1000


def test_dropout_is_the_identity_in_inference():
    x = ms.Tensor(np.arange(10, dtype=np.float32))
    assert np.array_equal(Dropout(0.9, salt=0).set_train(False)(x, NO_SEED).asnumpy(), x.asnumpy())
