"""The thread that starts root's sandboxes: nobody for good, while the process stays what it is."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from mindgeex.eval.execution.job import NOBODY, WORK, Job
from mindgeex.eval.execution.launcher import Launcher
from mindgeex.eval.execution.staging import mount_options, stage

pytestmark = [pytest.mark.toolchain, pytest.mark.skipif(os.geteuid() != 0, reason="only root needs a launcher")]


def status(text: str) -> dict[str, list[str]]:
    return {name: values.split() for name, values in re.findall(r"^(\w+):(.*)$", text, re.MULTILINE)}


@pytest.fixture
def launcher(sandbox) -> Launcher:
    with stage("bwrap", mount_options({}), WORK, {"PATH": "/usr/bin:/bin"}) as namespace:
        return Launcher(namespace)


def test_what_it_starts_has_no_privileges_and_sees_only_what_is_staged(launcher):
    command = ["cat", "/proc/self/status"]
    process = launcher.start(lambda: subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    found = status(process.communicate()[0])
    assert found["Uid"] == found["Gid"] == [str(NOBODY)] * 4
    assert found["Groups"] == [] and found["NoNewPrivs"] == ["1"]
    assert {found[name][0] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    process = launcher.start(lambda: subprocess.Popen(["ls", "/"], stdout=subprocess.PIPE, text=True))
    seen = set(process.communicate()[0].split())
    assert "usr" in seen and not seen & {"root", "home", "var"}


def test_the_process_keeps_its_privileges_and_its_view(launcher):
    assert os.geteuid() == 0 and Path("/root").is_dir()
    found = status(Path("/proc/self/status").read_text())
    assert found["CapEff"] != ["0" * 16] and found["NoNewPrivs"] == ["0"]


def test_what_cannot_be_started_is_told_and_the_next_is_started(launcher, sandbox):
    with pytest.raises(FileNotFoundError):
        launcher.start(lambda: subprocess.Popen(["/no/such/program"]))
    assert launcher.start(lambda: subprocess.Popen(["true"])).wait() == 0
    assert sandbox.run(Job(("true",))).exit_code == 0
