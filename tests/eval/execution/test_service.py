"""Compilers that stay in their sandbox: what they compile, how they are stopped, and that nothing of them is left."""

import contextlib
import io
import os
import signal
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mindgeex.common.errors import UserError
from mindgeex.eval.execution import service as module
from mindgeex.eval.execution.sandbox import Sandbox
from mindgeex.eval.languages.language import Toolchain
from tests.eval.conftest import toolchain_or_reason
from tests.eval.processes import below

pytestmark = pytest.mark.toolchain

GOOD = b'public class Main { public static void main(String[] a) { System.out.println("" + a.length + "!"); } }'
WRONG = b"public class Main { int x = nothing; }"


@pytest.fixture(scope="module")
def java() -> Toolchain:
    toolchain = toolchain_or_reason("java")
    if isinstance(toolchain, str):
        pytest.skip(toolchain)
    return toolchain


@pytest.fixture
def own_sandbox(sandbox: Sandbox):
    """A sandbox whose services are those of the test; they are ended with it."""
    own = Sandbox()
    yield own
    own.stop()


def services() -> set[int]:
    """Process ids of the services below this process: others may test with services of their own."""
    found = set()
    for pid, name in below(os.getpid()).items():
        with contextlib.suppress(OSError):  # it may end while we look
            if name == "java" and b"\0Service\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found


def test_one_service_compiles_one_program_after_the_other(own_sandbox, java):
    before = services()
    first = own_sandbox.services.compile(java, GOOD)
    (started,) = services() - before
    broken = own_sandbox.services.compile(java, WRONG)
    again = own_sandbox.services.compile(java, GOOD)
    assert services() - before == {started}
    assert (first.exit_code, broken.exit_code, again.exit_code) == (0, 1, 0)
    assert broken.output.startswith("Main.java:1: error: cannot find symbol") and broken.channel == b""
    assert first.channel == again.channel
    (entry,) = zipfile.ZipFile(io.BytesIO(first.channel)).infolist()
    assert (entry.filename, entry.date_time) == ("Main.class", (2000, 1, 1, 0, 0, 0))  # at any time the same bytes


def test_nothing_of_a_program_is_seen_by_the_next(own_sandbox, java):
    assert own_sandbox.services.compile(java, GOOD + b"class Helper { }").exit_code == 0
    other = own_sandbox.services.compile(java, b"public class Main { Helper helper; }")
    assert other.exit_code == 1 and "cannot find symbol" in other.output


def test_requests_at_the_same_time_have_a_service_each(own_sandbox, java):
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(own_sandbox.services.compile, [java] * 6, [GOOD, WRONG] * 3))
    assert [result.exit_code for result in results] == [0, 1] * 3


def test_a_service_that_was_killed_is_replaced_and_the_program_compiled(own_sandbox, java):
    before = services()
    own_sandbox.services.compile(java, GOOD)
    (killed,) = services() - before
    os.kill(killed, signal.SIGKILL)
    assert own_sandbox.services.compile(java, GOOD).exit_code == 0
    assert killed not in services()


def test_a_program_that_breaks_the_compiler_breaks_no_other(own_sandbox, java):
    deep = b"public class Main { int x = " + b"(" * 20000 + b"1" + b")" * 20000 + b"; }"
    doubled = b"".join(b"static final String S%d = S%d + S%d;" % (n, n - 1, n - 1) for n in range(1, 31))
    large = b'public class Main { static final String S0 = "abcdefgh"; ' + doubled + b" }"
    for broken in (deep, large):
        result = own_sandbox.services.compile(java, broken)
        assert result.exit_code != 0 and result.channel == b"", result
        assert own_sandbox.services.compile(java, GOOD).exit_code == 0


def test_a_service_with_nothing_to_do_ends(own_sandbox, java, monkeypatch):
    monkeypatch.setattr("mindgeex.eval.execution.watch.REST_S", 0.2)
    before = services()
    own_sandbox.services.compile(java, GOOD)
    deadline = time.monotonic() + 20
    while services() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert services() - before == set()
    assert own_sandbox.services.compile(java, GOOD).exit_code == 0


def test_a_service_that_has_done_enough_makes_room(own_sandbox, java, monkeypatch):
    monkeypatch.setattr(module, "MOST_REQUESTS", 1)
    before = services()
    own_sandbox.services.compile(java, GOOD)
    (first,) = services() - before or {0}
    own_sandbox.services.compile(java, GOOD)
    assert first not in services()


@pytest.mark.parametrize(
    "script, limits, stopped_by",
    [
        ("while :; do :; done", {"cpu_s": 0}, "cpu"),
        ("sleep 99", {"wall_s": 0.5}, "wall"),
        ("yes", {}, "output"),
        ("yes >/dev/fd/$0", {"files_bytes": 1 << 20}, "output"),
    ],
)
def test_a_service_that_passes_a_limit_is_killed(own_sandbox, monkeypatch, script, limits, stopped_by):
    monkeypatch.setattr(module, "COMPILE_LIMITS", replace(module.COMPILE_LIMITS, **limits))
    toolchain = Toolchain("shell", ("true",), service=("sh", "-c", script))
    result = own_sandbox.services.compile(toolchain, GOOD)
    assert (result.exit_code, result.stopped_by) == (None, stopped_by), result


def test_a_limit_counts_for_each_request_anew(own_sandbox, monkeypatch):
    """Two requests of 1.2 s each, where one may take 2 s."""
    monkeypatch.setattr(module, "COMPILE_LIMITS", replace(module.COMPILE_LIMITS, wall_s=2.0))
    answer = r"while head -c 5 >/dev/null; do sleep 1.2; printf '\0\0\0\0\1\0\0\0\0\0\0\0\1x' >/dev/fd/$0; done"
    toolchain = Toolchain("shell", ("true",), service=("sh", "-c", answer))
    results = [own_sandbox.services.compile(toolchain, b"1") for _ in range(2)]
    assert [(result.exit_code, result.channel, result.cpu_s) for result in results] == [(0, b"x", 0.001)] * 2


def test_a_service_that_ends_without_an_answer_is_no_compiled_program(own_sandbox):
    toolchain = Toolchain("shell", ("true",), service=("sh", "-c", "echo no memory; exit 3"))
    result = own_sandbox.services.compile(toolchain, GOOD)
    assert (result.exit_code, result.output) == (3, "no memory\n")


def test_stopping_the_sandbox_stops_its_services(own_sandbox):
    toolchain = Toolchain("shell", ("true",), service=("sleep", "99"))
    threading.Timer(0.5, own_sandbox.stop).start()
    assert own_sandbox.services.compile(toolchain, GOOD).stopped_by == "interrupt"


def test_a_service_that_cannot_be_started_is_no_verdict(own_sandbox):
    toolchain = Toolchain("none", ("true",), service=("true",), folders={"/no/such/folder": "/opt/none"})
    with pytest.raises(UserError, match="sandbox"):
        own_sandbox.services.compile(toolchain, GOOD)
