"""HumanEval-X and every benchmark in its format: problems, prompts, and how a completion becomes a program.

Covers: reading `humaneval_<language>.jsonl[.gz]` from a folder, or the few problems that ship with the project; the
generation prompt (the language tag, then the problem's prompt, as CodeGeeX published it); when to stop generating; what
of a completion is kept; how solution and tests are put together. Published behaviour is kept except where named below.
Does not cover: translation between languages; Rust problems that need crates (`obstacle` says which).

Differences from the published harness, each because it judged wrongly:
- When to stop is decided at every character instead of every token, and what comes after is cut at once
  (model_zoo/decoding/stops.py); there the rule for Rust, which has no published one, is that for braces.
- Go: packages are imported if the code uses them, not if a comment or a text mentions them.
- JavaScript: output does not fail a program, a failed console.assert does (languages/javascript.py).
- Python: numpy is imported only where the program names it (a program cannot tell, and it takes 60 ms).
- Rust: the `prompt` field holds only the comment, so the prompt is declaration and comment, and the program has the
  declaration once; there is no published rule for what to keep, so the one for braces is used.
"""

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mindgeex.common.errors import UserError, did_you_mean
from mindgeex.model_zoo.decoding.stops import FUNCTION_ENDS, Stop, end_of

NAME = "humaneval-x"
PROMPT_VERSION = "codegeex-v1"
POST_PROCESSING = "codegeex-v1"
SHIPPED = Path(__file__).parents[1] / "problems"

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

KEYS = ("task_id", "prompt", "declaration", "canonical_solution", "test")

PYTHON_IMPORTS = """import math
import re
import sys
import copy
import datetime
import itertools
import collections
import heapq
import statistics
import functools
import hashlib
{numpy}import string
from typing import *
from collections import *
"""
CPP_INCLUDES = ("stdlib.h", "algorithm", "math.h", "stdio.h", "vector", "string", "climits", "cstring", "iostream")
GO_PACKAGES = ("math", "strings", "fmt", "strconv", "time", "bytes", "regexp", "sort", "math/rand", "crypto/md5")

PYTHON_CUTS = ("\ndef", "\nclass", "\nif", "\n#", "\nprint", "\nassert")


@dataclass(frozen=True)
class Problem:
    """One problem in one language."""

    task_id: str
    language: str
    prompt: str
    """What the solution continues: the text before the completion, without language tag."""
    canonical_solution: str
    test: str
    setup: str = ""
    """Go: package clause and imports of the tests."""
    imports: str = ""
    """Go: the import block within `prompt`."""


@dataclass(frozen=True)
class Dataset:
    """The problems to solve and where they came from."""

    problems: tuple[Problem, ...]
    sha256: dict[str, str]
    """File name -> SHA-256 of its bytes."""
    source: str


def load(languages: Sequence[str], data: Path | None = None) -> Dataset:
    """Reads the problems of some languages.

    Args:
        languages: keys of FILE_NAMES; `js` is understood too.
        data: a folder with humaneval_<language>.jsonl or .jsonl.gz; None for the problems that ship with the project.

    Raises:
        UserError: unknown language, missing folder or file, a line that is no problem (file and line named), a task
            id that occurs twice.
    """
    folder = SHIPPED if data is None else data
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: --data wants the one that holds humaneval_python.jsonl.gz")
    if not languages:
        raise UserError(f"no language chosen; known: {', '.join(FILE_NAMES)}")
    problems: dict[str, Problem] = {}
    hashes: dict[str, str] = {}
    for language in dict.fromkeys("javascript" if typed == "js" else typed for typed in languages):
        if language not in FILE_NAMES:
            raise UserError(f"unknown language '{language}'{did_you_mean(language, FILE_NAMES)}")
        path = _file(folder, FILE_NAMES[language])
        content = _content(path)
        hashes[path.name] = hashlib.sha256(content).hexdigest()
        _read(content, path, language, problems)
    return Dataset(tuple(problems.values()), hashes, "shipped with the project" if data is None else str(data))


def prompt(problem: Problem) -> str:
    """What the model continues."""
    return f"{LANGUAGE_TAGS[problem.language]}\n{problem.prompt}"


def stop_rule(problem: Problem) -> Stop:
    """When a completion is complete; the rule of CodeGeeX's generation script."""
    return FUNCTION_ENDS[problem.language]


def keep(problem: Problem, completion: str) -> str:
    """The part of a completion that becomes code: CodeGeeX's rules, which only cut (and close a Java class)."""
    return _KEEP[problem.language](completion)


