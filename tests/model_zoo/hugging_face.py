"""A Hugging Face GPT-NeoX folder as our model, by a reader of its own: the converter is tested elsewhere."""

import json
from pathlib import Path

import mindspore as ms
import numpy as np
from safetensors.numpy import load_file

from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.families import build_model

ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh"}
LEAVES = {
    "attention_norm": "input_layernorm",
    "feed_forward_norm": "post_attention_layernorm",
    "attention.output": "attention.dense",
    "feed_forward.up": "mlp.dense_h_to_4h",
    "feed_forward.down": "mlp.dense_4h_to_h",
}
"""Ours -> theirs; gamma and beta are weight and bias."""


def load_neox(folder: Path):
    """The model in inference mode. Queries, keys and values of a head lie together in theirs."""
    sizes = json.loads((folder / "config.json").read_text())
    config = ModelConfig(
        family="gpt_neox",
        num_layers=sizes["num_hidden_layers"],
        hidden_size=sizes["hidden_size"],
        num_heads=sizes["num_attention_heads"],
        vocab_size=sizes["vocab_size"],
        seq_length=sizes["max_position_embeddings"],
        feed_forward_size=sizes["intermediate_size"],
        dropout_rate=0.0,
        eod_id=sizes["eos_token_id"],
        eod_reset=False,
        activation=ACTIVATIONS[sizes["hidden_act"]],
        rotary_pct=sizes["rotary_pct"],
        rotary_base=sizes["rotary_emb_base"],
        parallel_residual=sizes["use_parallel_residual"],
    )
    theirs = load_file(folder / "model.safetensors")
    model = build_model(config).set_train(False)
    for parameter in model.get_parameters():
        parameter.set_data(ms.Tensor(_find(parameter.name, theirs, config)))
    return model


def _find(name: str, theirs: dict[str, np.ndarray], config: ModelConfig) -> np.ndarray:
    whole = {"word_embedding.weight": "gpt_neox.embed_in.weight", "head.weight": "embed_out.weight"}
    if name in whole:
        return theirs[whole[name]]
    path, _, leaf = name.rpartition(".")
    leaf = {"gamma": "weight", "beta": "bias"}.get(leaf, leaf)
    if path == "final_norm":
        return theirs[f"gpt_neox.final_layer_norm.{leaf}"]
    _, index, inner = path.split(".", 2)
    place = f"gpt_neox.layers.{index}"
    if inner in LEAVES:
        return theirs[f"{place}.{LEAVES[inner]}.{leaf}"]
    fused = theirs[f"{place}.attention.query_key_value.{leaf}"]
    heads = fused.reshape(config.num_heads, 3, config.head_size, *fused.shape[1:])
    which = ("attention.query", "attention.key", "attention.value").index(inner)
    return np.ascontiguousarray(heads[:, which].reshape(-1, *fused.shape[1:]))
