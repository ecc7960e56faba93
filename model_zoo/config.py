"""The sizes of a model: one frozen dataclass, read from a YAML file in configs/ by name.

What follows from the sizes (width of a head, number of parameters) is computed here and nowhere else.
"""

from dataclasses import dataclass
from pathlib import Path

from mindgeex.common.config import build_config, read_yaml
from mindgeex.common.errors import UserError, did_you_mean

CONFIGS = Path(__file__).parent / "configs"
FAMILIES = ("codegeex",)


@dataclass(frozen=True)
class ModelConfig:
    """What a model is; nothing about devices, precision or training."""

    family: str
    """Which network: codegeex (pre-LN blocks, learned positions, a top query layer, tied head)."""
    num_layers: int
    """Layers, the top query layer included (CodeGeeX-13B: 39 blocks + 1 = 40)."""
    hidden_size: int
    num_heads: int
    vocab_size: int
    """Rows of the embedding table; at least the tokenizer's vocabulary, usually padded."""
    seq_length: int
    """Length of the window in tokens; rows of the position table."""
    feed_forward_size: int
    """Width of the feed-forward layer; 4 x hidden_size in every published model."""
    dropout_rate: float = 0.1
    """Probability that a value is dropped: embeddings, attention probabilities, both residual branches."""
    layer_norm_epsilon: float = 1e-5
    init_std: float = 0.01
    """Standard deviation of every matrix and embedding at the start (CodeGeeX: 0.01)."""
    eod_id: int = 50256
    """End of document; positions restart and attention is cut after it. -1: there is none."""

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise UserError(f"family is {self.family!r}{did_you_mean(self.family, FAMILIES)}")
        sizes = ("hidden_size", "num_heads", "vocab_size", "seq_length", "feed_forward_size")
        for name in sizes:
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.num_layers < 2:
            raise UserError(f"num_layers is {self.num_layers}: at least 2, since the last one is the top query layer")
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

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def parameters(self) -> int:
        """Trained values of the codegeex family, counted from the shapes of its tensors."""
        hidden, inner = self.hidden_size, self.feed_forward_size
        attention = 4 * (hidden * hidden + hidden)
        feed_forward = hidden * inner + inner + inner * hidden + hidden
        norms = 2 * 2 * hidden
        embeddings = self.vocab_size * hidden + 2 * self.seq_length * hidden
        return self.num_layers * (attention + feed_forward + norms) + embeddings + 2 * hidden


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
