"""The family's name -> its network."""

from typing import TypeAlias

import mindspore as ms

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.codegeex import CodeGeeX
from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
from mindgeex.model_zoo.gpt_neox import GPTNeoX

Model: TypeAlias = CodeGeeX | GPTNeoX
NETWORKS: dict[str, type[CodeGeeX] | type[GPTNeoX]] = {"codegeex": CodeGeeX, "gpt_neox": GPTNeoX}


def build_model(config: ModelConfig, compute: ComputeConfig | None = None) -> Model:
    """The network that the sizes describe, with fresh weights.

    Raises:
        UserError: this device has no kernels for what `compute` asks for, or the sizes do not suit it.
    """
    compute = compute or ComputeConfig()
    if compute.attention == "flash" and config.dropout_rate and config.seq_length % 8:
        raise UserError(
            f"attention=flash drops scores in groups of 8: seq_length={config.seq_length} must be a multiple of 8 "
            "(or dropout_rate 0)"
        )
    if ms.get_context("device_target") == "CPU":
        if compute.attention == "flash":
            raise UserError("attention=flash has a kernel on Ascend only: set attention=matmul on a CPU")
        if "bfloat16" in (compute.dtype, compute.softmax_dtype):
            raise UserError("bfloat16 has no kernels on a CPU: set dtype to float32 or float16 here")
    return NETWORKS[config.family](config, compute)
