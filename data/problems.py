"""Problems of a benchmark: the rows and source files below a folder, as named texts.

Covers: JSON lines (also gzipped), JSON (a list of rows, or one), parquet, and files of the languages we know.
Does not cover: archives, data sets that need their own loader.
"""

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.data.languages import PROSE, possible_languages

METADATA = frozenset(
    ("task_id", "id", "_id", "name", "entry_point", "func_name", "language", "lang", "source", "source_file", "url")
    + ("difficulty", "licence", "license", "author", "category", "type", "version", "split", "base_input", "plus_input")
)
"""Fields that are not a problem's text, by name in lower case; every other string, and list of strings, is."""
NO_CODE = frozenset((*PROSE, "html", "markdown", "tex"))
"""Languages whose files speak about a benchmark (its README) and are no problems."""


@dataclass(frozen=True)
class Problem:
    """A row of a benchmark, or a source file."""

    benchmark: str
    file: str
    """Path below the benchmark's folder."""
    name: str
    fields: dict[str, str]
    languages: tuple[str, ...]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with (
        gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(encoding="utf-8-sig") as file
    ):
        yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Every row of a file with where it stands; `value` may be anything JSON has."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            yield from ((f":{n}", row) for n, row in enumerate(pyarrow.parquet.read_table(path).to_pylist(), 1))
        elif path.suffix == ".json":
            value = json.loads(path.read_text(encoding="utf-8-sig"))
            yield from ((f":{n}", row) for n, row in enumerate(value if isinstance(value, list) else [value], 1))
        else:
            for number, line in _lines(path):
                try:
                    yield f":{number}", json.loads(line)
                except ValueError as error:
                    raise UserError(
                        f"{path}, line {number}: not valid JSON ({error}): mend or remove the line"
                    ) from None
    except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a benchmark ({error}): mend the file or take it away") from None


def _fields(row: dict[str, Any]) -> dict[str, str]:
    """The texts of a row: strings, and lists of strings as lines; of nested objects likewise."""
    found = {}
    for key, value in row.items():
        if key.lower() in METADATA:
            continue
        if isinstance(value, str):
            found[key] = value
        elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            found[key] = "\n".join(value)
        elif isinstance(value, dict):
            found |= {f"{key}.{inner}": text for inner, text in _fields(value).items()}
    return found


_LANGUAGE_WORDS = {
    "python": "python", "py": "python", "humaneval": "python", "mbpp": "python", "cpp": "cpp", "c++": "cpp",
    "java": "java", "js": "javascript", "javascript": "javascript", "go": "go", "rust": "rust", "rs": "rust",
    "ts": "typescript", "typescript": "typescript", "csharp": "csharp", "cs": "csharp", "php": "php", "ruby": "ruby",
    "kotlin": "kotlin", "scala": "scala", "swift": "swift", "c": "c",
}  # fmt: skip


def _languages(row: dict[str, Any], file: str) -> tuple[str, ...]:
    """The languages a row's code may be in: what its language, its id and its file name say, else Python."""
    hints = f"{row.get('language', '')} {row.get('task_id', '')} {file}"
    found = [_LANGUAGE_WORDS[word] for word in re.findall(r"[a-z+]+", hints.lower()) if word in _LANGUAGE_WORDS]
    return tuple(dict.fromkeys(found)) or ("python",)


def read_benchmark(folder: Path) -> list[Problem]:
    """The problems in the files below a folder, in the order of the files' paths.

    Raises:
        UserError: there is none, or a file cannot be read.
    """
    problems = []
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).parts):
        if not path.is_file():
            continue
        file = path.relative_to(folder).as_posix()
        if path.name.endswith((".jsonl", ".jsonl.gz", ".json", ".parquet")):
            for place, row in _rows(path):
                if not isinstance(row, dict):
                    raise UserError(f"{path}{place}: a {type(row).__name__}, not an object with a problem's fields")
                name = str(row.get("task_id") or f"{file}{place}")
                problems.append(Problem(folder.name, file, name, _fields(row), _languages(row, file)))
        elif languages := tuple(key for key in possible_languages(path.name) if key not in NO_CODE):
            text = path.read_text(encoding="utf-8", errors="replace")
            problems.append(Problem(folder.name, f"*{path.suffix}", file, {"code": text}, languages))
    if not problems:
        raise UserError(f"{folder}: no problem found: needs .jsonl, .jsonl.gz, .json, .parquet or source files")
    return problems


def whole_functions(fields: dict[str, str]) -> list[list[str]]:
    """For each text of a problem that may be code: that text with what makes it whole, the likeliest first."""
    heads = [fields[key] for key in ("declaration", "prompt", "text") if key in fields]
    bodies = [fields[key] for key in ("canonical_solution", "solution", "code") if key in fields]
    return [_wholes(heads, body) for body in bodies] + [[head] for head in heads]


def _wholes(heads: list[str], body: str) -> list[str]:
    joined = [head + "\n" * (not head.endswith("\n")) + body for head in heads]
    return [*joined, body] if body.lstrip("\r\n")[:1].isspace() else [body, *joined]
