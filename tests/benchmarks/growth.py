"""How a training step grows with layers and with the window: seconds to the first step, tokens a second, peak memory.

    python -m tests.benchmarks.growth [layers | window] [PLOT.svg]

Takes some minutes on idle cores. Every point is a process of its own: hidden size 128, 4 heads, 2,048 tokens a step,
dropout 0.1, float32; each once as it is and once with `compute.recompute`. Other programs on the machine slow all
points.
Covers: one process on a CPU. Does not cover: wider models, workers.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

LAYERS = (2, 6, 12, 24, 40)
WINDOWS = (128, 512, 2048)
FIXED_LAYERS, FIXED_WINDOW = 4, 256
TOKENS = 2048
STEPS = 3


def main() -> None:
    """Prints the tables and draws them."""
    points: dict[tuple[str, bool], list[dict[str, float]]] = {}
    sizes = {"layers": LAYERS, "window": WINDOWS}
    for name in [word for word in sys.argv[1:] if word in sizes] or sizes:
        values = sizes[name]
        for recompute in (False, True):
            print(f"{name:>6}  first step s   tokens/s   peak MB{'   (recompute)' if recompute else ''}")
            for value in values:
                layers, window = (value, FIXED_WINDOW) if name == "layers" else (FIXED_LAYERS, value)
                point = measured(layers, window, recompute)
                points.setdefault((name, recompute), []).append({name: value, **point})
                print(
                    f"{value:6d} {point['first_s']:13.1f} {point['tokens_per_s']:10,.0f} {point['peak_mb']:9,.0f}",
                    flush=True,
                )
    for path in [word for word in sys.argv[1:] if word.endswith(".svg")]:
        draw(points, Path(path))


def measured(layers: int, window: int, recompute: bool) -> dict[str, float]:
    """One point, from a child process."""
    command = [sys.executable, "-m", "tests.benchmarks.growth", "--point", str(layers), str(window), str(recompute)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def point(layers: int, window: int, recompute: bool) -> dict[str, float]:
    """Runs some steps of one size in this process."""
    os.environ.setdefault("GLOG_v", "3")
    import mindspore as ms
    import numpy as np

    from mindgeex.model_zoo.config import ComputeConfig, ModelConfig
    from tests.benchmarks.training import our_step

    ms.set_context(mode=ms.GRAPH_MODE)
    config = ModelConfig("codegeex", layers, 128, 4, 4096, window, 512, init_std=0.02, eod_id=0)
    rows = np.random.default_rng(0).integers(1, 4096, (TOKENS // window, window + 1)).astype(np.int32)
    step = our_step(config, rows, ComputeConfig(recompute=recompute))
    started = time.perf_counter()
    step()
    first = time.perf_counter() - started
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"first_s": first, "tokens_per_s": TOKENS / statistics.median(seconds), "peak_mb": peak}


def draw(points: dict[tuple[str, bool], list[dict[str, float]]], path: Path) -> None:
    """Three panels for each of what was varied: what grows with it."""
    from matplotlib.figure import Figure

    names = sorted({name for name, _ in points})
    figure = Figure(figsize=(11, 3 * len(names)), layout="constrained")
    panels = (("first_s", "seconds to the first step"), ("tokens_per_s", "tokens a second"), ("peak_mb", "peak MB"))
    for row, name in zip(figure.subplots(len(names), 3, squeeze=False), names, strict=True):
        for axes, (key, label) in zip(row, panels, strict=True):
            for recompute in (False, True):
                found = points[name, recompute]
                kind = "recompute" if recompute else "kept"
                axes.plot([p[name] for p in found], [p[key] for p in found], marker="o", label=kind)
            axes.set(xlabel=name, ylabel=label, ylim=(0, None))
            axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--point"]:
        print(json.dumps(point(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "True")))
    else:
        main()
