"""Every container passes through in the memory of a tensor or two, however large it is as a whole."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from pathlib import Path

import numpy as np

from mindgeex.model_zoo.checkpoints.containers.mindspore_file import MindSporeWriter, read_mindspore
from mindgeex.model_zoo.checkpoints.containers.safetensors_file import (
    SafetensorsWriter, ShardedSafetensorsWriter, read_safetensors, read_safetensors_folder
)
from mindgeex.model_zoo.checkpoints.tensors import TensorSpec
from mindgeex.model_zoo.checkpoints.containers.torch_file import TorchWriter, read_torch

CONTAINERS = {
    "safetensors": (SafetensorsWriter, read_safetensors),
    "sharded": (lambda folder, specs: ShardedSafetensorsWriter(folder, specs, 50_000_000), read_safetensors_folder),
    "mindspore": (MindSporeWriter, read_mindspore),
    "torch": (TorchWriter, read_torch),
}
Writer, read = CONTAINERS[sys.argv[1]]
folder = Path(sys.argv[2])
source, target = (folder / "source", folder / "target") if sys.argv[1] != "sharded" else (folder, folder / "target")
target.mkdir() if sys.argv[1] == "sharded" else None
specs = {f"t{i}": TensorSpec((2048, 1024), np.dtype(np.float32)) for i in range(24)}


def peak():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))


before = peak()
with Writer(source, specs) as writer:
    for i, (name, spec) in enumerate(specs.items()):
        writer.write(name, np.full(spec.shape, i, spec.dtype))
tensors = read(source)
with Writer(target, specs) as writer:
    for name, tensor in tensors.items():
        writer.write(name, tensor.read())
for i, tensor in enumerate(read(target).values()):
    assert (tensor.read() == i).all()
print(peak() - before)
"""


@pytest.mark.parametrize("container", ["safetensors", "sharded", "mindspore", "torch"])
def test_192_mib_pass_through_in_the_memory_of_three_tensors_of_8(tmp_path, container):
    command = [sys.executable, "-c", SCRIPT, container, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert 8 <= float(ran.stdout) < 3 * 8 + 8
