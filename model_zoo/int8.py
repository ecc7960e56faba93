"""Weights of one byte: each row of a linear layer's matrix as whole numbers from -127 to 127 and one float scale.

Only weights are rounded; what they are multiplied with stays float32. The literature calls this weight-only, symmetric
and per channel (Nagel et al. 2021, A White Paper on Neural Network Quantization, section 2).
Covers: every Linear, the untied head included. Does not cover: embeddings and with them CodeGeeX's head, which is one;
norms and biases; rounding that looks at data.
"""

# Shapes: N rows of tokens, S sequence, V vocabulary; a linear layer's I inputs and O outputs
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindgeex.common.config import build_config, read_yaml
from mindgeex.common.errors import UserError
from mindgeex.common.files import atomic_folder
from mindgeex.model_zoo.checkpoints.adapter import is_adapter
from mindgeex.model_zoo.checkpoints.containers.safetensors_file import read_safetensors_folder
from mindgeex.model_zoo.checkpoints.native import (
    MODEL_FILE,
    WEIGHTS_FILE,
    load_model,
    load_tensors,
    named_parameters,
    save_model,
)
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.families import Model, build_model
from mindgeex.model_zoo.layers import Linear

LARGEST = 127


class Int8Linear(nn.Cell):
    """y = (x W^T) scale + b, with W int8 [out, in], scale [out] and b [out]; takes the place of a Linear."""

    def __init__(self, linear: Linear):
        """With the sizes, type and bias of a Linear, and weights of 0 until some are put in."""
        super().__init__()
        self.in_size, self.out_size, self.dtype = linear.in_size, linear.out_size, linear.dtype
        weight_OI = np.zeros((self.out_size, self.in_size), np.int8)
        self.weight = Parameter(Tensor(weight_OI), name="weight", requires_grad=False)
        self.scale = Parameter(Tensor(np.ones(self.out_size, np.float32)), name="scale", requires_grad=False)
        self.bias = linear.bias
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x_BTI: Tensor, seeds_B: Tensor | None = None) -> Tensor:
        """[..., in] -> [..., out]."""
        x_NI = x_BTI.astype(ms.float32).reshape(-1, self.in_size)
        y_NO = self.matmul(x_NI, self.weight.astype(ms.float32)) * self.scale
        if self.bias is not None:
            y_NO = y_NO + self.bias
        return y_NO.astype(self.dtype).reshape(x_BTI.shape[:-1] + (self.out_size,))


