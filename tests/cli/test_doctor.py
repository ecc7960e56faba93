"""`mindgeex doctor`: one table, quickly, and an exit code that a script can use."""

import os
import subprocess
from pathlib import Path

from tests.cli.test_main import MINDGEEX


def doctor(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MINDGEEX, "doctor"], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_the_exit_code_follows_the_table(tmp_path: Path) -> None:
    ran = doctor(tmp_path)
    assert ran.stderr == ""
    evaluation = ("bubblewrap", "g++", "go", "javac, java", "node")
    for row in ("mindspore", "tokenizers, tiktoken", "ray", *evaluation, "lzma", "CANN"):
        assert f" {row} " in ran.stdout
    assert ran.returncode == (1 if " missing " in ran.stdout else 0)
    assert ("can run here" in ran.stdout) == (ran.returncode == 0)
    assert list(tmp_path.iterdir()) == []


def test_a_mindspore_that_crashes_is_a_row_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "mindspore").mkdir()
    (tmp_path / "mindspore/__init__.py").write_text("import os\nos.abort()\n")
    ran = doctor(tmp_path, PYTHONPATH=str(tmp_path))
    assert ran.returncode == 1 and ran.stderr == ""
    assert "ended by signal 6" in ran.stdout
    assert "The main job cannot run here; first fix: mindspore, mindspore's binary" in ran.stdout


def test_without_any_command_each_ability_is_missing_with_its_package(tmp_path: Path) -> None:
    ran = doctor(tmp_path, PATH=str(tmp_path))
    assert ran.returncode == 1 and "The main job cannot run here; first fix: bubblewrap" in ran.stdout
    for package in ("bubblewrap", "g++", "golang-go", "default-jdk-headless", "nodejs", "rustc"):
        assert f"apt-get install {package} " in ran.stdout
    assert "decoding is several times slower" in ran.stdout
