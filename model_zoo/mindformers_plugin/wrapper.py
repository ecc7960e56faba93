"""MindFormers' training step where there is no NPU: overflow is seen in the gradients themselves.

MFTrainOneStepCell asks an NPU's status register, whose operator has no kernel elsewhere; all else is inherited.
Covers: a CPU, one process. On Ascend choose MFTrainOneStepCell.
"""

from mindformers.tools.register import MindFormerModuleType, MindFormerRegister
from mindformers.wrapper import MFTrainOneStepCell
from mindspore import Tensor, ops

_not_finite = ops.MultitypeFuncGraph("not_finite")


@_not_finite.register("Tensor")
def _not_finite_tensor(gradient: Tensor) -> Tensor:
    return ops.logical_not(ops.isfinite(gradient).all())


@MindFormerRegister.register(MindFormerModuleType.WRAPPER)
class FiniteTrainOneStepCell(MFTrainOneStepCell):
    """`runner_wrapper.type` on a CPU."""

    def start_overflow_check(self, pre_cond: Tensor, compute_input: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing has to be cleared."""
        return pre_cond, compute_input

    def get_overflow_status(self, status: Tensor, compute_output: tuple[Tensor, ...]) -> Tensor:
        """Whether a gradient holds what is not a number, or infinity: bool []."""
        found = ops.HyperMap()(_not_finite, compute_output)
        return ops.stack(found).any()