def rounded(weight_OI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float [out, in] -> int8 [out, in] and scale float32 [out]: scale = max|row| / 127, so that weight ~ int8 x scale.

    Raises:
        UserError: a weight is no number.
    """
    largest_O = np.abs(weight_OI).max(axis=1).astype(np.float32)
    if not np.isfinite(largest_O).all():
        raise UserError("a weight is infinite or no number, and has no int8 form: take an earlier checkpoint")
    scale_O = np.maximum(largest_O / LARGEST, np.finfo(np.float32).tiny)
    return np.clip(np.rint(weight_OI / scale_O[:, None]), -LARGEST, LARGEST).astype(np.int8), scale_O


def quantize(model: Model) -> None:
    """Rounds the weights of every Linear of a model, in place. A graph that was compiled before does not notice.

    Raises:
        UserError: a weight is no number.
    """
    for linear, int8 in _replace_linears(model):
        weight_OI, scale_O = rounded(linear.weight.asnumpy())
        int8.weight.set_data(Tensor(weight_OI))
        int8.scale.set_data(Tensor(scale_O))
    _name_by_path(model)


def load_int8_model(folder: Path) -> Model:
    """A checkpoint's model with int8 weights, in inference mode: rounded now, or as `mindgeex quantize` saved them.

    Raises:
        UserError: as `load_model`, or a weight is no number.
    """
    path = folder / MODEL_FILE
    if not is_int8(folder):
        model = load_model(folder)
        quantize(model)
        return model
    model = build_model(build_config(ModelConfig, read_yaml(path), str(path)))
    for _ in _replace_linears(model):
        pass
    _name_by_path(model)
    load_tensors(folder / WEIGHTS_FILE, named_parameters(model))
    return model.set_train(False)


def save_int8_model(folder: Path, model: Model, tokenizer: Path) -> None:
    """Publishes a rounded model with its tokenizer's files as a checkpoint.

    Raises:
        UserError: the folder exists, the disk is full or the folder cannot be written.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists already: choose another folder, or delete it first")
    with atomic_folder(folder) as partial:
        save_model(partial, model.config, named_parameters(model))
        if tokenizer.is_dir():
            (partial / "tokenizer").mkdir()
            for file in tokenizer.iterdir():
                shutil.copyfile(file, partial / "tokenizer" / file.name)


def is_int8(folder: Path) -> bool:
    """Whether a folder is a checkpoint whose weights are rounded already.

    Raises:
        UserError: the weights are missing or damaged.
    """
    if is_adapter(folder):
        return False
    return (folder / MODEL_FILE).is_file() and any(name.endswith(".scale") for name in read_safetensors_folder(folder))


@dataclass(frozen=True)
class QuantizationReport:
    """What rounding does to a model's answers, over all positions of some rows of tokens."""

    tokens: int
    largest_logit_error: float
    mean_logit_error: float
    equal_greedy_share: float
    """Positions at which the most likely next token is the same."""
    perplexity_before: float
    perplexity_after: float


def compare(plain: Model, int8: Model, rows_NS1: np.ndarray) -> QuantizationReport:
    """The two models' logits for rows of tokens, int32 [N, S + 1]; the perplexity is that of each token's successor."""
    largest = total = equal = 0.0
    nats = np.zeros(2)
    no_seed = Tensor(0, ms.int32)
    for row_S1 in rows_NS1:
        ids_1S, next_S = Tensor(row_S1[None, :-1].astype(np.int32)), row_S1[1:]
        before_SV, after_SV = (model(ids_1S, no_seed).asnumpy()[0].astype(np.float64) for model in (plain, int8))
        error_SV = np.abs(after_SV - before_SV)
        largest, total = max(largest, float(error_SV.max())), total + float(error_SV.mean()) * len(next_S)
        equal += float((before_SV.argmax(axis=1) == after_SV.argmax(axis=1)).sum())
        nats += [_nats(before_SV, next_S), _nats(after_SV, next_S)]
    tokens = rows_NS1[:, 1:].size
    perplexities = [math.exp(min(value / tokens, 700.0)) for value in nats]
    return QuantizationReport(tokens, largest, total / tokens, equal / tokens, *perplexities)


def as_rows(ids: Sequence[int], window: int, limit: int) -> np.ndarray:
    """The ids of a text in at most `limit` rows of window + 1 tokens; one shorter row if the text is shorter.

    Raises:
        UserError: the text has fewer than two tokens.
    """
    if len(ids) < 2:
        raise UserError(f"a text of {len(ids)} tokens: at least 2, so that one has a successor")
    count = min(limit, len(ids) // (window + 1))
    return np.array(ids[: count * (window + 1)] or ids, np.int32).reshape(max(1, count), -1)


def weight_bytes(model: Model) -> int:
    """Bytes of all weights as they are held."""
    return sum(parameter.asnumpy().nbytes for parameter in model.get_parameters())


def _nats(logits_SV: np.ndarray, next_S: np.ndarray) -> float:
    """Negative log-likelihood of the tokens."""
    top_S = logits_SV.max(axis=1)
    normaliser_S = top_S + np.log(np.exp(logits_SV - top_S[:, None]).sum(axis=1))
    return float((normaliser_S - logits_SV[np.arange(len(next_S)), next_S]).sum())


def _replace_linears(cell: nn.Cell) -> Iterator[tuple[Linear, Int8Linear]]:
    """Puts an Int8Linear in the place of every Linear below a cell; one by one, so that each may go when it is done."""
    for name, child in list(cell.name_cells().items()):
        if isinstance(child, Linear):
            int8 = Int8Linear(child)
            setattr(cell, name, int8)
            yield child, int8
        elif not isinstance(child, Int8Linear):
            yield from _replace_linears(child)


def _name_by_path(model: Model) -> None:
    """A cell that comes in later names its parameters as if it stood alone."""
    for path, parameter in model.parameters_and_names():
        parameter.name = path
