"""How a model computes does not change what it computes: scaling, softmax type, half precision, the fused kernel."""

import dataclasses

import mindspore as ms
import numpy as np
import pytest
from mindspore import ops

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.attention import DocumentMask, DotProductAttention, FlashAttention
from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.model_zoo.families import NETWORKS, build_model
from tests.model_zoo.conftest import load_original

NO_SEED = ms.Tensor(0, ms.int32)
HALF = ComputeConfig(dtype="float16", attention="flash")


def attention_config(**changes):
    sizes = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "vocab_size": 48, "seq_length": 16}
    return ModelConfig(family="codegeex", feed_forward_size=64, eod_id=0, **{**sizes, **changes})


def logits_of(fixtures, compute, ids):
    return load_original(fixtures, compute)(ms.Tensor(ids), NO_SEED).asnumpy().astype(np.float32)


def test_both_scalings_give_the_originals_logits(fixtures):
    expected = np.load(fixtures / "expected.npz")
    logits = logits_of(fixtures, ComputeConfig(attention_scaling="query_key"), expected["input_ids"])
    assert np.abs(logits - expected["logits"]).max() < 1e-4


def test_half_precision_stays_within_its_rounding_of_the_originals_logits(fixtures):
    expected = np.load(fixtures / "expected.npz")
    spread = np.abs(expected["logits"]).max()
    for compute in (
        ComputeConfig(dtype="float16"),
        ComputeConfig(dtype="float16", softmax_dtype="float16", attention_scaling="query_key"),
    ):
        logits = logits_of(fixtures, compute, expected["input_ids"])
        error = np.abs(logits - expected["logits"]).max()
        # float16 has 11 bits: after 4 layers an error of a few of them, and not none at all, which would be float32.
        assert 2**-16 * spread < error < 2**-7 * spread


def test_layer_norms_and_weights_stay_float32_in_half_precision():
    model = build_model(attention_config(), ComputeConfig(dtype="float16"))
    assert {parameter.dtype for parameter in model.get_parameters()} == {ms.float32}
    huge = ms.Tensor(np.full((1, 1, 32), 60000.0, np.float16) * np.linspace(0.9, 1, 32, dtype=np.float16))
    normed = model.final_norm(huge)
    assert normed.dtype == ms.float16
    assert np.isfinite(normed.asnumpy()).all()


def random_inputs(config, length=16):
    shape = (2, config.num_heads, length, config.head_size)
    generator = np.random.default_rng(0)
    q, k, v = (generator.normal(size=shape).astype(np.float16) for _ in range(3))
    ids = generator.integers(0, 4, (2, length)).astype(np.int32)
    return q, k, v, ids


class KernelStandIn:
    """Stands where FlashAttentionScore has no kernel: what its documentation defines, in NumPy's float32."""

    def __init__(self, keep_prob, scale):
        self.keep_prob, self.scale = keep_prob, scale

    def __call__(self, q, k, v, real_shift, drop_mask, padding_mask, attn_mask):
        assert real_shift is None and padding_mask is None
        q, k, v, mask = (tensor.asnumpy() for tensor in (q, k, v, attn_mask))
        assert mask.dtype == np.uint8 and q.dtype == np.float16
        scores = self.scale * np.einsum("batd,bakd->batk", q.astype(np.float32), k.astype(np.float32))
        scores = np.where(mask == 1, -np.inf, scores)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        if drop_mask is not None:
            bits = np.unpackbits(drop_mask.asnumpy(), axis=-1, bitorder="little")
            shares = shares * bits / self.keep_prob
        mixed = np.einsum("batk,bakd->batd", shares, v.astype(np.float32)).astype(np.float16)
        return None, None, None, ms.Tensor(mixed)


def flash(config, monkeypatch):
    monkeypatch.setattr(FlashAttention, "kernel", staticmethod(lambda _heads, keep, scale: KernelStandIn(keep, scale)))
    return FlashAttention(config, salt=3, compute=HALF)


@pytest.fixture
def eagerly():
    """The stand-in is no operator, so it cannot be part of a graph."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


def test_the_fused_path_hands_its_kernel_what_the_matmul_path_computes(monkeypatch, eagerly):
    config = attention_config(dropout_rate=0.0)
    q, k, v, ids = random_inputs(config)
    matmul = DotProductAttention(config, 3, dataclasses.replace(HALF, attention="matmul")).set_train(False)
    results = []
    for cell, compute in ((flash(config, monkeypatch), HALF), (matmul, ComputeConfig())):
        positions, mask = DocumentMask(config, compute)(ms.Tensor(ids))
        results.append(cell.set_train(False)(*map(ms.Tensor, (q, k, v)), mask, NO_SEED).asnumpy())
    assert np.abs(results[0].astype(np.float32) - results[1].astype(np.float32)).max() < 4e-3


def test_the_fused_path_drops_its_share_by_seed_and_place(monkeypatch, eagerly):
    config = attention_config(dropout_rate=0.25, seq_length=128)
    cell = flash(config, monkeypatch).set_train()
    q, k, _, _ = random_inputs(config, length=128)

    def bits(seed):
        packed = cell.packed_keeps(ms.Tensor(q), ms.Tensor(k), ms.Tensor([seed, seed + 100], ms.int32)).asnumpy()
        assert packed.shape == (2, 2, 128, 16)
        return np.unpackbits(packed, axis=-1)

    count = 2 * 2 * 128 * 128
    assert abs(bits(1).mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / count)
    assert np.array_equal(bits(1), bits(1))
    agreement = (bits(1) == bits(2)).mean()
    assert abs(agreement - (0.75**2 + 0.25**2)) < 5 * 0.5 / np.sqrt(count)
    by_bit = bits(1).reshape(-1, 8).mean(0)
    assert np.abs(by_bit - 0.75).max() < 5 * np.sqrt(0.75 * 0.25 / (count / 8))


def test_the_fused_kernel_is_asked_for_with_the_documented_attributes():
    kernel = FlashAttention.kernel(4, 0.9, 0.125)
    assert (kernel.head_num, kernel.keep_prob, kernel.scale_value) == (4, 0.9, 0.125)
    assert kernel.next_tokens == 0
    assert isinstance(kernel, ops.Primitive)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "flash"}, "attention=flash computes in half precision"),
        ({"dtype": "float61"}, "did you mean 'float16'"),
        ({"attention_scaling": "keys"}, "known: query, query_key|did you mean"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        ComputeConfig(**settings)


def test_a_window_that_the_fused_kernel_cannot_drop_from_is_refused():
    with pytest.raises(UserError, match="seq_length=17 must be a multiple of 8"):
        build_model(attention_config(seq_length=17), HALF)


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (HALF, "attention=flash has a kernel on Ascend only"),
        (ComputeConfig(dtype="bfloat16"), "bfloat16 has no kernels on a CPU"),
    ],
)
def test_what_this_device_cannot_compute_is_refused_before_the_model_is_built(compute, message):
    with pytest.raises(UserError, match=message):
        build_model(attention_config(), compute)


@pytest.mark.parametrize("family", ["codegeex", "gpt_neox"])
@pytest.mark.parametrize("training", [True, False])
def test_the_graph_of_the_fused_path_compiles_up_to_the_kernel_that_only_ascend_has(family, training):
    config = dataclasses.replace(attention_config(), family=family)
    ms.set_context(mode=ms.GRAPH_MODE)
    model = NETWORKS[family](config, HALF).set_train(training)
    with pytest.raises(RuntimeError, match=r"Unsupported op \[FlashAttentionScore\] on CPU"):
        model(ms.Tensor(np.zeros((2, 16), np.int32)), NO_SEED)
