"""Memory stays below three times the largest tensor and 1.5 GB, whatever the checkpoint's size.

By hand, for gigabytes instead of hundreds of megabytes (2.2 GB, 30 layers of 1,280):
    python -m tests.model_zoo.checkpoints.test_convert_memory FOLDER 30 1280
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from mindgeex.model_zoo.checkpoints.containers.safetensors_file import SafetensorsWriter
from mindgeex.model_zoo.checkpoints.tensors import TensorSpec
from mindgeex.model_zoo.config import ModelConfig
from tests.model_zoo.checkpoints.checkpoint import write_sizes

SPARE_BYTES = 100e6
"""What Python, numpy and names take: a fifteenth of the 1.5 GB that are promised."""

CHILD = """
import json, sys
from pathlib import Path
from mindgeex.model_zoo.checkpoints.convert import ConvertOptions, convert
from mindgeex.model_zoo.checkpoints.layout import Layout
source, target, form, layout, options = sys.argv[1:]
convert(Path(source), Path(target), form, ConvertOptions(layout=Layout(*json.loads(layout)), **json.loads(options)))
assert "mindspore" not in sys.modules and "torch" not in sys.modules
# Not ru_maxrss: that begins with what the parent had when it forked.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024)
"""


def synthetic(folder: Path, num_layers: int, hidden: int) -> ModelConfig:
    """A checkpoint of our format with random weights, written tensor by tensor."""
    config = ModelConfig(
        family="codegeex",
        num_layers=num_layers,
        hidden_size=hidden,
        num_heads=hidden // 64,
        vocab_size=4 * hidden,
        seq_length=256,
        feed_forward_size=4 * hidden,
        eod_id=0,
    )
    write_sizes(folder, config)
    specs = {name: TensorSpec(shape, np.dtype(np.float32)) for name, shape in config.shapes.items()}
    rng = np.random.default_rng(0)
    with SafetensorsWriter(folder / "model.safetensors", specs) as writer:
        for name, spec in specs.items():
            writer.write(name, rng.standard_normal(spec.shape, np.float32))
    return config


def peak_bytes(source: Path, target: Path, form: str, layout: tuple[int, ...] = (1, 1, 1), **options) -> int:
    words = [str(source), str(target), form, json.dumps(layout), json.dumps(options)]
    run = subprocess.run([sys.executable, "-c", CHILD, *words], capture_output=True, text=True, check=True)
    return int(run.stdout)


STEPS = [
    ("mindgeex", "codegeex-mindspore", (1, 1, 1), {"dtype": "float16"}),
    ("codegeex-mindspore", "megatron", (1, 4, 1), {"fused_qkv": True, "dtype": "float32"}),
    ("megatron", "codegeex-torch", (1, 1, 1), {"dtype": "bfloat16"}),
    ("codegeex-torch", "mindspore", (4, 2, 2), {}),
    ("mindspore", "mindgeex", (2, 4, 1), {}),
]
"""From, to, layout, options: every container, transposed, fused, cast, and cut for ranks."""


@pytest.mark.slow
def test_memory_is_bounded_by_the_largest_tensor(tmp_path):
    config = synthetic(tmp_path / "mindgeex", num_layers=12, hidden=768)
    largest = 4 * max(int(np.prod(shape)) for shape in config.shapes.values())
    assert 4 * config.parameters > 20 * largest
    assert 4 * config.parameters > SPARE_BYTES
    for source, target, layout, options in STEPS:
        out = tmp_path / (target if target != "mindgeex" else "last")
        peak = peak_bytes(tmp_path / source, out, target, layout, **options)
        assert peak < 3 * largest + SPARE_BYTES, (source, target, peak, largest)


def main() -> None:
    """Prints the peak of every step for a checkpoint of the given size."""
    folder, num_layers, hidden = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        config = synthetic(place / "mindgeex", num_layers, hidden)
        largest = 4 * max(int(np.prod(shape)) for shape in config.shapes.values())
        print(f"{4 * config.parameters / 1e9:.2f} GB, the largest tensor {largest / 1e6:.0f} MB")
        for source, target, layout, options in STEPS:
            out = place / (target if target != "mindgeex" else "last")
            start = time.monotonic()
            peak = peak_bytes(place / source, out, target, layout, **options)
            seconds = time.monotonic() - start
            bound = (3 * largest + 1.5e9) / 1e6
            print(f"{source} -> {target}: peak {peak / 1e6:.0f} MB of {bound:.0f} allowed, {seconds:.0f} s", flush=True)
    print(f"writing the checkpoint itself took {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
