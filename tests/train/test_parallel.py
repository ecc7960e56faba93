"""The loss whose logits stay cut is the loss of one device, and its plan names its operators."""

import dataclasses

import mindspore as ms
import numpy as np
import pytest

from mindgeex.model_zoo.config import load_model_config
from mindgeex.model_zoo.families import build_model
from mindgeex.model_zoo.sharding import operators, sharding_plan
from mindgeex.train.loss import TokenLoss, WeightedLoss
from mindgeex.train.parallel import ParallelLoss, loss_plan, slices_of
from mindgeex.train.parallel_config import ParallelConfig


@pytest.mark.parametrize("name", ["codegeex_tiny", "gpt_neox_tiny"])
def test_the_loss_of_cut_logits_and_its_gradients_are_those_of_whole_ones(name):
    config = load_model_config(name)
    model = build_model(config)
    rng = np.random.default_rng(3)
    rows = ms.Tensor(rng.integers(0, config.vocab_size, (2, 33), dtype=np.int32))
    weights = ms.Tensor(rng.random((2, 32), dtype=np.float32))
    seeds, factor = ms.Tensor([1, 2], ms.int32), ms.Tensor(0.5, ms.float32)
    whole_loss, cut_loss = WeightedLoss(TokenLoss(model)), ParallelLoss(model, config.vocab_size)
    results = []
    for loss, arguments in ((whole_loss, (rows, weights, seeds, factor)), (cut_loss, (rows, weights * factor, seeds))):
        gradient = ms.value_and_grad(loss, None, weights=ms.ParameterTuple(model.trainable_params()))
        results.append(gradient(*arguments))
    (whole, whole_gradients), (cut, cut_gradients) = results
    assert float(cut) == pytest.approx(float(whole), rel=1e-5)
    for expected, found in zip(whole_gradients, cut_gradients, strict=True):
        np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=2e-3, atol=2e-6)


def test_every_operator_of_the_loss_is_told_how_it_is_cut():
    config = load_model_config("codegeex_tiny")
    loss = ParallelLoss(ms.nn.Cell(), config.vocab_size)
    assert {path for path, _ in operators(loss)} == set(loss_plan(2, 2))


def test_slices_are_counted_over_mp_and_over_optimizer_shards_where_they_divide_the_first_axis():
    config = load_model_config("codegeex_13b")
    parallel = ParallelConfig(npus=1536, mp=8, optimizer_shard=16)
    plan = sharding_plan(config, parallel.dp, parallel.mp)
    counts = {name: slices_of(name, config, plan, parallel) for name in config.shapes}
    assert counts["blocks.3.attention.query.weight"] == counts["word_embedding.weight"] == 128
    assert counts["blocks.3.feed_forward.down.weight"] == 128
    assert counts["final_norm.gamma"] == counts["query_embedding.weight"] == 16
    staged = dataclasses.replace(parallel, pp=4)
    assert slices_of("word_embedding.weight", config, plan, staged) == 8  # the first and the last stage hold it
    assert slices_of("blocks.3.attention.query.weight", config, plan, staged) == 128
