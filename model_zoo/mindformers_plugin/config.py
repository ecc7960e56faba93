"""What MindFormers builds from `model.model_config`: our sizes and a few of its own keys, checked.

MindFormers' own classes take any key and hand out None for a misspelt one; here an unknown key is an error.
Covers: the keys of config.ModelConfig under their names, how to compute under MindFormers' names, generation.
Does not cover: `use_past`, MindFormers' paged cache of keys and values.
"""

from typing import Any

from mindformers.models.configuration_utils import PretrainedConfig
from mindformers.modules.transformer.transformer import TransformerOpParallelConfig
from mindformers.tools.register import MindFormerModuleType, MindFormerRegister

from mindgeex.common.config import as_tree, build_config
from mindgeex.common.errors import UserError, did_you_mean
from mindgeex.model_zoo.config import ComputeConfig, ModelConfig, load_model_config

COMPUTE: dict[str, Any] = {
    "compute_dtype": "float32",
    "softmax_compute_type": "float32",
    "use_flash_attention": False,
    "attention_scaling": "query",
}
"""MindFormers' names for fields of config.ComputeConfig; `recompute` comes from its section recompute_config."""
PASSED_ON = frozenset({
    "type", "model_type", "name_or_path", "mindformers_version", "pretrained_model_dir", "checkpoint_name_or_path",
    "tokenizer_class", "architectures", "is_encoder_decoder", "is_dynamic", "batch_size", "parallel_config",
    "moe_config", "dataset_config", "calculate_per_token_loss", "pet_config", "quantization", "quantization_config",
    "is_sample_acceleration", "bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "temperature", "top_k",
    "top_p", "repetition_penalty", "max_decode_length", "max_length", "max_new_tokens", "min_length",
    "min_new_tokens", "disable_lazy_inline", "track_max_attention_logit", "use_eod_attn_mask_compression", "use_past",
    "_name_or_path", "_commit_hash",
})  # fmt: skip
"""Keys that MindFormers reads, or adds."""


class MindGeeXConfig(PretrainedConfig):
    """Sizes are those of `sizes_from`, a model's name or YAML file; without it the keys, else the published ones."""

    family = ""
    published = ""

    def __init__(self, **keys: Any):
        """Raises UserError: an unknown key, or sizes that do not fit together."""
        source = keys.pop("sizes_from", None)
        sizes = as_tree(load_model_config(str(source or self.published)))
        if sizes.pop("family") != self.family:
            raise UserError(f"model.model_config.sizes_from is {source}, which is no model of the family {self.family}")
        own = sizes | COMPUTE
        if unknown := sorted(keys.keys() - own.keys() - PASSED_ON):
            known = [*own, "sizes_from"]
            raise UserError(f"model.model_config: unknown key '{unknown[0]}'{did_you_mean(unknown[0], known)}")
        if source is not None:
            keys = {name: value for name, value in keys.items() if name not in sizes}
        if keys.pop("use_past", False):
            raise UserError(
                "model.model_config: use_past is true: this model has no paged cache; set it to false, or decode with "
                "`mindgeex generate`, which has a cache of its own"
            )
        if keys.get("parallel_config", True) is None:
            del keys["parallel_config"]
        elif isinstance(keys.get("parallel_config"), dict):
            keys["parallel_config"] = TransformerOpParallelConfig(**keys["parallel_config"])
        eod = keys.get("eod_id", sizes["eod_id"])
        defaults = {"batch_size": 1, "is_dynamic": False, "is_encoder_decoder": False}
        if eod >= 0:
            defaults |= {"eos_token_id": eod, "pad_token_id": eod}
        super().__init__(**{**own, **defaults, **keys})
        self.use_past = False
        self.sizes, self.compute  # noqa: B018  (refuses wrong values now)

    @property
    def sizes(self) -> ModelConfig:
        """What the network is."""
        tree = {name: getattr(self, name) for name in ModelConfig.__dataclass_fields__ if name != "family"}
        return build_config(ModelConfig, {"family": self.family, **tree}, "model.model_config")

    @property
    def compute(self) -> ComputeConfig:
        """How it computes."""
        tree = {
            "dtype": self.compute_dtype,
            "softmax_dtype": self.softmax_compute_type,
            "attention": "flash" if self.use_flash_attention else "matmul",
            "attention_scaling": self.attention_scaling,
            "recompute": bool(self.parallel_config.recompute.recompute),
        }
        return build_config(ComputeConfig, tree, "model.model_config")


@MindFormerRegister.register(MindFormerModuleType.CONFIG)
class CodeGeeXConfig(MindGeeXConfig):
    """The family codegeex."""

    model_type = "mindgeex_codegeex"
    family = "codegeex"
    published = "codegeex_13b"


@MindFormerRegister.register(MindFormerModuleType.CONFIG)
class GPTNeoXConfig(MindGeeXConfig):
    """The family gpt_neox: CodeFuse-13B."""

    model_type = "mindgeex_gpt_neox"
    family = "gpt_neox"
    published = "codefuse_13b"
