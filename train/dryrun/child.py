"""The process that compiles: a recipe's step for one NPU of a simulated cluster, and the facts of it as JSON.

    python -m mindgeex.train.dryrun.child REQUEST.json     writes what the request names as `out`

Covers: the step of train/parallel.py. Does not cover: running it.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mindgeex.common.config import build_config
from mindgeex.model_zoo.config import load_model_config
from mindgeex.train.batch import plan_batch
from mindgeex.train.config import RunConfig


def compile_step(config: RunConfig, graphs: Path, short: bool = True) -> dict[str, Any]:
    """Compiles it; the graph after MindSpore's `validate` is left in `graphs`.

    Args:
        config: the recipe, of one micro batch.
        graphs: a folder.
        short: gradients of communication are shortened; the same plan follows without.

    Returns:
        Layouts by parameter, seconds, bytes.
    """
    started = time.perf_counter()
    import mindspore as ms
    from mindspore.communication import init
    from mindspore.nn.utils import no_init_parameters

    from mindgeex.model_zoo.checkpoints.native import named_parameters
    from mindgeex.model_zoo.families import build_model
    from mindgeex.train.dryrun.short_gradients import shorten_gradients
    from mindgeex.train.optimizer import AdamW
    from mindgeex.train.parallel import parallel_step

    ms.set_device("Ascend")
    ms.set_context(mode=ms.GRAPH_MODE, save_graphs=1, save_graphs_path=str(graphs))
    init()
    model_config = load_model_config(config.model or "")
    plan = plan_batch(config.batch, model_config.seq_length, config.parallel.dp)
    with no_init_parameters():
        model = build_model(model_config, config.compute)
        optimizer = AdamW(named_parameters(model), config.optimizer)
        # In here, too: accumulators of all stages would take the memory of the whole model.
        flash = config.compute.attention == "flash"
        step = parallel_step(model, optimizer, model_config, config.parallel, flash, plan)
    if short:
        shorten_gradients()
    step.no_init_parameters_in_compile()
    rows, length = plan.worker_rows, model_config.seq_length
    arrays = (
        np.zeros((rows, length + 1), np.int32),
        np.zeros((rows, length), np.float32),
        np.zeros(rows, np.int32),
    )
    built = time.perf_counter()
    step.compile(*map(ms.Tensor, arrays))
    layouts = {
        name.partition("model.")[2] or name: [list(part) if isinstance(part, tuple) else part for part in layout]
        for name, layout in step.parameter_layout_dict.items()
    }
    return {
        "layouts": layouts,
        "build_s": built - started,
        "compile_s": time.perf_counter() - built,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main(request_path: Path) -> None:
    """Reads a request, compiles, writes the facts."""
    request = json.loads(request_path.read_text(encoding="utf-8"))
    config = build_config(RunConfig, request["config"], str(request_path))
    facts = compile_step(config, Path(request["graphs"]), request.get("short", True))
    Path(request["out"]).write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
