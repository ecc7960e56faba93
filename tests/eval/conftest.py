"""The sandbox and the toolchains, found once for all tests of the room."""

import functools

import pytest

from mindgeex.common.errors import UserError
from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.execution.job import Limits
from mindgeex.eval.execution.sandbox import Sandbox
from mindgeex.eval.execution.verdict import Outcome, execute
from mindgeex.eval.languages import LANGUAGES
from mindgeex.eval.languages.language import Toolchain
from mindgeex.eval.problem import Kept

QUICK = Limits(cpu_s=4, wall_s=60.0)


@functools.cache
def the_sandbox() -> Sandbox:
    return Sandbox()


@functools.cache
def toolchain_or_reason(language: str) -> Toolchain | str:
    try:
        return LANGUAGES[language].toolchain()
    except UserError as error:
        return str(error)


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    """bubblewrap, or a skip that names the package."""
    try:
        return the_sandbox()
    except UserError as error:
        pytest.skip(str(error))


class Runner:
    """Executes programs in a language, or skips naming the package that is missing."""

    def __init__(self, sandbox: Sandbox):
        self.sandbox = sandbox

    def __call__(self, language: str, solution: str, tests: str, limits: Limits = QUICK) -> Outcome:
        toolchain = toolchain_or_reason(language)
        if isinstance(toolchain, str):
            pytest.skip(toolchain)
        return execute(self.sandbox, LANGUAGES[language], toolchain, solution, tests, limits)

    def problem(self, language: str, body: str | None = None, number: int = 1, before: str = "") -> Outcome:
        """A shipped problem with its own solution, or with another body; `before` stands in front of everything."""
        problem = HUMANEVAL_X.load([language]).problems[number]
        kept = Kept(problem.prompt, problem.canonical_solution if body is None else body)
        solution, tests = HUMANEVAL_X.program(problem, kept)
        return self(language, before + solution, tests)


@pytest.fixture(scope="session")
def execute_program(sandbox: Sandbox) -> Runner:
    return Runner(sandbox)
