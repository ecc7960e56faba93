"""`mindgeex launch`: prints a script, or writes one that can be run."""

import os
import subprocess
from pathlib import Path

from tests.cli.test_main import mindgeex


def test_a_command_of_mindgeex_is_printed_as_what_python_runs() -> None:
    ran = mindgeex(
        *("launch", "--kind", "slurm", "--nodes", "4", "--devices", "8", "--print"),
        *("--", "train", "--recipe", "codegeex_13b", "--data", "my corpus", "--set", "steps=5"),
    )
    assert ran.returncode == 0 and ran.stderr == ""
    assert ran.stdout.startswith("#!/usr/bin/env bash\n")
    expected = "command=(python -m mindgeex.cli.main train --recipe codegeex_13b --data 'my corpus' --set steps=5)"
    assert expected in ran.stdout.splitlines()


def test_a_script_is_written_to_be_run(tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    ran = mindgeex("launch", "--devices", "2", "--workdir", tmp_path, "--out", script, "--", "python", "x.py")
    assert ran.stdout == f"{script}: 1 servers x 2 workers\n"
    assert os.access(script, os.X_OK) and f"workdir={tmp_path}" in script.read_text()
    assert subprocess.run(["bash", "-n", script]).returncode == 0


def test_what_cannot_be_launched_is_one_line() -> None:
    ran = mindgeex("launch", "--kind", "ssh", "--nodes", "2", "--", "train")
    assert ran.returncode == 2
    assert ran.stderr == "mindgeex: --kind ssh has 0 --hosts for --nodes 2: name every server\n"
