"""Rounding to one byte: how far a weight may move, what the model still answers, what is saved, what is refused."""

import mindspore as ms
import numpy as np
import pytest

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.native import load_model, named_parameters, save_model
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.decoding.graph import GraphDecoder
from mindgeex.model_zoo.decoding.kernels import native
from mindgeex.model_zoo.decoding.kernels.decoder import NativeDecoder
from mindgeex.model_zoo.families import build_model
from mindgeex.model_zoo.int8 import Int8Linear, compare, is_int8, load_int8_model, quantize, rounded, weight_bytes
from mindgeex.model_zoo.shared_library import CannotCompile

SIZES = {"num_layers": 3, "hidden_size": 64, "num_heads": 4, "feed_forward_size": 150, "seq_length": 40}


@pytest.fixture(scope="module", params=["codegeex", "gpt_neox"])
def checkpoint(request, tmp_path_factory):
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(4)
    config = ModelConfig(request.param, **SIZES, vocab_size=120, dropout_rate=0.0, init_std=0.1, eod_id=-1)
    folder = tmp_path_factory.mktemp("checkpoint")
    save_model(folder, config, named_parameters(build_model(config)))
    return folder


def rows(count=2, length=41):
    return np.random.default_rng(0).integers(0, 120, (count, length)).astype(np.int32)


def test_a_weight_moves_by_half_a_step_of_its_row_at_most():
    weight = np.random.default_rng(0).normal(0, 1, (6, 300)).astype(np.float32) * 10.0 ** np.arange(-3, 3)[:, None]
    weight[2] = 0
    whole, scale = rounded(weight.astype(np.float32))
    assert whole.dtype == np.int8
    assert np.abs(whole).max(axis=1).tolist() == [127, 127, 0, 127, 127, 127]
    assert (np.abs(whole * scale[:, None] - weight) <= scale[:, None] * 0.5001).all()


def test_weights_that_are_no_numbers_are_refused():
    with pytest.raises(UserError, match="no int8 form"):
        rounded(np.array([[1.0, np.nan]], np.float32))
    with pytest.raises(UserError, match="no int8 form"):
        rounded(np.array([[1.0, np.inf]], np.float32))


def test_the_network_answers_nearly_the_same_and_is_smaller(checkpoint):
    plain, int8 = load_model(checkpoint), load_int8_model(checkpoint)
    report = compare(plain, int8, rows())
    assert report.tokens == 80
    assert 0 < report.mean_logit_error < report.largest_logit_error < 0.2
    assert report.equal_greedy_share > 0.8
    assert report.perplexity_after == pytest.approx(report.perplexity_before, rel=0.02)
    linears = sum(p.size for p in plain.get_parameters() if p.name in _linear_weights(int8))
    scales = sum(p.asnumpy().nbytes for p in int8.get_parameters() if p.name.endswith(".scale"))
    assert weight_bytes(int8) == weight_bytes(plain) - 3 * linears + scales


def test_the_report_finds_a_weight_that_was_spoilt(checkpoint):
    plain, int8 = load_model(checkpoint), load_int8_model(checkpoint)
    up = int8.blocks[0].feed_forward.up
    up.scale.set_data(ms.Tensor(up.scale.asnumpy() * -8))
    report = compare(plain, int8, rows())
    assert report.largest_logit_error > 0.5
    assert report.equal_greedy_share < 0.8


def test_the_perplexity_of_equal_logits_is_the_vocabularys_size(checkpoint):
    model = load_model(checkpoint)
    for parameter in model.get_parameters():
        parameter.set_data(ms.Tensor(np.zeros(parameter.shape, np.float32)))
    report = compare(model, model, rows(1))
    assert report.perplexity_before == pytest.approx(120)
    assert (report.largest_logit_error, report.equal_greedy_share) == (0, 1)


def test_a_saved_model_is_loaded_as_it_was_without_rounding_anew(checkpoint, tmp_path):
    int8 = load_int8_model(checkpoint)
    save_model(tmp_path, int8.config, named_parameters(int8))
    again = load_int8_model(tmp_path)
    assert is_int8(tmp_path)
    assert not is_int8(checkpoint)
    assert named_parameters(again).keys() == named_parameters(int8).keys()
    assert "blocks.0.attention.query.scale" in named_parameters(again)
    for name, parameter in named_parameters(int8).items():
        assert np.array_equal(named_parameters(again)[name].asnumpy(), parameter.asnumpy()), name


def test_both_decoders_give_the_networks_logits(checkpoint):
    model, prompts = load_int8_model(checkpoint), rows(2, 30)
    expected = model(ms.Tensor(prompts), ms.Tensor(0, ms.int32)).asnumpy()
    engines = [GraphDecoder(load_int8_model(checkpoint))]
    try:
        native.load_library()
        engines.append(NativeDecoder(model))
    except CannotCompile:
        pass
    for engine in engines:
        np.testing.assert_allclose(engine.prefill(prompts[:, :25].tolist()), expected[:, 24], rtol=0, atol=1e-4)
        for at in range(25, 30):
            np.testing.assert_allclose(engine.step(prompts[:, at]), expected[:, at], rtol=0, atol=1e-4)


def test_what_is_rounded_already_stays(checkpoint):
    model = load_int8_model(checkpoint)
    before = {name: parameter.asnumpy().copy() for name, parameter in named_parameters(model).items()}
    quantize(model)
    assert all(np.array_equal(before[name], p.asnumpy()) for name, p in named_parameters(model).items())


def _linear_weights(model):
    return {f"{path}.weight" for path, cell in model.cells_and_names() if isinstance(cell, Int8Linear)}