def program(problem: Problem, solution: str) -> tuple[str, str]:
    """Everything before the tests, and the tests.

    Args:
        problem: the problem.
        solution: what `keep` left of a completion, or the canonical solution.
    """
    text = problem.prompt + solution
    if problem.language == "python":
        numpy = "import numpy\nimport numpy as np\n" if re.search(r"\b(?:np|numpy)\b", text + problem.test) else ""
        return PYTHON_IMPORTS.format(numpy=numpy) + problem.prompt + _until_column_zero(solution), problem.test
    if problem.language == "cpp":
        missing = [f"#include<{name}>" for name in CPP_INCLUDES if f"#include<{name}>" not in problem.prompt]
        return "\n".join([*missing, text]), problem.test
    if problem.language == "go":
        code = _without_go_comments(text + problem.test)
        packages = [f'"{name}"' for name in GO_PACKAGES if re.search(rf"\b{name.split('/')[-1]}\.", code)]
        imported = [name for name in packages if name not in problem.setup]
        block = "import (\n    " + "\n    ".join(imported) + "\n)\n" if imported else ""
        return f"{problem.setup}\n{block}{problem.prompt.replace(problem.imports, '', 1)}{solution}", problem.test
    return text, problem.test


def obstacle(problem: Problem) -> str | None:
    """Why this harness cannot run a problem, whatever its solution; None if it can."""
    if problem.language == "rust":
        crates = sorted(set(re.findall(r"^\s*use (rand|regex|md5)\b", problem.prompt, re.MULTILINE)))
        if crates:
            return f"it uses the crates {', '.join(crates)}; only Rust's standard library is available here"
    return None


def _file(folder: Path, name: str) -> Path:
    candidates = [folder / f"humaneval_{name}.jsonl{ending}" for ending in (".gz", "")]
    for path in candidates:
        if path.is_file():
            return path
    raise UserError(f"{folder}: holds neither {candidates[0].name} nor {candidates[1].name}")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _read(content: bytes, path: Path, language: str, problems: dict[str, Problem]) -> None:
    """Adds the problems of one file to those of the files before."""
    before = len(problems)
    try:
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not valid JSON: {error.msg} at column {error.colno}") from None
        problem = _problem(row, language, where)
        if problem.task_id in problems:
            raise UserError(f"{where}: task id {problem.task_id!r} occurs twice: results could not be told apart")
        problems[problem.task_id] = problem
    if len(problems) == before:
        raise UserError(f"{path}: holds no problem")


def _problem(row: object, language: str, where: str) -> Problem:
    wanted = KEYS + (("test_setup", "import") if language == "go" else ())
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object with the keys {', '.join(wanted)}")
    for key in wanted:
        if not isinstance(row.get(key), str):
            raise UserError(f"{where}: key '{key}' is missing or not a text")
    return Problem(
        task_id=row["task_id"],
        language=language,
        prompt=row["declaration"] + row["prompt"] if language == "rust" else row["prompt"],
        canonical_solution=row["canonical_solution"],
        test=row["test"],
        setup=row.get("test_setup", ""),
        imports=row.get("import", ""),
    )


def _until_column_zero(solution: str) -> str:
    """The lines before the first one that starts in column 0; a function's body never does."""
    end = end_of(FUNCTION_ENDS["python"], solution)
    return f"{solution}\n" if end is None else solution[:end] or "\n"


def _keep_python(text: str) -> str:
    for mark in PYTHON_CUTS:
        if mark in text:
            text = text[: text.rfind(mark)]
    return text


def _keep_java(text: str) -> str:
    main = text.find("public static void main")
    if main != -1:
        text = text[:main] + "}"
    text = text[: text.rfind("}")] + "}" if "}" in text else text
    return text + "\n}" if text.count("{") + 1 == text.count("}") else text


def _keep_go(text: str) -> str:
    for mark in ("\n//", "\nfunc main("):
        if mark in text:
            text = text[: text.rfind(mark)]
    return _keep_braces(text)


def _keep_braces(text: str) -> str:
    return text[: text.rfind("}")] + "}" if "}" in text else text


_KEEP = {
    "python": _keep_python,
    "cpp": _keep_braces,
    "java": _keep_java,
    "javascript": _keep_braces,
    "go": _keep_go,
    "rust": _keep_braces,
}


def _without_go_comments(code: str) -> str:
    """Go code without comments and texts, so that only what the compiler sees is searched for package names."""
    pattern = r"//[^\n]*|/\*.*?\*/|`[^`]*`|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'"
    return re.sub(pattern, lambda match: '""' if match[0][0] in "\"`'" else " ", code, flags=re.DOTALL)
