"""Hugging Face's config.json: both ways, and what ours does not compute is refused by key and value."""

import json

import pytest

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.hf_config import hugging_face_config, read_config
from mindgeex.model_zoo.config import load_model_config
from tests.model_zoo.checkpoints.checkpoint import gpt_neox


def written(folder, tree):
    (folder / "config.json").write_text(json.dumps(tree))
    return folder


@pytest.mark.parametrize(
    "config",
    [
        gpt_neox(),
        gpt_neox(rotary_pct=0.25, rotary_base=5000.0, hidden_size=32),
        gpt_neox(activation="gelu_tanh", parallel_residual=False),
        gpt_neox(activation="fast_gelu", eod_id=-1, layer_norm_epsilon=1e-6, init_std=0.5),
        load_model_config("codefuse_13b"),
    ],
)
def test_sizes_come_back(tmp_path, config):
    assert read_config(written(tmp_path, hugging_face_config(config, "float32"))) == (config, [])


def test_keys_that_old_files_leave_out_have_the_defaults_of_transformers(tmp_path):
    sizes = hugging_face_config(gpt_neox(hidden_size=64), "float16")
    left_out = ("rotary_pct", "partial_rotary_factor", "rotary_emb_base", "rope_theta", "rope_scaling",
                "attention_bias", "tie_word_embeddings", "use_parallel_residual", "hidden_act")  # fmt: skip
    config, _ = read_config(written(tmp_path, {k: v for k, v in sizes.items() if k not in left_out}))
    assert config == gpt_neox(hidden_size=64, rotary_pct=0.25)


def test_the_newest_spelling_of_the_rotary_keys_is_read(tmp_path):
    sizes = hugging_face_config(gpt_neox(), "float16")
    del sizes["rotary_pct"], sizes["rope_theta"], sizes["rope_scaling"]
    sizes["rope_parameters"] = {"rope_type": "default", "rope_theta": 1234.0, "partial_rotary_factor": 1.0}
    config, _ = read_config(written(tmp_path, sizes))
    assert (config.rotary_pct, config.rotary_base) == (1.0, 1234.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tie_word_embeddings": True}, "tie_word_embeddings is True"),
        ({"attention_bias": False}, "attention_bias is False"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, r"rope_scaling is \{'type': 'linear'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type is 'yarn'"),
        ({"hidden_act": "gelu_newer"}, "hidden_act is 'gelu_newer'; did you mean 'gelu_new'"),
        ({"hidden_act": ["gelu"]}, "hidden_act is"),
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "16"}, "hidden_size is '16': expected a whole number"),
        ({"num_attention_heads": 3}, "not divisible by num_heads=3"),
        ({"rotary_pct": "all"}, "rotary_pct is 'all': expected a number"),
        ({"eos_token_id": "</s>"}, "eos_token_id is '</s>'"),
        ({"eos_token_id": 99}, "eod_id=99 is outside the vocabulary"),
        ({"use_parallel_residual": "yes"}, "use_parallel_residual is 'yes'"),
    ],
)
def test_what_ours_does_not_compute_is_refused_by_key_and_value(tmp_path, change, message):
    folder = written(tmp_path, {**hugging_face_config(gpt_neox(), "float32"), **change})
    with pytest.raises(UserError, match=message) as caught:
        read_config(folder)
    assert str(folder / "config.json") in str(caught.value)


def test_two_rates_of_dropout_are_noted(tmp_path):
    tree = {**hugging_face_config(gpt_neox(), "float32"), "attention_dropout": 0.3}
    _, notes = read_config(written(tmp_path, tree))
    assert "attention_dropout=0.3" in notes[0]
