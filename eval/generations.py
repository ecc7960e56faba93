"""Completions made elsewhere: JSON lines with `task_id` and `generation`, as CodeGeeX writes them, plain or packed.

Covers: several lines a task are its samples, in the file's order; `completion` and `solution` are understood in place
of `generation`; the names a benchmark's own tools use for a task (a translation's source, or its target). Said, not
hidden: tasks the benchmark does not have, tasks without any line (they count as unsolved), a `completion_id` that a
task has twice (the first line counts), and tasks with fewer lines than others. Does not cover: prompts in the file,
which are not compared with the benchmark's.
"""

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.eval.problem import Problem

KEYS = ("generation", "completion", "solution")
MOST_NAMED = 5


@dataclass(frozen=True)
class Generations:
    """The completions of a file, by task."""

    completions: Mapping[str, Sequence[str]]
    """Task id -> its samples; empty for a task without any."""
    description: dict[str, object]
    """The file, its SHA-256 and what is odd about it: goes into the manifest."""
    num_samples: int
    """Most samples of any task."""
    warnings: tuple[str, ...] = field(default=())
    """What is odd about it, a line each."""


def read(path: Path, problems: Sequence[Problem]) -> Generations:
    """Reads completions for the problems of a benchmark.

    Args:
        path: JSON lines, or the same packed by gzip, whatever its name.
        problems: which tasks there are.

    Raises:
        UserError: the file cannot be read, a line is none, or no line is for any of the problems.
    """
    content = _content(path)
    names = _names(problems)
    found: dict[str, list[str]] = {problem.task_id: [] for problem in problems}
    unknown: Counter[str] = Counter()
    repeated: Counter[str] = Counter()
    ids: set[tuple[str, str]] = set()
    for number, line in enumerate(_text(path, content).split("\n"), start=1):
        if not line.strip():
            continue
        task, text, sample = _line(line, f"{path}, line {number}")
        own = names.get(task)
        if own is None:
            unknown[task] += 1
        elif sample is not None and (own, sample) in ids:
            repeated[own] += 1
        else:
            found[own].append(text)
            ids |= {(own, sample)} if sample is not None else set()
    if not any(found.values()):
        example = f", such as {next(iter(unknown))!r}" if unknown else ""
        raise UserError(
            f"{path}: no line is for a task of this benchmark{example}; its tasks have names like "
            f"{problems[0].task_id!r}: choose the benchmark and languages that the file was made for"
        )
    most = max(map(len, found.values()))
    missing = [task for task, texts in found.items() if not texts]
    fewer = [task for task, texts in found.items() if 0 < len(texts) < most]
    odd = {"unknown": dict(unknown), "missing": missing, "duplicates": dict(repeated), "fewer_samples": fewer}
    said = {
        "unknown": "tasks that the benchmark does not have (or that it has twice) were passed over",
        "missing": "tasks have no generation and count as unsolved",
        "duplicates": "tasks have the same completion_id again; the first one counts",
        "fewer_samples": f"tasks have fewer than {most} generations",
    }
    warnings = [f"{path}: {len(odd[key])} {words}: {_some(list(odd[key]))}" for key, words in said.items() if odd[key]]
    description: dict[str, object] = {
        "generations": str(path),
        "sha256": hashlib.sha256(content).hexdigest(),
        **{key: value for key, value in odd.items() if value},
    }
    return Generations(found, description, most, tuple(warnings))


def _names(problems: Sequence[Problem]) -> dict[str, str]:
    """Every name of a task -> its id; an alias that two tasks share names neither."""
    counted = Counter(alias for problem in problems for alias in set(problem.aliases))
    names = {alias: p.task_id for p in problems for alias in p.aliases if counted[alias] == 1}
    return names | {problem.task_id: problem.task_id for problem in problems}


def _line(line: str, where: str) -> tuple[str, str, str | None]:
    """Task, completion and number of the sample, if it has one."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(row, dict) or not isinstance(row.get("task_id"), str):
        raise UserError(f"{where}: expected an object with the keys task_id and generation")
    for key in KEYS:
        if isinstance(row.get(key), str):
            sample = row.get("completion_id")
            return row["task_id"], row[key], None if sample is None else str(sample)
    raise UserError(f"{where}: key 'generation' is missing or not a text")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}: --generations wants a JSON lines file") from None


def _text(path: Path, content: bytes) -> str:
    try:
        return (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _some(tasks: Sequence[str]) -> str:
    more = len(tasks) - MOST_NAMED
    return ", ".join(tasks[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
