"""The set-up where it need not or cannot work: nothing to do, no Python, an environment that has lost its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("bash", "env", "dirname", "cat", "find", "sort", "sha256sum", "cut")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the set-up looks at, and a folder `bin` with the commands it may find; no Python is among them."""
    folder = tmp_path / "checkout"
    (folder / "bin").mkdir(parents=True)
    for tool in TOOLS:
        (folder / "bin" / tool).symlink_to(shutil.which(tool) or pytest.skip(f"{tool} is not installed"))
    for name in ("constraints.txt", "pyproject.toml", "setup.py", "scripts/setup.sh"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for room in ("common", "model_zoo", "data", "train", "eval", "hccl_configs", "cli"):
        (folder / room).mkdir()
        (folder / room / "__init__.py").touch()
    return folder


def executable(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{script}\n")
    path.chmod(0o755)


def set_up(checkout: Path, extras: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": str(checkout / "bin"), "EXTRAS": extras}
    return subprocess.run([checkout / "scripts/setup.sh"], env=environment, capture_output=True, text=True)


def test_without_the_right_python_it_says_so_before_it_changes_anything(checkout: Path) -> None:
    executable(checkout / "bin/python3", "exit 1")  # answers as a Python of another version does
    ran = set_up(checkout)
    assert ran.returncode == 1 and ran.stdout == ""
    assert ran.stderr.startswith("setup: Python 3.11 is needed") and ran.stderr.count("\n") == 1
    assert not (checkout / ".venv").exists()


def test_what_is_ready_is_left_alone_unless_its_python_is_gone(checkout: Path) -> None:
    for command in ("python", "mindgeex"):
        executable(checkout / ".venv/bin" / command, "exit 0")
    fingerprint = (checkout / "scripts/setup.sh").read_text().partition("fingerprint() {")[2].partition("\n}\n")[0]
    wanted = subprocess.run(["bash", "-c", fingerprint], cwd=checkout, capture_output=True, text=True, check=True)
    (checkout / ".venv/ready").write_text(wanted.stdout)
    ran = set_up(checkout)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")

    assert set_up(checkout, extras="interop").stderr.startswith("setup: Python 3.11 is needed")  # it goes on to install
    (checkout / ".venv/extras").write_text("interop\n")
    assert set_up(checkout, extras="interop").returncode == 0

    (checkout / ".venv/bin/python").unlink()
    (checkout / ".venv/bin/python").symlink_to("/no/such/python")
    ran = set_up(checkout)
    assert ran.returncode == 1 and "Python 3.11 is needed" in ran.stderr


def test_nodes_package_is_installed_where_there_is_npm_and_said_to_be_missing_where_that_fails(checkout: Path) -> None:
    for tool in ("id", "timeout"):
        (checkout / "bin" / tool).symlink_to(shutil.which(tool) or pytest.skip(f"{tool} is not installed"))
    executable(checkout / "bin/python3", '[ "$1" = -c ]')  # right version, but makes no environment
    executable(checkout / "bin/npm", f'[ "$1" = root ] && echo {checkout}/modules || {{ echo "$@" >&2; exit 1; }}')
    said = set_up(checkout).stderr
    assert "install --global --silent --no-fund --no-audit js-md5\n" in said
    assert said.count("missing: js-md5, for evaluating JavaScript that uses it: npm install --global js-md5") == 1
    (checkout / "modules/js-md5").mkdir(parents=True)
    assert "js-md5" not in set_up(checkout).stderr
