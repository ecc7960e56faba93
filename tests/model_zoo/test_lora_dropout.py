"""LoRA's dropout: what the addition does not see is drawn from the rows' seeds, and is nothing without a rate."""

import dataclasses

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import ComputeConfig
from mindgeex.model_zoo.families import build_model
from mindgeex.model_zoo.layers import Linear
from mindgeex.model_zoo.lora import LoraLinear, add_lora
from mindgeex.model_zoo.lora_config import TARGETS, LoraConfig
from tests.model_zoo.adapted import CONFIG, IDS, fill_additions

RATE = 0.25
SEEDS = ms.Tensor([11, -7], ms.int32)


def additions(model: nn.Cell) -> list[LoraLinear]:
    return [cell for _, cell in model.cells_and_names() if isinstance(cell, LoraLinear)]


def adapted_model(family: str, rate: float, targets: tuple[str, ...] = TARGETS[:-1], **compute: str) -> nn.Cell:
    """With additions that are more than zero."""
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(1)
    model = build_model(CONFIG[family], ComputeConfig(**compute))
    add_lora(model, LoraConfig(rank=4, alpha=8.0, targets=targets, dropout=rate))
    fill_additions(model)
    return model


def test_an_addition_sees_what_is_left_of_its_input_and_the_layer_all_of_it() -> None:
    ms.set_context(mode=ms.GRAPH_MODE)
    random = np.random.default_rng(0)
    lora_a, lora_b = (random.normal(size=shape).astype(np.float32) for shape in ((4, 400), (8, 4)))
    linear = Linear(400, 8, 0.1, ComputeConfig())
    layer = LoraLinear(linear, LoraConfig(rank=4, alpha=8.0, dropout=RATE), lora_a, salt=3)
    layer.lora_b.set_data(ms.Tensor(lora_b))
    x = random.normal(size=(2, 5, 400)).astype(np.float32)
    plain = linear(ms.Tensor(x)).asnumpy()

    left = layer.dropout.set_train()(ms.Tensor(x), SEEDS).asnumpy()
    kept = left != 0
    assert abs(1 - kept.mean() - RATE) < 0.03
    assert np.allclose(left[kept], x[kept] / (1 - RATE))
    layer.set_train()
    dropped = layer(ms.Tensor(x), SEEDS).asnumpy()
    assert np.allclose(dropped, plain + 2 * left @ lora_a.T @ lora_b.T, atol=1e-3)
    layer.set_train(False)
    assert np.allclose(layer(ms.Tensor(x)).asnumpy(), plain + 2 * x @ lora_a.T @ lora_b.T, atol=1e-3)


@pytest.mark.parametrize("family", ["codegeex", "gpt_neox"])
def test_seeds_decide_what_is_dropped_in_training_alone(family) -> None:
    model = adapted_model(family, RATE, TARGETS if family == "gpt_neox" else TARGETS[:-1])
    without = adapted_model(family, 0.0, TARGETS if family == "gpt_neox" else TARGETS[:-1])
    ids, other = ms.Tensor(IDS), ms.Tensor([12, -7], ms.int32)
    assert np.array_equal(model.set_train(False)(ids, SEEDS).asnumpy(), without.set_train(False)(ids, SEEDS).asnumpy())

    model.set_train()
    first, again, changed = (model(ids, seeds).asnumpy() for seeds in (SEEDS, SEEDS, other))
    assert np.array_equal(first, again)
    assert not np.allclose(first[0], changed[0], atol=1e-4)
    assert np.array_equal(first[1], changed[1])
    assert not np.allclose(first, without.set_train()(ids, SEEDS).asnumpy(), atol=1e-4)


def test_no_two_layers_drop_the_same_and_none_drops_as_the_model_does() -> None:
    model = adapted_model("gpt_neox", RATE, TARGETS)
    salts = [cell.keeps.salt for _, cell in model.cells_and_names() if hasattr(cell, "keeps") and hasattr(cell, "rate")]
    assert len(salts) > len(additions(model)) > 2
    assert len(set(salts)) == len(salts)


def test_without_a_rate_the_graph_has_no_dropout() -> None:
    assert all(cell.dropout is None for cell in additions(adapted_model("codegeex", 0.0)))


def test_dropout_trains_in_half_precision_with_recomputation() -> None:
    model = adapted_model("codegeex", RATE, dtype="float16").set_train()
    for block in model.blocks:
        block.recompute()
    weights = ms.ParameterTuple(model.trainable_params())

    def loss(ids, seeds):
        return model(ids, seeds).astype(ms.float32).square().mean()

    gradients = ms.jit(ms.grad(loss, None, weights))(ms.Tensor(IDS), SEEDS)
    assert all(np.isfinite(gradient.asnumpy()).all() and gradient.asnumpy().any() for gradient in gradients)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_that_makes_no_sense_is_refused(rate) -> None:
    with pytest.raises(UserError, match="lora.dropout is"):
        LoraConfig(dropout=rate)
    assert dataclasses.replace(LoraConfig(), dropout=0.5).dropout == 0.5
