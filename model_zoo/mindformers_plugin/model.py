"""The networks of codegeex.py and gpt_neox.py in the form in which MindFormers trains, loads and generates.

A thin cell around the network that leaves every parameter its name, so a checkpoint of MindFormers is one of ours.
Covers: training on rows of S + 1 tokens or on pairs of inputs and labels; logits; semi-automatic parallelism over
(dp, mp) by our plan. Does not cover: pipeline stages, sequence parallelism, evaluation by MindFormers' metrics.
"""

# Shapes: B batch, S sequence, V vocabulary, N = B*S
from typing import Any

import mindspore as ms
import numpy as np
from mindformers.core.loss import CrossEntropyLoss
from mindformers.models.modeling_utils import PreTrainedModel
from mindformers.tools.register import MindFormerModuleType, MindFormerRegister
from mindspore import Tensor, ops

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.families import build_model
from mindgeex.model_zoo.mindformers_plugin.config import CodeGeeXConfig, GPTNeoXConfig, MindGeeXConfig
from mindgeex.model_zoo.sharding import shard, sharding_plan


class MindGeeXForCausalLM(PreTrainedModel):
    """A network, and the loss that CodeGeeX is trained with."""

    def __init__(self, config: MindGeeXConfig):
        """Raises UserError: sizes, precision or parallelism that the network does not have."""
        super().__init__(config, auto_prefix=False)
        sizes, parallel = config.sizes, config.parallel_config
        self.network = build_model(sizes, config.compute)
        self.loss = CrossEntropyLoss(parallel)
        self.eod_id, self.has_dropout = sizes.eod_id, sizes.dropout_rate > 0
        self.cut, self.counts, self.draw = ops.StridedSlice(), ops.NotEqual(), ops.UniformInt()
        self.lowest, self.highest = Tensor(0, ms.int32), Tensor(2**31 - 1, ms.int32)
        if ms.get_auto_parallel_context("parallel_mode") in ("semi_auto_parallel", "auto_parallel"):
            self.shard_over(parallel)
        if ms.get_context("device_target") == "CPU":
            self.argmax = ops.argmax  # for `generate`, which takes an operator that only Ascend has
        self.load_checkpoint(config)

    def shard_over(self, parallel: Any) -> None:
        """Cuts every operator as sharding.py says, over MindFormers' data_parallel and model_parallel."""
        refused = ("pipeline_stage", "context_parallel", "expert_parallel", "use_seq_parallel")
        for name in refused:
            if int(getattr(parallel, name, 1)) > 1 or getattr(parallel, name, 1) is True:
                raise UserError(f"parallel_config.{name} is {getattr(parallel, name)}: this model has dp and mp only")
        dp, mp = parallel.data_parallel, parallel.model_parallel
        shard(self.network, sharding_plan(self.config.sizes, dp, mp, self.config.use_flash_attention))
        self.cut.shard(((dp, 1),))
        self.counts.shard(((dp, 1), ()))

    def construct(self, input_ids: Tensor, labels: Any = None) -> Tensor:
        """The loss while training, else the logits.

        Args:
            input_ids: int32, [B, S + 1] while training without labels, else [B, S].
            labels: int32 [B, S], the token after each.

        Returns:
            While training the mean over the labels whose input is not an end of document, float32; else [B, S, V].
        """
        ids_BS = input_ids
        if self.training and labels is None:
            rows, length = input_ids.shape
            ids_BS = self.cut(input_ids, (0, 0), (rows, length - 1), (1, 1))
            labels = self.cut(input_ids, (0, 1), (rows, length), (1, 1))
        logits_BSV = self.network(ids_BS, self.seeds(ids_BS.shape[0]))
        if not self.training:
            return logits_BSV.astype(ms.float32)
        counts_N = self.counts(ids_BS, self.eod_id).astype(ms.float32).reshape(-1)
        return self.loss(logits_BSV.reshape(-1, logits_BSV.shape[-1]), labels.reshape(-1), counts_N)

    def seeds(self, rows: int) -> Tensor:
        """Of the rows' dropout, int32 [B]: new ones for every training step, from the run's seed."""
        if self.has_dropout and self.training:
            return self.draw((rows,), self.lowest, self.highest)
        return ops.zeros((rows,), ms.int32)

    def prepare_inputs_for_predict_layout(self, input_ids: np.ndarray, **_: object) -> tuple[Tensor, None]:
        """What MindFormers compiles to find out how parameters are cut."""
        return Tensor(input_ids, ms.int32), None


@MindFormerRegister.register(MindFormerModuleType.MODELS)
class CodeGeeXForCausalLM(MindGeeXForCausalLM):
    """The family codegeex."""

    config_class = CodeGeeXConfig
    base_model_prefix = "network"


@MindFormerRegister.register(MindFormerModuleType.MODELS)
class GPTNeoXForCausalLM(MindGeeXForCausalLM):
    """The family gpt_neox: CodeFuse-13B."""

    config_class = GPTNeoXConfig
    base_model_prefix = "network"
