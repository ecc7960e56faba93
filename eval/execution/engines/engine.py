"""What an engine is: something that executes programs, in whatever order, and says on which machines it did.

A workshop is what executing takes in one process: the sandbox and the toolchains. Every engine has one or several.
"""

import dataclasses
import functools
import os
import platform
import signal
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mindgeex.eval.execution.job import Limits
from mindgeex.eval.execution.sandbox import Sandbox
from mindgeex.eval.execution.verdict import Outcome, Verdict, execute
from mindgeex.eval.languages import LANGUAGES

MAX_KILLS = 3
"""A program that is killed so often, and not for passing a limit, is judged by that."""


@dataclass(frozen=True)
class Work:
    """One program to execute. Can be sent to another process."""

    language: str
    solution: str
    tests: str
    limits: Limits
    tries: int = 1
    """It is executed until it passes, so many times at the most."""


@dataclass(frozen=True)
class Tools:
    """What executes programs, in words: goes into the manifest. A verdict may depend on any of it."""

    sandbox: str | None
    toolchains: dict[str, str]
    """Language -> version."""


class Engine(Protocol):
    """Executes programs."""

    def describe(self) -> dict[str, object]:
        """Kind and width: goes into the manifest."""
        ...

    def prepare(self, languages: Sequence[str]) -> Tools:
        """Finds what these languages need; called once, before `execute`.

        Raises:
            UserError: a tool is missing (named with its package).
        """
        ...

    def execute(self, works: Sequence[Work]) -> Generator[tuple[int, Outcome], None, None]:
        """Place in `works` and outcome of each, as they come."""
        ...

    def machines(self) -> list[dict[str, object]]:
        """Where programs were executed so far."""
        ...


class Workshop:
    """The sandbox and the toolchains of this process; may be used from several threads."""

    def __init__(self, languages: Sequence[str]):
        """Finds them.

        Raises:
            UserError: a tool is missing (named with its package).
        """
        self.sandbox = Sandbox() if languages else None
        self.toolchains = {language: LANGUAGES[language].toolchain() for language in languages}
        self.tools = Tools(
            self.sandbox.description if self.sandbox else None,
            {language: toolchain.version for language, toolchain in self.toolchains.items()},
        )

    def execute(self, work: Work) -> Outcome:
        """The verdict of the first try that passes, or of the last one."""
        for _ in range(work.tries):
            outcome = self._try(work)
            if outcome.verdict == Verdict.PASSED:
                break
        return outcome

    def _try(self, work: Work) -> Outcome:
        """See verdict.execute. What was killed may have been so from outside (out of memory?): it is run again."""
        assert self.sandbox is not None  # whoever has programs has languages
        language, toolchain = LANGUAGES[work.language], self.toolchains[work.language]
        for _ in range(MAX_KILLS):
            outcome = execute(self.sandbox, language, toolchain, work.solution, work.tests, work.limits)
            if not outcome.reason.removesuffix(")").endswith(f"signal {signal.SIGKILL:d}"):
                return outcome
        return dataclasses.replace(outcome, reason=f"killed each of {MAX_KILLS} times it was run: {outcome.reason}")


@functools.cache
def machine() -> dict[str, object]:
    """This machine: what seconds of CPU time mean."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part"))]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "architecture": platform.machine(),
        "kernel": platform.release(),
    }
