"""The sizes of a model, read from a YAML file in configs/ by name, and how it computes.

What follows from the sizes (width of a head, names and shapes of the tensors, FLOPs a token) is computed here and
nowhere else.
"""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mindgeex.common.config import as_tree, build_config, read_yaml
from mindgeex.common.errors import UserError, did_you_mean

CONFIGS = Path(__file__).parent / "configs"
FAMILIES = ("codegeex", "gpt_neox")
ACTIVATIONS = ("fast_gelu", "gelu", "gelu_tanh")
COMPUTE_TYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class ModelConfig:
    """What a model is; nothing about devices, precision or training."""

    family: str
    """Which network: codegeex (pre-LN blocks, learned positions, a top query layer, tied head), or gpt_neox (rotary
    positions, untied head: CodeFuse-13B)."""
    num_layers: int
    """Layers; for codegeex the top query layer is one of them (CodeGeeX-13B: 39 blocks + 1 = 40)."""
    hidden_size: int
    num_heads: int
    vocab_size: int
    """Rows of the embedding table; at least the tokenizer's vocabulary, usually padded."""
    seq_length: int
    """Length of the window in tokens; codegeex has so many rows in its two tables of positions."""
    feed_forward_size: int
    """Width of the feed-forward layer; 4 x hidden_size in every published model."""
    dropout_rate: float = 0.1
    """Probability that a value is dropped: embeddings, attention probabilities, both residual branches."""
    layer_norm_epsilon: float = 1e-5
    init_std: float = 0.01
    """Standard deviation of every matrix and embedding at the start (CodeGeeX: 0.01)."""
    eod_id: int = 50256
    """End of document. -1: there is none."""
    eod_reset: bool = True
    """Positions restart and attention is cut after every end of document."""
    activation: str = "fast_gelu"
    """Of the feed-forward layer: fast_gelu (x sigmoid(1.702 x)), gelu (with erf), gelu_tanh."""
    rotary_pct: float = 1.0
    """gpt_neox: the share of each head that is rotated by its position."""
    rotary_base: float = 10000.0
    """gpt_neox: pair i of R/2 turns by position / base^(2i/R) radians."""
    parallel_residual: bool = True
    """gpt_neox: attention and feed-forward read the same input, instead of one after the other."""

    def __post_init__(self) -> None:
        _check_known("family", self.family, FAMILIES)
        _check_known("activation", self.activation, ACTIVATIONS)
        sizes = ("hidden_size", "num_heads", "vocab_size", "seq_length", "feed_forward_size")
        for name in sizes:
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.family == "codegeex" and self.num_layers < 2:
            raise UserError(f"num_layers is {self.num_layers}: at least 2, since the last one is the top query layer")
        if self.num_layers < 1:
            raise UserError(f"num_layers is {self.num_layers}: it must be at least 1")
        if self.hidden_size % self.num_heads:
            fitting = [n for n in range(1, self.hidden_size + 1) if self.hidden_size % n == 0]
            nearest = min(fitting, key=lambda n: abs(n - self.num_heads))
            raise UserError(
                f"hidden_size={self.hidden_size} is not divisible by num_heads={self.num_heads}: "
                f"set num_heads={nearest}, or change hidden_size"
            )
        if not 0 <= self.dropout_rate < 1:
            raise UserError(f"dropout_rate is {self.dropout_rate}: it must be in [0, 1)")
        if not -1 <= self.eod_id < self.vocab_size:
            raise UserError(f"eod_id={self.eod_id} is outside the vocabulary of {self.vocab_size}: change one of them")
        for name in ("layer_norm_epsilon", "init_std", "rotary_base"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}: it must be a number greater than 0")
        if self.family == "gpt_neox":
            self._check_rotary()

    def _check_rotary(self) -> None:
        if not 0 < self.rotary_pct <= 1 or self.rotary_size % 2 or self.rotary_size == 0:
            even = max(2, self.rotary_size // 2 * 2) / self.head_size
            raise UserError(
                f"rotary_pct={self.rotary_pct} rotates {self.rotary_size} of the {self.head_size} values of a head: "
                f"it must be an even number of them, such as rotary_pct={even:g}"
            )

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def rotary_size(self) -> int:
        """Values of each head that are rotated (gpt_neox)."""
        return int(self.head_size * self.rotary_pct)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every trained tensor, in the order in which the network holds them."""
        hidden, inner = self.hidden_size, self.feed_forward_size
        linear = {
            **{f"attention.{name}": (hidden, hidden) for name in ("query", "key", "value", "output")},
            "feed_forward.up": (inner, hidden),
            "feed_forward.down": (hidden, inner),
        }
        block: dict[str, tuple[int, ...]] = {}
        for norm, prefix in (("attention_norm", "attention."), ("feed_forward_norm", "feed_forward.")):
            block |= {f"{norm}.gamma": (hidden,), f"{norm}.beta": (hidden,)}
            for name, shape in linear.items():
                if name.startswith(prefix):
                    block |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        top_query = self.family == "codegeex"
        shapes: dict[str, tuple[int, ...]] = {"word_embedding.weight": (self.vocab_size, hidden)}
        if top_query:
            shapes["position_embedding.weight"] = (self.seq_length, hidden)
        for index in range(self.num_layers - top_query):
            shapes |= {f"blocks.{index}.{name}": shape for name, shape in block.items()}
        shapes |= {"final_norm.gamma": (hidden,), "final_norm.beta": (hidden,)}
        if top_query:
            shapes["query_embedding.weight"] = (self.seq_length, hidden)
            shapes |= {f"top_query.{name}": shape for name, shape in block.items()}
        else:
            shapes["head.weight"] = (self.vocab_size, hidden)
        return shapes

    @property
    def parameters(self) -> int:
        """Trained values."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def forward_flops_per_token(self, context: int | None = None) -> int:
        """Floating-point operations of one token's forward pass, a multiplication and an addition counted as two.

        2 a weight of every matrix product (the head included, the tables that are only looked up not), and
        4 x context x hidden_size a layer for the scores and the mixture of attention (Chowdhery et al. 2022, PaLM,
        appendix B). A training step takes three times as many.

        Args:
            context: tokens attended to; the whole window by default, as the published figures count it.
        """
        products = [shape for name, shape in self.shapes.items() if len(shape) == 2 and "embedding" not in name]
        weights = sum(math.prod(shape) for shape in products)
        if self.family == "codegeex":
            weights += self.vocab_size * self.hidden_size
        return 2 * weights + 4 * self.num_layers * (context or self.seq_length) * self.hidden_size

    def figures(self) -> dict[str, object]:
        """Sizes and what follows from them, in the order in which they are shown."""
        count = self.parameters
        flops = self.forward_flops_per_token()
        foreign = () if self.family == "gpt_neox" else ("rotary_pct", "rotary_base", "parallel_residual")
        return {
            **{name: value for name, value in as_tree(self).items() if name not in foreign},
            "head_size": self.head_size,
            "tensors": len(self.shapes),
            "parameters": count,
            "bytes_float32": 4 * count,
            "bytes_float16_or_bfloat16": 2 * count,
            "bytes_float32_with_both_moments": 12 * count,
            "flops_per_token_forward": flops,
            "flops_per_token_training": 3 * flops,
        }

    def tensor_groups(self) -> list["TensorGroup"]:
        """The tensors with those of all blocks counted together."""
        groups: dict[tuple[str, tuple[int, ...]], int] = {}
        for name, shape in self.shapes.items():
            key = (re.sub(r"^blocks\.\d+\.", "blocks.*.", name), shape)
            groups[key] = groups.get(key, 0) + 1
        return [TensorGroup(name, count, shape) for (name, shape), count in groups.items()]


@dataclass(frozen=True)
class TensorGroup:
    """Tensors of one shape that differ only in the number of their block."""

    name: str
    count: int
    shape: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """Values of all of them."""
        return self.count * math.prod(self.shape)


@dataclass(frozen=True)
class ComputeConfig:
    """How a model computes; nothing here changes what its weights are."""

    dtype: str = "float32"
    """Type of matrix products and of what flows between layers; weights and layer norms stay float32."""
    attention: str = "matmul"
    """matmul (scores, softmax, mixture), or flash (one fused kernel; Ascend, half precision)."""
    softmax_dtype: str = "float32"
    """Type in which the softmax of the blocks is taken (matmul attention); the top query layer's is always float32."""
    attention_scaling: str = "query"
    """Where 1 / sqrt(head_size) goes: query, or half of it each on query and key (query_key), as CodeGeeX does on
    Ascend, which keeps float16 scores in range."""
    recompute: bool = False
    """Every block is computed again in the backward pass: less memory, more time, the same numbers."""

    def __post_init__(self) -> None:
        _check_known("dtype", self.dtype, COMPUTE_TYPES)
        _check_known("softmax_dtype", self.softmax_dtype, COMPUTE_TYPES)
        _check_known("attention", self.attention, ("matmul", "flash"))
        _check_known("attention_scaling", self.attention_scaling, ("query", "query_key"))
        if self.attention == "flash" and self.dtype == "float32":
            raise UserError("attention=flash computes in half precision: set dtype to bfloat16 or float16")


def _check_known(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise UserError(f"{name} is {value!r}{did_you_mean(value, known)}")


def config_names() -> list[str]:
    """The models that ship with the project."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def load_model_config(name: str) -> ModelConfig:
    """A model's sizes from a shipped name (`codegeex_13b`) or from the path of a YAML file.

    Raises:
        UserError: no such model, an unknown key, sizes that do not fit together.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONFIGS / f"{name}.yaml"
    if path.parent == CONFIGS and not path.is_file():
        raise UserError(f"no model named {name!r}{did_you_mean(name, config_names())}")
    return build_config(ModelConfig, read_yaml(path), str(path))
