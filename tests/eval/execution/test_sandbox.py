"""The sandbox from outside: what is seen in it, what stops it, what is left (hostile programs: test_hostile.py)."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mindgeex.common.errors import UserError
from mindgeex.eval.execution.guard import VARIABLE
from mindgeex.eval.execution.job import MIB, Channel, Job
from mindgeex.eval.execution.sandbox import Sandbox
from mindgeex.eval.execution.seccomp import refused_calls
from mindgeex.eval.execution.staging import PROJECT
from mindgeex.eval.execution.verdict import Verdict
from mindgeex.eval.execution.watch import tree_usage
from tests.eval.processes import below

pytestmark = pytest.mark.toolchain
NO_TESTS = ""


@pytest.fixture
def mark(sandbox, tmp_path: Path):
    """A word for command lines and files. Afterwards it is nowhere, and no process is left of what the test started."""
    word = f"hostile{os.getpid()}x{time.monotonic_ns()}"
    before = set(Path("/tmp").iterdir())
    processes = below(os.getpid()).items()
    yield word
    deadline = time.monotonic() + 5
    while (added := below(os.getpid()).items() - processes) and time.monotonic() < deadline:
        time.sleep(0.05)  # the guard of a killed harness looks around for a moment
    assert added == set()
    done = subprocess.run(["ps", "-eo", "stat=,args="], capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if word in line and not line.startswith("Z")] == []
    left = [path for path in set(Path("/tmp").iterdir()) - before if word in path.name]
    assert left == []
    assert [path for path in tmp_path.rglob("*") if word in path.name] == []


def test_files_of_the_host_cannot_be_read(execute_program, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the launch code")
    secret.chmod(0o644)
    for path in (secret, Path.home(), Path(__file__), Path("/etc/passwd"), Path("/root"), Path("/home")):
        outcome = execute_program("python", f"import os\nassert not os.path.exists({str(path)!r})", NO_TESTS)
        assert outcome.verdict == Verdict.PASSED, path
    seen = execute_program("python", "import os\nprint(sorted(os.listdir('/')), dict(os.environ))", NO_TESTS).output
    assert "root" not in seen and "home" not in seen and os.environ["PATH"] not in seen


def test_the_project_is_hidden_within_a_folder_that_is_shown(sandbox):
    """As where it is installed beside the interpreter that runs the samples."""
    inside = f"/shown/{PROJECT.name}"
    job = Job(("sh", "-c", f"ls -A {inside}; touch {inside}/x"), folders={str(PROJECT.parent): "/shown"})
    result = sandbox.run(job)
    assert "Read-only file system" in result.output and result.output.count("\n") == 1, result


def test_some_output_is_no_failure(execute_program):
    outcome = execute_program("python", "import sys\nprint('hello')\nprint('warning', file=sys.stderr)", NO_TESTS)
    assert outcome.verdict == Verdict.PASSED
    assert "hello" in outcome.output


def test_the_processes_of_the_host_are_not_seen(execute_program):
    program = f"import os\nassert not os.path.exists('/proc/{os.getpid()}/cmdline') or len(os.listdir('/proc')) < 80\n"
    program += "pids = [int(name) for name in os.listdir('/proc') if name.isdigit()]\nassert max(pids) < 20, pids"
    assert execute_program("python", program, NO_TESTS).verdict == Verdict.PASSED


def test_no_privileges_and_no_way_to_new_ones(execute_program):
    program = """import os, subprocess
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
assert status["NoNewPrivs"].strip() == "1"
assert all(int(status[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
assert os.getuid() != 0
assert subprocess.run(["unshare", "-U", "true"]).returncode != 0
"""
    assert execute_program("python", program, NO_TESTS).verdict == Verdict.PASSED


def test_a_crash_is_an_exception_with_its_signal(execute_program):
    outcome = execute_program("python", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", NO_TESTS)
    assert outcome.verdict == Verdict.EXCEPTION
    assert "signal 11" in outcome.reason


def test_the_private_channel_is_capped(sandbox):
    channel = Channel()
    result = sandbox.run(Job(("sh", "-c", f"yes >/dev/fd/{channel.number}")), channel)
    assert result.stopped_by == "output"
    assert len(result.channel) == 4096


def test_cpu_time_is_that_of_the_whole_tree(sandbox):
    script = "python3 -c 'sum(range(10**7))' & python3 -c 'sum(range(10**7))' & wait"
    result = sandbox.run(Job(("sh", "-c", script)))
    assert result.exit_code == 0
    assert result.cpu_s > 0.1


def test_a_sandbox_that_cannot_be_set_up_is_no_verdict_on_the_program(sandbox):
    with pytest.raises(UserError, match="the sandbox does not start on this machine: bwrap: Can't create file"):
        sandbox.run(Job(("true",), files={"..": b""}))
    assert sandbox.run(Job(("sh", "-c", "exit 3"))).exit_code == 3


def test_stop_ends_what_runs(mark):
    sandbox = Sandbox()
    threading.Timer(0.5, sandbox.stop).start()
    result = sandbox.run(Job(("sh", "-c", f": {mark}; sleep 99")))
    assert result.stopped_by == "interrupt"
    assert result.wall_s < 20.0


def test_killing_the_harness_ends_its_sandboxes(mark):
    """kill -9 of the harness leaves no sandboxed process: nobody is there to clean up."""
    script = (
        "from mindgeex.eval.execution.job import *\nfrom mindgeex.eval.execution.sandbox import *\n"
        f"Sandbox().run(Job(('sh', '-c', ': {mark}; echo; sleep 99'), limits=Limits(wall_s=99.0)))"
    )
    child = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 30
    while not _running(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _running(mark)
    child.kill()
    child.wait()
    deadline = time.monotonic() + 10
    while _running(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _running(mark)


BUSY = """
import threading
from mindgeex.eval.execution.job import Job
from mindgeex.eval.execution.sandbox import Sandbox

sandbox = Sandbox()
print("ready", flush=True)


def work():
    while True:
        sandbox.run(Job(("sh", "-c", "sleep 9 & exit 0")))


for _ in range(3):
    threading.Thread(target=work).start()
"""


def test_killing_the_harness_at_any_moment_leaves_no_process():
    """Also while sandboxes are being set up, which is when bubblewrap alone would leave one behind."""
    for attempt in range(12):
        child = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        time.sleep(0.05 + 0.0037 * attempt)
        child.kill()
        child.communicate()
        deadline = time.monotonic() + 20
        while (left := _marked(child.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left == []


def _marked(harness: int) -> list[str]:
    """The processes that carry the mark of a harness."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it may end while we look
            if f"{VARIABLE}={harness}-".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found


def _running(word: str) -> bool:
    done = subprocess.run(["ps", "-eo", "stat=,comm=,args="], capture_output=True, text=True, check=True)
    rows = [line for line in done.stdout.splitlines() if word in line and not line.startswith("Z")]
    return any(line.split()[1] in ("sh", "bwrap") for line in rows)


@pytest.mark.skipif(os.geteuid() != 0, reason="already not root: every other test covers it")
def test_it_works_without_root_too():
    python = "/usr/bin/python3"
    if not Path(python).exists():
        pytest.skip("no system Python that another user may run: apt-get install python3")
    packages = [path for path in sys.path if path.endswith("site-packages")]
    script = f"""
import site
for path in {packages!r}:
    site.addsitedir(path)
from mindgeex.eval.execution.job import Channel, Job
from mindgeex.eval.execution.sandbox import Sandbox
sandbox, channel = Sandbox(), Channel()
result = sandbox.run(Job(("sh", "-c", f"id -u; echo proof >/dev/fd/{{channel.number}}")), channel)
print(sandbox.description, result)
"""
    command = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", python, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip("the project is not readable for other users here")
    assert done.returncode == 0, done.stderr
    assert "as the calling user" in done.stdout
    assert r"output='12345\n'" in done.stdout and r"channel=b'proof\n'" in done.stdout


@pytest.mark.parametrize("tool, package", [("bwrap", "bubblewrap"), ("prlimit", "util-linux")])
def test_a_missing_tool_is_named_with_its_package(monkeypatch, tmp_path, tool, package):
    for name in ("bwrap", "prlimit"):
        if name != tool:
            (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=f"'{tool}' is not installed.*apt-get install {package}"):
        Sandbox()


def test_a_filter_is_made_for_both_architectures_and_no_other():
    assert refused_calls("x86_64") != refused_calls("aarch64")
    assert len(refused_calls("aarch64")) % 8 == 0
    with pytest.raises(UserError, match="not of riscv64"):
        refused_calls("riscv64")


def test_tree_usage_counts_children():
    script = "kept = b'x' * (50 << 20); print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        _, resident = tree_usage(os.getpid())
        _, own = tree_usage(child.pid)
        assert 50 * MIB < own < resident
    finally:
        child.communicate(b"\n")
