"""Executes one program and judges it: passed, or why not.

A pass must be proven. Each execution has a secret of its own, and only code behind the last test writes it to a pipe
that is not standard output. Ending early with exit code 0 (exit, System.exit, process.exit, os._exit, os.Exit,
process::exit), printing what a passing program prints, or daemonising is therefore no pass.

Limits of the proof: solution and tests share one process, so a program written against this very harness could search
its own memory or binary for the secret, answer every comparison with "equal" (a Python object whose `__eq__` is always
true), or replace what the tests call. No sandbox can tell such a program from a correct one; a model trained without
this harness does not write it by accident. What is called "forbidden" or "memory" among the failures is read from the
program's own messages and is a help for the reader, not a measurement.
"""

import re
import secrets
import shlex
from dataclasses import dataclass, replace
from enum import Enum

from mindgeex.eval.execution.job import MIB, Channel, Job, Limits, Result, limit_script
from mindgeex.eval.execution.sandbox import Sandbox
from mindgeex.eval.execution.watch import MOST_FILES
from mindgeex.eval.languages.language import COMPILE_LIMITS, Language, Proof, Toolchain


class Verdict(str, Enum):
    """What a program scored."""

    PASSED = "passed"
    WRONG = "wrong answer"
    EXCEPTION = "exception"
    COMPILE = "compile error"
    CPU = "CPU time"
    WALL = "wall time"
    MEMORY = "memory"
    OUTPUT = "output"
    FORBIDDEN = "forbidden"
    EARLY = "early exit"


STOPPED = {"cpu": Verdict.CPU, "wall": Verdict.WALL, "memory": Verdict.MEMORY}
STOPPED |= dict.fromkeys(("output", "files"), Verdict.OUTPUT)

MEMORY_MESSAGES = re.compile(
    r"^MemoryError|\bbad_alloc\b|OutOfMemoryError|JavaScript heap out of memory|Array buffer allocation failed"
    r"|(?:fatal error|runtime): (?:runtime: )?(?:out of memory|cannot allocate)|memory allocation of \d+ bytes failed"
    r"|virtual memory exhausted",
    re.MULTILINE,
)
FORBIDDEN_MESSAGES = re.compile(
    r"Read-only file system|Permission denied|Operation not permitted|Network is unreachable|EROFS|EACCES|EPERM"
    r"|AccessDenied|Resource temporarily unavailable|EAGAIN",
    re.IGNORECASE,  # Go's begin with a small letter
)
TELLING_FIRST = re.compile(
    r"panicked at [^\n]*\n([^\n]+)|^((?:panic|fatal error|runtime): [^\n]+)|^(Exception in thread [^\n]+)"
    r"|(assertion failed: [^\n]+)|(terminate called [^\n]*(?:\n\s+what\(\)[^\n]*)?)|^([^\n]*Assertion `[^\n]*)",
    re.MULTILINE,
)
"""The line of Rust, Go, Java, Go's assert package, C++ and C's assert that says what went wrong."""
TELLING_LAST = re.compile(r"^[\w.]*(?:Error|Exception)\b[^\n]*", re.MULTILINE)
"""The line of Python and JavaScript that says it, below a trace of the way there."""
LONG_LINE = re.compile(r"([^\n]{500})[^\n]+")
"""Lines are cut before they are searched: a program may write one of a million characters, to keep the harness busy."""
OUTPUT_KEPT = 4000
"""Characters of a program's output that are kept with its verdict."""


@dataclass(frozen=True)
class Outcome:
    """The judgement of one execution."""

    verdict: Verdict
    reason: str
    """One line; empty for a pass."""
    output: str
    """The beginning of what compiler or program printed."""
    cpu_s: float
    """CPU seconds of compiler and program."""
    wall_s: float
    run_cpu_s: float = 0.0
    """Of `cpu_s`, those of the program."""


class Interrupted(Exception):  # noqa: N818 - not an error
    """The sandbox was told to stop: there is no verdict."""


def execute(
    sandbox: Sandbox, language: Language, toolchain: Toolchain, solution: str, tests: str, limits: Limits
) -> Outcome:
    """Compiles and runs one program.

    Args:
        sandbox: where.
        language: of the program.
        toolchain: `language.toolchain()`, asked for once.
        solution: what the sample is responsible for, with everything in front of it.
        tests: what comes behind it.
        limits: for the program; compilers have limits of their own.

    Raises:
        Interrupted: `sandbox.stop()` was called meanwhile.
        UserError: the sandbox could not be set up, which is no verdict on the program.
    """
    channel = Channel()
    proof = Proof(channel.number, secrets.token_hex(16))
    sources = {name: text.encode("utf-8", "replace") for name, text in language.prove(solution, tests, proof).items()}
    files = {**toolchain.files, **sources}
    job = Job(toolchain.run, files, toolchain.folders, toolchain.environment, limits)
    before: Result | None = None
    if toolchain.service is not None:
        (source,) = files.values()
        before = sandbox.services.compile(toolchain, source)
        if before.exit_code != 0:
            channel.close()
            return _not_compiled(before)
        job = replace(job, files={"program": before.channel})
    elif toolchain.compile is not None:
        job = replace(job, command=_both_stages(toolchain, limits, proof), limits=COMPILE_LIMITS, then=limits)
    result = sandbox.run(job, channel)
    if toolchain.compile is not None and result.first_cpu_s is None:
        return _not_compiled(result)
    proven = result.channel == proof.secret.encode()
    verdict, reason = judge(result, proven, language.failed_test, limits)
    return _outcome(verdict, reason, result, before)


