"""Settings every test needs, before anything heavy is imported; where other systems' fixtures lie; a place to mount."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

# google.protobuf's C++ implementation, if loaded before mindspore, makes `import mindspore` abort.
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
os.environ.setdefault("GLOG_v", "3")

REFERENCE_DATA = Path(os.environ.get("MINDGEEX_REFERENCE_DATA", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """A folder with fixtures/, benchmarks/ and tokenizers/ computed by the systems we must agree with."""
    if not (REFERENCE_DATA / "fixtures").is_dir():
        pytest.skip("no reference data: set MINDGEEX_REFERENCE_DATA to a folder with fixtures/ and benchmarks/")
    return REFERENCE_DATA


@pytest.fixture(scope="session")
def interop() -> None:
    """PyTorch and transformers are here, for child processes: loaded beside mindspore, each brings its own threads."""
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"no {package} to compare with: make test EXTRAS=interop")


@pytest.fixture
def private_mount() -> list[str]:
    """The beginning of a command that runs `sh -c` where it may mount, unseen by the rest of the machine."""
    command = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("needs a mount namespace (unshare --mount), which is not allowed here")
    return [*command, "sh", "-c"]
