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


LONGEST = ("train", "model_zoo", "eval", "data")
"""Rooms whose files take longest, first."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes come first, short ones last: processes that take turns at files then end together."""

    def place(item: pytest.Item) -> tuple[int, int]:
        room = item.path.relative_to(Path(__file__).parent).parts[0]
        slow = any(item.get_closest_marker("slow") for item in files[item.path])
        return (LONGEST.index(room) if room in LONGEST else len(LONGEST), not slow)

    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    items.sort(key=place)


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
