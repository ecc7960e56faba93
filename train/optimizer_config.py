"""What can be set about the optimizer; apart from the cell, so that reading a recipe does not import mindspore."""

from dataclasses import dataclass

from mindgeex.common.errors import UserError


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, or AdamWeightDecay."""

    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    """Of tensors with two dimensions, embeddings included; biases and layer norms have none."""
    bias_correction: bool = True
    """AdamW; false is MindSpore's AdamWeightDecay, with which CodeGeeX was trained: its first steps are shorter."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this global norm."""

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"optimizer.{name} is {getattr(self, name)}: it must be in [0, 1)")
        for name in ("epsilon", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise UserError(f"optimizer.{name} is {getattr(self, name)}: it must be greater than 0")
        if not self.weight_decay >= 0:
            raise UserError(f"optimizer.weight_decay is {self.weight_decay}: it must be at least 0")
