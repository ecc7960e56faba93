"""Hostile programs in six languages, a file each in hostile/: judged as they should be, and nothing of them is left.

The comments at the top of a program say what it tries, which verdicts it may get, what the reason must say (a pattern)
and under which limits it runs; `compiler: bomb` are those that would keep a compiler busy, which then has little time.
Behind every program stand tests that want an answer of 42; where an attack could succeed, only then is that the answer.
They run several at a time, as the samples of a model do. What no sandbox can tell from a right program is said in
verdict.py and not tried here; attacks on the sandbox from outside are in test_sandbox.py.
"""

import contextlib
import os
import re
import shutil
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mindgeex.eval.execution import verdict
from mindgeex.eval.execution.job import MIB, Limits
from mindgeex.eval.execution.sandbox import Sandbox
from mindgeex.eval.execution.staging import PROJECT
from mindgeex.eval.execution.verdict import Outcome, execute
from mindgeex.eval.languages import LANGUAGES
from tests.eval.conftest import toolchain_or_reason
from tests.eval.processes import below

pytestmark = pytest.mark.toolchain

PROGRAMS = Path(__file__).parent / "hostile"
AT_ONCE = 4
HEADER = re.compile(r"^(?:#|//) (\w+): (.*)$", re.MULTILINE)
BOMB_LIMITS = replace(verdict.COMPILE_LIMITS, cpu_s=1, memory_bytes=400 * MIB, files_bytes=16 * MIB)

TESTS = {
    "python": "assert answer() == 42\n",
    "cpp": "#undef NDEBUG\n#include<assert.h>\nint main(){\n    assert (answer() == 42);\n}\n",
    "java": """public class Main {
    public static void main(String[] args) throws Exception {
        if (new Solution().answer() != 42) {
            throw new AssertionError();
        }
    }
}
""",
    "javascript": "const testAnswer = () => {\n  console.assert(answer() === 42)\n}\n\ntestAnswer()\n",
    "go": "func TestAnswer(t *testing.T) {\n    assert := assert.New(t)\n    assert.Equal(42, Answer())\n}\n",
    "rust": """#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_answer() {
        assert_eq!(answer(), 42);
    }
}
""",
}
"""As HumanEval-X has them."""
GO = 'package main\n\nimport (\n    "testing"\n    "github.com/stretchr/testify/assert"\n)\n\n'
HARMLESS = {
    "python": "import os\n\ndef answer():\n    return 42 if os.listdir() == ['program.py'] else os.listdir()\n",
    "cpp": "int answer() { return 42; }\n",
    "java": "class Solution { int answer() { return 42; } }\n",
    "javascript": "const answer = () => 42\n",
    "go": f"{GO}func Answer() int {{ return 42 }}\n",
    "rust": "fn answer() -> i32 {\n    42\n}\n",
}
"""What is judged after all the others, by the same compilers."""


@dataclass(frozen=True)
class Case:
    """One hostile program."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(PROGRAMS).with_suffix(""))

    @property
    def language(self) -> str:
        return self.path.parent.name

    @property
    def header(self) -> dict[str, str]:
        return dict(HEADER.findall(self.path.read_text(encoding="utf-8")))

    @property
    def mark(self) -> str:
        """A word for its files, its children's command lines, and the environment of all its processes."""
        return f"hostile-{os.getpid()}-{self.name.replace('/', '-')}-"

    @property
    def limits(self) -> Limits:
        given = dict(pair.split("=") for pair in self.header.get("limits", "").split())
        return Limits(
            cpu_s=int(given.get("cpu_s", 6)),
            wall_s=float(given.get("wall_s", 20.0)),
            memory_bytes=int(given.get("memory_mib", 1024)) * MIB,
            processes=int(given.get("processes", 64)),
            files_bytes=int(given.get("files_mib", 64)) * MIB,
        )


CASES = [Case(path) for path in sorted(PROGRAMS.glob("*/*.*")) if path.parent.name in LANGUAGES]


@dataclass
class Found:
    """What became of all of them."""

    outcomes: dict[str, Outcome | str] = field(default_factory=dict)
    """Name of a case, or of a language for the harmless one; a text: not run, and why."""
    alive: dict[str, list[str]] = field(default_factory=dict)
    """Name of a case -> command lines of its processes, once it was judged."""
    descendants: list[tuple[int, str]] = field(default_factory=list)
    """Processes below this one, when all was over."""
    written: list[str] = field(default_factory=list)
    """Files on the host that they made or changed."""
    connections: list[str] = field(default_factory=list)
    opened: set[str] = field(default_factory=set)
    """Descriptors of this process that were not open before."""


