"""Test-case generation: write assertions for a solved function; they are worth what they catch.

A model's tests have to pass on the canonical solution and fail on mutants made from it (mutants.py). The score is the
share of mutants caught, and 0 for tests that a right solution fails. Only mutants that the problem's own tests catch by
a wrong answer or an exception are used, so none is the original in disguise, and none runs for ever.

The problems are HumanEval-X's in Python; the prompt is of this project, in the form that CodeT (Chen et al., 2022) made
known: the function, a comment, and the word `assert`. CodeFuseEval announced such a task but published no row of it.
Does not cover: other languages; tests that are no assertions. A test could read the function's source to tell it apart.
"""

import ast
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mindgeex.common.grammars import functions, parse
from mindgeex.eval.benchmarks import humaneval_x
from mindgeex.eval.benchmarks.assembly import assemble
from mindgeex.eval.benchmarks.benchmark import Benchmark, Code, Dataset
from mindgeex.eval.benchmarks.source import choose
from mindgeex.eval.mutants import mutants
from mindgeex.eval.problem import Kept, Problem
from mindgeex.model_zoo.decoding.stops import Stop, StopStrings

CAUGHT = ("wrong answer", "exception")
STOPS = StopStrings(("\ndef", "\nclass", "\nif", "\nprint", "\n#"))


class TestGeneration(Benchmark):
    """Write assertions."""

    __test__ = False  # for pytest, which takes any class of such a name for tests

    name = "test-generation"
    about = "write assertions for a Python function, scored by the mutants they catch"
    prompt_version = "assert-v1"
    languages = ("python",)
    default_languages = languages
    rules = ("assertions",)
    measure = "mutants caught"
    most_mutants = 10
    """Of each problem; those that its own tests do not catch are not replaced."""

    def load(self, languages: Sequence[str] = (), data: Path | str | None = None) -> Dataset:
        """See Benchmark.load."""
        choose(languages or self.default_languages, self.languages)
        found = humaneval_x.HUMANEVAL_X.load(self.languages, data)
        problems = []
        for problem in found.problems:
            code = problem.prompt + problem.canonical_solution
            parsed = parse(code, "python")
            named = functions(parsed) if parsed else []
            offset = len(problem.prompt.encode())
            entry = next((one.name for one in reversed(named) if one.start_byte < offset < one.end_byte), "")
            tag = humaneval_x.LANGUAGE_TAGS["python"]
            asked = f"{tag}\n{code.rstrip()}\n\n\n# check the correctness of {entry}\nassert"
            wrong = mutants(problem.prompt, problem.canonical_solution, "python", self.most_mutants)
            problems.append(replace(problem, asked=asked, entry_point=entry, mutants=wrong))
        return Dataset(tuple(problems), found.sha256, found.source)

    def stop(self, problem: Problem) -> Stop:
        """Where something else than assertions begins."""
        return STOPS

    def program(self, problem: Problem, kept: Kept) -> Code:
        """The canonical solution with the problem's own tests."""
        return assemble(problem, kept)

    def checks(self, problem: Problem) -> tuple[Code, ...]:
        """The canonical solution, then every mutant, with the problem's own tests."""
        bodies = (problem.canonical_solution, *problem.mutants)
        return tuple(assemble(problem, Kept(problem.prompt, body)) for body in bodies)

    def checked(self, problem: Problem, verdicts: Sequence[str]) -> Problem | str:
        """The problem with the mutants that its own tests catch."""
        sound = tuple(m for m, verdict in zip(problem.mutants, verdicts[1:], strict=True) if verdict in CAUGHT)
        return replace(problem, mutants=sound) if sound else "its own tests catch no mutant of its solution"

    def programs(self, problem: Problem, completion: str, rules: str) -> tuple[Code, ...]:
        """The model's tests on the canonical solution, then on every mutant."""
        tested = replace(problem, test=assertions(f"assert{completion}"))
        return tuple(
            assemble(tested, Kept(problem.prompt, body)) for body in (problem.canonical_solution, *problem.mutants)
        )

    def score(self, problem: Problem, completion: str, passed: Sequence[bool]) -> float:
        """The share of mutants caught."""
        right, *wrong = passed
        return wrong.count(False) / len(wrong) if right else 0.0


def assertions(text: str) -> str:
    """The assertions a text begins with; an unfinished last one is dropped."""
    kept: list[str] = []
    lines = text.split("\n")
    start = 0
    while start < len(lines):
        end = _statement_end(lines, start)
        if end is None:
            break
        kept += lines[start:end]
        start = end
    return "\n".join(kept) + "\n"


def _statement_end(lines: Sequence[str], start: int) -> int | None:
    """The line behind the assertion (or blank line, or comment) that begins here; None if there is none."""
    for end in range(start + 1, min(len(lines), start + 200) + 1):
        try:
            tree = ast.parse("\n".join(lines[start:end]))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        return end if all(isinstance(node, ast.Assert) for node in tree.body) else None
    return None


TEST_GENERATION = TestGeneration()
