"""Weights of one byte: each row of a linear layer's matrix as whole numbers from -127 to 127 and one float scale."""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindgeex.model_zoo.layers import Linear


def rounded(weight_OI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float [out, in] -> int8 [out, in] and scale float32 [out], so that weight is about int8 * scale."""
    scale_O = np.abs(weight_OI).max(axis=1) / np.float32(127)
    scale_O[scale_O == 0] = 1
    return np.rint(weight_OI / scale_O[:, None]).astype(np.int8), scale_O.astype(np.float32)


class Int8Linear(nn.Cell):
    """y = (x W^T) scale + b, with W int8 [out, in], scale [out] and b [out]; takes the place of a Linear."""

    def __init__(self, linear: Linear):
        super().__init__()
        self.in_size, self.out_size, self.dtype = linear.in_size, linear.out_size, linear.dtype
        weight_OI, scale_O = rounded(linear.weight.asnumpy())
        self.weight = Parameter(Tensor(weight_OI), name=linear.weight.name, requires_grad=False)
        self.scale = Parameter(
            Tensor(scale_O), name=f"{linear.weight.name.rpartition('.')[0]}.scale", requires_grad=False
        )
        self.bias = linear.bias
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x_BTI: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        x_NI = x_BTI.astype(ms.float32).reshape(-1, self.in_size)
        y_NO = self.matmul(x_NI, self.weight.astype(ms.float32)) * self.scale
        if self.bias is not None:
            y_NO = y_NO + self.bias
        return y_NO.astype(self.dtype).reshape(x_BTI.shape[:-1] + (self.out_size,))