@pytest.fixture(scope="module")
def found(request, sandbox) -> Found:
    """Runs those cases that were asked for, and then the harmless programs."""
    asked = {getattr(item, "callspec", None) and item.callspec.params.get("case") for item in request.session.items}
    cases = [case for case in CASES if case in asked]
    bombs = [case for case in cases if "compiler" in case.header]
    for language in LANGUAGES:
        toolchain_or_reason(language)
    found, descriptors, descendants, cache = Found(), open_descriptors(), below(os.getpid()), cached()
    with contextlib.ExitStack() as opened:
        patch = opened.enter_context(pytest.MonkeyPatch.context())
        outside = Path(tempfile.mkdtemp(prefix="hostile", dir="/var/tmp"))
        opened.callback(shutil.rmtree, outside)
        outside.chmod(0o777)
        (outside / "bait").write_text("the launch code")
        patch.setenv("HOSTILE_SECRET", "a-key-of-the-harness")
        servers = {"TCP": socket.create_server(("127.0.0.1", 0)), "path": socket.socket(socket.AF_UNIX)}
        servers["abstract"] = socket.socket(socket.AF_UNIX)
        servers["path"].bind(str(outside / "server"))
        servers["abstract"].bind(f"\0{outside.name}")
        (outside / "server").chmod(0o777)
        for server in servers.values():
            opened.enter_context(server)
            server.listen()
            server.settimeout(0.0)
        words = {
            "BAIT": outside / "bait",
            "OUTSIDE": outside,
            "UNIX": outside / "server",
            "ABSTRACT": outside.name,
            "PORT": servers["TCP"].getsockname()[1],
            "HOME": Path.home(),
            "PROJECT": PROJECT,
            "CACHE": Path.home() / ".cache",
            "SECRET": "a-key-of-the-harness",
            "VARIABLE": "HOSTILE_SECRET",
            "PID": os.getpid(),
        }
        own = Sandbox()

        def run(case: Case) -> None:
            text = case.path.read_text(encoding="utf-8")
            for word, meant in {**words, "MARK": case.mark}.items():
                text = text.replace(f"@{word}@", str(meant))
            found.outcomes[case.name] = judged(own, case.language, text, case.limits, case.mark)
            found.alive[case.name] = [line for line in marked(case.mark) if " Service " not in line]

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(run, [case for case in cases if case not in bombs]))
            with pytest.MonkeyPatch.context() as little:
                little.setattr(verdict, "COMPILE_LIMITS", BOMB_LIMITS)
                list(pool.map(run, bombs))
            for language in {case.language for case in cases}:
                found.outcomes[language] = judged(own, language, HARMLESS[language], Limits(), "harmless")
        own.stop()
        for name, server in servers.items():
            with contextlib.suppress(BlockingIOError):
                server.accept()
                found.connections.append(name)
        looked = [
            "/",
            "/etc",
            "/usr",
            "/usr/bin",
            "/usr/include",
            "/dev",
            "/dev/shm",
            "/var",
            "/var/tmp",
            "/run",
            "/opt",
        ]
        folders = [*map(Path, looked), Path("/tmp"), Path.home(), PROJECT, Path.cwd(), outside, *cache]
        word = f"hostile-{os.getpid()}-"
        found.written = [str(path) for folder in folders if folder.is_dir() for path in folder.glob(f"*{word}*")]
    found.written += [str(path) for path, stat in cached().items() if path in cache and cache[path] != stat]
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        found.descendants = sorted(below(os.getpid()).items() - descendants.items())
        found.opened = open_descriptors() - descriptors
        if not found.descendants and not found.opened:
            break
        time.sleep(0.05)  # a service ends as soon as it notices
    return found


def judged(sandbox: Sandbox, language: str, solution: str, limits: Limits, mark: str) -> Outcome | str:
    """The outcome; a text where the language's tools are missing."""
    toolchain = toolchain_or_reason(language)
    if isinstance(toolchain, str):
        return toolchain
    toolchain = replace(toolchain, environment={**toolchain.environment, "HOSTILE": mark})
    return execute(sandbox, LANGUAGES[language], toolchain, solution, TESTS[language], limits)


def marked(word: str) -> list[str]:
    """Command lines of the processes that carry a case's mark in their environment or command line."""
    lines = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may end while we look
            line = (path / "cmdline").read_bytes()
            if word.encode() in line + (path / "environ").read_bytes():
                lines.append(line.replace(b"\0", b" ").decode(errors="replace") + " ")
    return lines


def cached() -> dict[Path, tuple[int, int]]:
    """What toolchains keep -> size and time of change, of everything below."""
    paths = (Path.home() / ".cache" / "mindgeex").rglob("*")
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths if ".partial" not in str(path)}


def open_descriptors() -> set[str]:
    """What this process has open, but for mount namespaces that a sandbox keeps to use again."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return {line for line in found if " mnt:" not in line}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_hostile_program_is_judged_and_leaves_no_process(found, case):
    outcome = found.outcomes[case.name]
    if isinstance(outcome, str):
        pytest.skip(outcome)
    expected = case.header["verdict"].split(", ")
    assert outcome.verdict.value in expected, outcome
    assert re.search(case.header.get("says", ""), outcome.reason), outcome
    assert outcome.wall_s < case.limits.wall_s + 15.0
    assert outcome.run_cpu_s < case.limits.cpu_s + 10.0
    assert len(outcome.output) <= verdict.OUTPUT_KEPT
    assert found.alive[case.name] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_next_program_is_judged_as_ever(found, language):
    outcome = found.outcomes.get(language, "none of these was run")
    if isinstance(outcome, str):
        pytest.skip(outcome)
    assert (outcome.verdict, outcome.reason) == (verdict.Verdict.PASSED, "")


def test_nothing_is_left_of_them(found):
    assert (found.descendants, found.written, found.connections, found.opened) == ([], [], [], set())


def test_every_program_says_what_it_expects():
    assert len(CASES) >= 40 and {case.language for case in CASES} == set(LANGUAGES)
    verdicts = {name for case in CASES for name in case.header["verdict"].split(", ")}
    assert verdicts == {each.value for each in verdict.Verdict}
    keys = {key for case in CASES for key in case.header}
    assert keys == {"verdict", "says", "limits", "compiler"}
