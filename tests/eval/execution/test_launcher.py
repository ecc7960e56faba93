"""The thread that starts root's sandboxes: nobody for good, while the process stays what it is."""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mindgeex.eval.execution.job import NOBODY, WORK, Job
from mindgeex.eval.execution.launcher import Launcher
from mindgeex.eval.execution.staging import mount_options, stage

PR_GET_DUMPABLE = 3

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


REACH = """
import os
for pid in {threads}:
    try:
        open(f"/proc/{{pid}}/mem", "rb")
    except PermissionError:
        print("refused")
"""


def test_nobody_does_not_reach_the_memory_of_the_process(launcher):
    assert ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0
    threads = [int(thread) for thread in os.listdir("/proc/self/task")]
    command = ["/usr/bin/python3", "-c", REACH.format(threads=threads)]
    process = launcher.start(lambda: subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    assert process.communicate()[0] == "refused\n" * len(threads)


SANDBOX = """
from mindgeex.common.errors import UserError
from mindgeex.eval.execution.sandbox import Sandbox
try:
    Sandbox()
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("lacking, told", [("setpcap", "prctl"), ("setgid", "setgroups"), ("sys_chroot", "setns")])
def test_a_root_that_may_not_become_nobody_is_told_so(lacking, told):
    command = ["setpriv", f"--bounding-set=-{lacking}", f"--inh-caps=-{lacking}", sys.executable, "-c", SANDBOX]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert f"root must be allowed to become nobody here: [Errno 1] {told}" in done.stdout
