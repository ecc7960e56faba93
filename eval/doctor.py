"""What this machine has for the evaluation, and what each language lacks. Facts only; the command line prints them.

Covers: the sandbox, compilers and interpreters, libraries that single problems use, and, where asked for, a program of
each language that is compiled, run and proven in the sandbox. Does not cover: Ray's other nodes.
"""

from collections.abc import Iterable, Iterator
from functools import partial

from mindgeex.common.doctor import Tool
from mindgeex.common.errors import UserError
from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.execution.engines.engine import Work, Workshop
from mindgeex.eval.execution.job import Limits
from mindgeex.eval.execution.sandbox import Sandbox
from mindgeex.eval.languages import LANGUAGES
from mindgeex.eval.languages.language import Language, Library


def tools(languages: Iterable[str], required: Iterable[str], run: bool = False) -> Iterator[Tool]:
    """What to look at.

    Args:
        languages: keys of languages/.
        required: those of them without which something asked for cannot be done.
        run: also execute a program of each.
    """
    needed = set(required)
    yield Tool("evaluate", "bubblewrap", lambda: Sandbox().description, required=True)
    for language in (LANGUAGES[key] for key in languages):
        what = ", ".join(command for command, _ in language.tools) or "this Python"
        ability, is_needed = f"evaluate {language.title}", language.key in needed
        yield Tool(ability, what, partial(_version, language), required=is_needed)
        for library in language.libraries if run else ():
            yield Tool(ability, library.name, partial(_library, library), required=is_needed)
        if run:
            yield Tool(ability, "a program", partial(_execute, language), required=is_needed)


def _version(language: Language) -> str:
    return language.toolchain().version


def _library(library: Library) -> str:
    if library.found():
        return "found"
    raise UserError(f"not installed, single problems use it: {library.remedy}")


def _execute(language: Language) -> str:
    problem = HUMANEVAL_X.load([language.key]).problems[0]
    outcome = Workshop([language.key]).execute(Work(language.key, *HUMANEVAL_X.canonical(problem), Limits()))
    if outcome.reason:
        said = f"{outcome.verdict.value}, {outcome.reason}"
        raise UserError(f"{problem.task_id}'s own solution fails ({said}): install {language.title}'s tools anew")
    return f"passes in the sandbox, {outcome.wall_s:.1f} s"
