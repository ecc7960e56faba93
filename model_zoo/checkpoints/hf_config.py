"""Hugging Face's config.json of GPT-NeoX to our sizes and back; what we do not compute is refused by key and value.

Covers: GPTNeoXForCausalLM as transformers 4.x writes it, and the rope_parameters of 5.x. Does not cover: other model
types, tied embeddings, attention without biases, scaled rotary positions.
"""

from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError, did_you_mean
from mindgeex.common.files import read_json
from mindgeex.model_zoo.config import ModelConfig

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
ACTIVATIONS = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "quick_gelu": "fast_gelu",
}  # fmt: skip
"""Theirs -> ours; the first of a kind is what we write."""
SIZES = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "vocab_size": "vocab_size",
    "seq_length": "max_position_embeddings",
    "feed_forward_size": "intermediate_size",
}
"""Our field -> their key."""


def read_config(folder: Path) -> tuple[ModelConfig, list[str]]:
    """The sizes that config.json gives, and what a user should know about them.

    Raises:
        UserError: the file is missing, a size is missing or no whole number, or the model computes what ours does not.
    """
    path = folder / CONFIG_FILE
    tree = read_json(path)
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected an object of keys and values")
    _check_supported(path, tree)
    rope = tree.get("rope_parameters") or {}
    dropout, attention_dropout = (_number(path, tree, f"{what}_dropout", 0.0) for what in ("hidden", "attention"))
    notes = []
    if dropout != attention_dropout:
        notes.append(
            f"{path}: hidden_dropout={dropout} and attention_dropout={attention_dropout}: ours has one rate, {dropout}"
        )
    eod = tree.get("eos_token_id")
    eod = eod[0] if isinstance(eod, list) and eod else eod
    if eod is not None and type(eod) is not int:
        raise UserError(f"{path}: eos_token_id is {eod!r}: expected the number of a token")
    pct = rope.get("partial_rotary_factor", tree.get("rotary_pct", tree.get("partial_rotary_factor", 0.25)))
    base = rope.get("rope_theta", tree.get("rotary_emb_base", tree.get("rope_theta", 10000.0)))
    try:
        return (
            ModelConfig(
                family="gpt_neox",
                **{ours: _size(path, tree, theirs) for ours, theirs in SIZES.items()},
                dropout_rate=dropout,
                layer_norm_epsilon=_number(path, tree, "layer_norm_eps", 1e-5),
                init_std=_number(path, tree, "initializer_range", 0.02),
                eod_id=-1 if eod is None else eod,
                eod_reset=False,
                activation=ACTIVATIONS[tree.get("hidden_act", "gelu")],
                rotary_pct=_number(path, {"rotary_pct": pct}, "rotary_pct", 0.25),
                rotary_base=_number(path, {"rotary_emb_base": base}, "rotary_emb_base", 10000.0),
                parallel_residual=tree.get("use_parallel_residual", True),
            ),
            notes,
        )
    except UserError as error:
        message = str(error)
        raise UserError(message if message.startswith(str(path)) else f"{path}: {message}") from None


def hugging_face_config(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """config.json for our sizes and the type of the weights; both spellings of the rotary keys, which changed once."""
    eod = None if config.eod_id < 0 else config.eod_id
    activation = next(theirs for theirs, ours in ACTIVATIONS.items() if ours == config.activation)
    return {
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "hidden_act": activation,
        "hidden_dropout": config.dropout_rate,
        "attention_dropout": config.dropout_rate,
        "attention_bias": True,
        "layer_norm_eps": config.layer_norm_epsilon,
        "initializer_range": config.init_std,
        "rotary_pct": config.rotary_pct,
        "partial_rotary_factor": config.rotary_pct,
        "rotary_emb_base": config.rotary_base,
        "rope_theta": config.rotary_base,
        "rope_scaling": None,
        "use_parallel_residual": config.parallel_residual,
        "tie_word_embeddings": False,
        "bos_token_id": eod,
        "eos_token_id": eod,
        "use_cache": True,
        "torch_dtype": dtype,
    }


def generation_config(config: ModelConfig) -> dict[str, Any]:
    """generation_config.json: where generation begins and ends."""
    eod = None if config.eod_id < 0 else config.eod_id
    return {"bos_token_id": eod, "eos_token_id": eod}


def _check_supported(path: Path, tree: dict[str, Any]) -> None:
    if tree.get("model_type") != "gpt_neox":
        raise UserError(f"{path}: model_type is {tree.get('model_type')!r}: only 'gpt_neox' can be converted")
    rope = tree.get("rope_parameters") or {}
    for key, wanted in (("tie_word_embeddings", False), ("attention_bias", True)):
        if tree.get(key, wanted) is not wanted:
            raise UserError(f"{path}: {key} is {tree[key]!r}: only models with {key} {str(wanted).lower()} are known")
    if not isinstance(rope, dict):
        raise UserError(f"{path}: rope_parameters is {rope!r}: expected an object of keys and values")
    kind = rope.get("rope_type", "default")
    if tree.get("rope_scaling") is not None or kind != "default":
        what, value = ("rope_scaling", tree["rope_scaling"]) if tree.get("rope_scaling") else ("rope_type", kind)
        raise UserError(f"{path}: {what} is {value!r}: scaled rotary positions are not known here")
    activation = tree.get("hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise UserError(f"{path}: hidden_act is {activation!r}{did_you_mean(str(activation), ACTIVATIONS)}")
    if not isinstance(tree.get("use_parallel_residual", True), bool):
        raise UserError(f"{path}: use_parallel_residual is {tree['use_parallel_residual']!r}: expected true or false")


def _size(path: Path, tree: dict[str, Any], key: str) -> int:
    value = tree.get(key)
    if type(value) is not int:
        raise UserError(f"{path}: {key} is {'missing' if value is None else repr(value)}: expected a whole number")
    return value


def _number(path: Path, tree: dict[str, Any], key: str, default: float) -> float:
    value = tree.get(key, default)
    if type(value) not in (int, float):
        raise UserError(f"{path}: {key} is {value!r}: expected a number")
    return float(value)