def _both_stages(toolchain: Toolchain, limits: Limits, proof: Proof) -> tuple[str, ...]:
    """Compiles, leaves nothing of that but the program, and becomes it.

    Both happen in one sandbox, which no other sample sees; what is compiled is not executed before it is compiled.
    Compiling has a shell of its own, so that the program knows nothing of what it sets, such as GOGC.
    """
    steps = (
        f"( {toolchain.compile} ) >words 2>&1 || {{ code=$?; cat words; exit $code; }}",
        'for name in *; do [ "$name" = program ] || set -- "$@" "$name"; done; rm -rf "$@"',
        f"times >/dev/fd/{proof.descriptor}",
        limit_script(limits),
        f"exec {shlex.join(toolchain.run)}",
    )
    return "sh", "-c", "\n".join(steps)


def judge(result: Result, proven: bool, failed_test: str, limits: Limits) -> tuple[Verdict, str]:
    """Verdict and reason from the facts of a run.

    Args:
        result: the facts.
        proven: whether the secret came back.
        failed_test: what the language prints for a wrong answer.
        limits: those the program ran under, for the reason's figures.
    """
    if result.stopped_by == "interrupt":
        raise Interrupted
    if result.stopped_by:
        used_s = result.cpu_s - (result.first_cpu_s or 0.0)
        used = {
            "cpu": f"used more than {limits.cpu_s} s of CPU time",
            "wall": f"had not ended after {limits.wall_s:g} s, with {used_s:.1f} s of CPU time used",
            "memory": f"its processes held more than {limits.memory_bytes // MIB} MiB",
            "files": f"made more than {MOST_FILES} files",
            "output": f"wrote more than {limits.output_bytes // MIB} MiB",
        }
        return STOPPED[result.stopped_by], used[result.stopped_by]
    if result.exit_code == 0:
        return (Verdict.PASSED, "") if proven else (Verdict.EARLY, "ended before the tests finished, with exit code 0")
    ended = f"signal {result.signal}" if result.signal else f"exit code {result.exit_code}"
    line = _telling_line(result.output)
    reason = f"{line} ({ended})" if line else ended
    if MEMORY_MESSAGES.search(result.output):
        return Verdict.MEMORY, f"more than {limits.memory_bytes // MIB} MiB: {reason}"
    if failed_test in result.output:
        return Verdict.WRONG, reason
    if FORBIDDEN_MESSAGES.search(line):
        return Verdict.FORBIDDEN, reason
    if not line and not result.signal:
        return Verdict.EARLY, f"ended before the tests finished, with {ended}"
    return Verdict.EXCEPTION, reason


def _outcome(verdict: Verdict, reason: str, result: Result, before: Result | None = None) -> Outcome:
    cpu_s = result.cpu_s + (before.cpu_s if before else 0.0)
    wall_s = result.wall_s + (before.wall_s if before else 0.0)
    run_cpu_s = 0.0 if verdict == Verdict.COMPILE else max(0.0, result.cpu_s - (result.first_cpu_s or 0.0))
    kept = result.output[:OUTPUT_KEPT]
    return Outcome(verdict, reason[:500], kept, round(cpu_s, 3), round(wall_s, 3), round(run_cpu_s, 3))


def _not_compiled(result: Result) -> Outcome:
    return _outcome(Verdict.COMPILE, _compile_reason(result), result)


def _compile_reason(result: Result) -> str:
    if result.stopped_by == "interrupt":
        raise Interrupted
    if result.stopped_by:
        return f"the compiler passed its limit of {result.stopped_by}"
    if result.signal:
        return f"the compiler was ended by signal {result.signal}"
    errors = [line for line in result.output.splitlines() if "error" in line]
    return (errors or result.output.strip().splitlines() or ["the compiler failed without a message"])[0]


def _telling_line(output: str) -> str:
    output = LONG_LINE.sub(r"\1", output)
    if first := TELLING_FIRST.search(output):
        return " ".join(next(filter(None, first.groups())).split())
    lines = TELLING_LAST.findall(output) or [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else ""
