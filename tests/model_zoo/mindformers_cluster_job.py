"""Both 13B configurations, made small, as MindFormers builds them for one NPU of a simulated cluster, compiled.

python mindformers_cluster_job.py SETTING...     in the environment of train/dryrun's child; leaves NAME.json and NAME/
Covers: the loss and its derivative. Does not cover: the optimizer, which MindFormers applies to an NPU's own slices.
"""

import json
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn

from mindgeex.model_zoo.mindformers_plugin.run import load
from mindgeex.train.dryrun.short_gradients import shorten_gradients

NAMES = ("codegeex_13b", "codefuse_13b")


class LossAndGradients(nn.Cell):
    """What MindFormers' training step derives: its loss, of rows that are cut over the NPUs."""

    def __init__(self, network: nn.Cell):
        super().__init__()
        from mindspore.nn.wrap.cell_wrapper import _VirtualDatasetCell

        self.network = _VirtualDatasetCell(network)
        self.derive = ms.value_and_grad(self.network, None, weights=network.trainable_params())

    def construct(self, rows: ms.Tensor) -> tuple[ms.Tensor, tuple[ms.Tensor, ...]]:
        return self.derive(rows)


def compile_network(name: str, settings: list[str]) -> None:
    """Leaves how MindSpore cut every parameter, and the graph after its `validate`."""
    config = load(name, settings)
    from mindformers.core.context import build_context
    from mindformers.core.parallel_config import build_parallel_config
    from mindformers.models import build_network

    if name == NAMES[0]:
        build_context(config)
    build_parallel_config(config)
    ms.set_context(save_graphs=1, save_graphs_path=name)
    network = build_network(config.model, default_args={"parallel_config": config.parallel_config})
    step = LossAndGradients(network).set_train()
    rows = config.parallel_config.data_parallel * config.runner_config.batch_size
    step.compile(ms.Tensor(np.zeros((rows, network.config.seq_length + 1), np.int32)))
    Path(f"{name}.json").write_text(json.dumps(step.parameter_layout_dict), encoding="utf-8")


if __name__ == "__main__":
    shorten_gradients()
    for configuration in NAMES:
        compile_network(configuration, sys.argv[1:])
