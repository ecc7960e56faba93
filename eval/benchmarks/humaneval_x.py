"""HumanEval-X: continue a function in Python, C++, Java, JavaScript, Go or Rust.

Covers: `humaneval_<language>.jsonl[.gz]` from a folder or the hub, or the few problems that ship with the project; the
prompt as CodeGeeX published it (the language tag, then the problem's prompt). Published behaviour is kept except for:
- When to stop is decided at every character instead of every token, and what comes after is cut at once
  (model_zoo/decoding/stops.py); the rule for Rust, which has no published one, is that for braces.
- JavaScript: output does not fail a program, a failed console.assert does (languages/javascript.py).
- Rust: the `prompt` field holds only the comment, so the prompt is declaration and comment, and the program has the
  declaration once.
- How a program is put together: assembly.py.
Does not cover: problems whose libraries are not installed (`obstacle` says which, and how to get them).
"""

from collections.abc import Sequence
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.eval.benchmarks.assembly import assemble
from mindgeex.eval.benchmarks.benchmark import Benchmark, Code, Dataset
from mindgeex.eval.benchmarks.source import Row, Source, choose, open_source, text
from mindgeex.eval.languages import LANGUAGES
from mindgeex.eval.problem import Kept, Problem

HUB = "THUDM/humaneval-x"
FILE_NAMES = {"python": "python", "cpp": "cpp", "java": "java", "javascript": "js", "go": "go", "rust": "rust"}
"""Language -> its name in the names of the files."""

LANGUAGE_TAGS = {
    "python": "# language: Python",
    "cpp": "// language: C++",
    "java": "// language: Java",
    "javascript": "// language: JavaScript",
    "go": "// language: Go",
    "rust": "// language: Rust",
}
"""The first line of a prompt, the same as in the training data."""

KNOWN_DEFECTS = {
    "JavaScript/112": "its own solution is wrong in the data: it returns by a comma operator",
    "JavaScript/155": "its own solution is wrong in the data: it does not count the digit of 0",
    "Go/95": "its own solution, not its tests, depends on the order of a map, and fails one run in four",
    "CPP/23": "tests nothing: any body passes",
    "Rust/32": "tests nothing: any body passes",
}
"""Task id -> what is wrong in the published data, whatever the machine."""
FLAKY = {"Go/95"}
"""Whose own solution fails by chance. Its tests are sound: a sample that fails them by chance, too, is wrong."""


class HumanEvalX(Benchmark):
    """Continue a function, in six languages."""

    name = "humaneval-x"
    about = "HumanEval-X: continue a function in Python, C++, Java, JavaScript, Go or Rust"
    prompt_version = "codegeex-v1"
    languages = tuple(FILE_NAMES)
    default_languages = ("python",)

    def load(self, languages: Sequence[str] = (), data: Path | str | None = None) -> Dataset:
        """See Benchmark.load."""
        chosen = choose(languages or self.default_languages, self.languages)
        source = open_problems(data)
        problems = unique([make(row, language, where) for language in chosen for where, row in read(source, language)])
        return Dataset(problems, source.sha256, source.described)

    def obstacle(self, problem: Problem) -> str | None:
        """Libraries that are not installed."""
        return missing_libraries(problem)

    def known_defect(self, problem: Problem) -> str | None:
        """See Benchmark.known_defect."""
        return KNOWN_DEFECTS.get(problem.task_id)

    def is_flaky(self, problem: Problem) -> bool:
        """See Benchmark.is_flaky."""
        return problem.task_id in FLAKY

    def program(self, problem: Problem, kept: Kept) -> Code:
        """See assembly.py."""
        return assemble(problem, kept)


def files(language: str) -> tuple[str, ...]:
    """Where the problems of a language may lie, in a folder or on the hub."""
    name = FILE_NAMES[language]
    return f"humaneval_{name}.jsonl.gz", f"humaneval_{name}.jsonl", f"data/{name}/data/humaneval.jsonl"


def open_problems(data: Path | str | None) -> Source:
    """The source of HumanEval-X, for all benchmarks that are made from it."""
    return open_source(data, HUB, [name for language in FILE_NAMES for name in files(language)], shipped=True)


def read(source: Source, language: str) -> list[tuple[str, Row]]:
    """The rows of a language with their places, keys checked."""
    keys = ["task_id", "prompt", "declaration", "canonical_solution", "test"]
    keys += ["test_setup", "import"] if language == "go" else []
    rows = list(source.rows(files(language)))
    for where, row in rows:
        for key in keys:
            text(row, key, where)
    return rows


def make(row: Row, language: str, where: str) -> Problem:
    """A problem from a row whose keys were checked."""
    prompt = row["declaration"] + row["prompt"] if language == "rust" else row["prompt"]
    return Problem(
        task_id=row["task_id"],
        language=language,
        prompt=prompt,
        canonical_solution=row["canonical_solution"],
        test=row["test"],
        asked=f"{LANGUAGE_TAGS[language]}\n{prompt}",
        setup=row.get("test_setup", ""),
        imports=row.get("import", ""),
    )


def unique(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """The problems, none of whose task ids occurs twice.

    Raises:
        UserError: one does.
    """
    seen: set[str] = set()
    for problem in problems:
        if problem.task_id in seen:
            raise UserError(f"task id {problem.task_id!r} occurs twice in the data: results could not be told apart")
        seen.add(problem.task_id)
    return tuple(problems)


def missing_libraries(problem: Problem) -> str | None:
    """The libraries that a problem's code needs and this machine lacks."""
    return LANGUAGES[problem.language].missing(problem.prompt + problem.canonical_solution + problem.test)


HUMANEVAL_X = HumanEvalX()
