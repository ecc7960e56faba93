"""Documents that contain a benchmark: they share ten words in a row with a problem, or hold its solution renamed.

Spans. A document and a problem that share `span_tokens` words in a row are a hit, whatever stands between the words:
comment signs, brackets, line ends (spans.py says what a word is). Spans that say nothing about a problem do not count:
- its file's frame: what three or more problems of the file share (`class Solution`, how a test begins);
- plain ones: rows of numbers, and words that all belong to the languages, to everybody's code or to English's first
  hundred (`PLAIN`), since `for (int i = 0; i < n; i++) for (int j` is ten words of any program;
- import lines.

Functions. A function is its tokens without comments and docstrings, and a name is only "the one d tokens ago, or new",
so that renaming changes nothing; keywords, numbers and names after a dot (`.append`) stand for themselves. Two are near
duplicates if the Jaccard similarity of their sets of shingles is at least `function_similarity`. What has few shingles
is like others by chance, and is left to the spans.

Measured with HumanEval-X, CodeFuseEval and EvalPlus: of 42,000 files of ordinary code one is dropped; of 164 problems
in each of six languages all are found pasted into a file (Rust: 163), 146 to 159 without their comments and under other
names. The others are of one line, `return n * n`.

Covers: JSON lines (also gzipped), JSON, parquet and source files of benchmarks; copies, also reformatted, commented
anew or renamed; docstrings and tests alone; any language for spans, those with a grammar for functions. Does not cover:
paraphrases, translations into a language that the benchmark lacks, unnamed functions, solutions of one line.
"""

import functools
import hashlib
import itertools
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.data.problems import Problem, read_benchmark, whole_functions
from mindgeex.data.spans import SHINGLE_TOKENS, content_spans, is_in, renamed_shingles, tokens, windows

if TYPE_CHECKING:
    from mindgeex.common.grammars import Parsed

FRAME_PROBLEMS = 3
"""A span that so many problems of one file share is the file's frame."""
MIN_FUNCTION_SHINGLES = 20
"""Fewer (25 tokens, a line or two) are in everybody's code: `def __init__(self, data): self.data = data ...`."""
EVIDENCE_CHARS = 120


@dataclass(frozen=True)
class DecontaminationRules:
    """Which benchmarks no document may contain, and what counts as containing one."""

    benchmarks: tuple[str, ...] = ()
    """Folders of benchmarks; none: nothing is dropped."""

    span_tokens: int = 10
    """So many words in a row shared with a problem drop a document."""

    function_similarity: float = 0.85
    """Functions at least so similar to a reference solution, names aside, drop a document: 0.5 to 1."""

    def __post_init__(self) -> None:
        if not 5 <= self.span_tokens <= 50:
            raise UserError(f"decontamination.span_tokens={self.span_tokens}: must lie between 5 and 50")
        if not 0.5 <= self.function_similarity <= 1:
            value = self.function_similarity
            raise UserError(f"decontamination.function_similarity={value}: must lie between 0.5 and 1")


@dataclass(frozen=True)
class Hit:
    """What a document shares with one problem."""

    benchmark: str
    """Name of the benchmark's folder."""

    problem: str
    """The row's task_id, with the file's path where several files have it; else file:line, or the source file."""

    kind: Literal["span", "function"]
    evidence: str
    """Beginning of the shared text, blanks collapsed."""


def load_benchmarks(folders: Sequence[Path], rules: DecontaminationRules | None = None) -> "Index":
    """Reads benchmarks, every file below each folder, into what documents are compared with.

    Raises:
        UserError: a folder is missing, is named like another one, or has no problem; a file cannot be read.
    """
    rules = rules or DecontaminationRules()
    problems: list[Problem] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder: decontamination.benchmarks lists folders of benchmarks")
        if any(problem.benchmark == folder.resolve().name for problem in problems):
            raise UserError(f"{folder}: a second benchmark named {folder.resolve().name!r}: rename its folder")
        problems += read_benchmark(folder.resolve())
    return _build_index(problems, rules)


def _function_shingles(parsed: "Parsed") -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """A file's shingles, and each function's first byte, end, first shingle, and end of its shingles."""
    from mindgeex.common import grammars

    functions = grammars.functions(parsed)
    if not functions:
        return np.empty(0, np.uint64), []
    code = bytearray(parsed.source)
    for start, end in grammars.comments(parsed):
        code[start:end] = b" " * (end - start)
    shingles, starts = renamed_shingles(bytes(code))
    bounds = np.searchsorted(starts, [(function.start_byte, function.end_byte) for function in functions])
    ranges = []
    for function, (first, after) in zip(functions, bounds.tolist(), strict=True):
        ranges.append((function.start_byte, function.end_byte, first, max(first, after - SHINGLE_TOKENS + 1)))
    return shingles, ranges


@functools.lru_cache(maxsize=1 << 12)
def _functions_of(text: str, language: str) -> tuple[np.ndarray, ...] | None:
    """The shingle sets of a text's functions, if it has any and the language's grammar reads it without error."""
    from mindgeex.common import grammars

    if "(" not in text:  # prose, which takes a parser longest
        return None
    try:
        parsed = grammars.parse(text, language)
    except grammars.ParseTimeout:
        return None
    if parsed is None or parsed.tree.root_node.has_error:
        return None
    shingles, ranges = _function_shingles(parsed)
    return tuple(np.unique(shingles[first:after]) for _, _, first, after in ranges) or None


def _solutions(problem: Problem) -> list[np.ndarray]:
    """The shingle sets of a problem's functions that are long enough to tell."""
    found: dict[bytes, np.ndarray] = {}
    for texts in whole_functions(problem.fields):
        readings = (_functions_of(text, language) for text in texts for language in problem.languages)
        for shingles in next(filter(None, readings), ()):
            if len(shingles) >= MIN_FUNCTION_SHINGLES:
                found[shingles.tobytes()] = shingles
    return list(found.values())


# The index


def _sieve(hashes: np.ndarray) -> np.ndarray:
    """Bits that say at once of most values that they are not among the hashes."""
    sieve = np.zeros(1 << max(12, (len(hashes) * 16).bit_length()), bool)
    sieve[hashes & np.uint64(len(sieve) - 1)] = True
    return sieve


def _evidence(raw: bytes) -> str:
    return " ".join(raw[: 8 * EVIDENCE_CHARS].decode("utf-8", "replace").split())[:EVIDENCE_CHARS]


@dataclass(frozen=True, eq=False)
class Index:
    """What documents are compared with; pickled once for each worker."""

    rules: DecontaminationRules
    benchmarks: dict[str, int]
    """Name -> number of problems."""
    problems: tuple[tuple[str, str], ...]
    """Benchmark and name of each problem."""
    spans: np.ndarray
    """Hashes in ascending order, one for each benchmark that has the span."""
    span_problems: np.ndarray
    """The first problem of the benchmark that has it."""
    functions: tuple[np.ndarray, ...]
    """Shingle set of each function, ascending."""
    function_problems: tuple[int, ...]
    prefixes: np.ndarray
    """Hashes in ascending order: of each function its rarest shingles, one of which a near duplicate must have."""
    prefix_functions: np.ndarray

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides what is a hit."""
        digest = hashlib.sha256(repr((self.rules.span_tokens, self.rules.function_similarity, self.problems)).encode())
        arrays = (self.spans, self.span_problems, *self.functions, self.prefixes, self.prefix_functions)
        for array in arrays:
            digest.update(array.tobytes())
        return digest.hexdigest()

    def hits(self, text: str, parsed: "Parsed | None") -> list[Hit]:
        """One hit for each problem and kind, in the problems' order; none: the document is clean."""
        return [*self._span_hits(text), *self._function_hits(parsed)]

    @functools.cached_property
    def _span_sieve(self) -> np.ndarray:
        return _sieve(self.spans)

    @functools.cached_property
    def _prefix_sieve(self) -> np.ndarray:
        return _sieve(self.prefixes)

    def _span_hits(self, text: str) -> list[Hit]:
        raw = text.encode("utf-8", "surrogatepass")
        hashes, starts, ends = tokens(raw)
        spans = windows(hashes, self.rules.span_tokens)
        places = _places(spans, self.spans, self._span_sieve)
        runs: dict[int, tuple[int, int]] = {}  # of each problem the first run of spans: first place, last place
        for place, row in places:
            problem = int(self.span_problems[row])
            first, last = runs.get(problem, (place, place))
            if place <= last + 1:
                runs[problem] = (first, place)
        size = self.rules.span_tokens
        return [
            Hit(*self.problems[problem], "span", _evidence(raw[starts[first] : ends[last + size - 1]]))
            for problem, (first, last) in sorted(runs.items())
        ]

    def _function_hits(self, parsed: "Parsed | None") -> list[Hit]:
        if parsed is None or not self.functions:
            return []
        shingles, ranges = _function_shingles(parsed)
        places = _places(shingles, self.prefixes, self._prefix_sieve)
        found: dict[int, Hit] = {}
        for start, end, first, after in ranges if places else ():
            inside = places[bisect_left(places, (first, 0)) : bisect_left(places, (after, 0))]
            mine = np.unique(shingles[first:after]) if inside else shingles[:0]
            for candidate in sorted({int(self.prefix_functions[row]) for _, row in inside}):
                problem = self.function_problems[candidate]
                if problem not in found and self._similar(mine, self.functions[candidate]):
                    evidence = _evidence(parsed.source[start:end])
                    found[problem] = Hit(*self.problems[problem], "function", evidence)
        return [found[problem] for problem in sorted(found)]

    def _similar(self, one: np.ndarray, other: np.ndarray) -> bool:
        small, large = sorted((len(one), len(other)))
        if small < self.rules.function_similarity * large:
            return False
        common = int(is_in(one, other).sum())
        return common >= self.rules.function_similarity * (small + large - common)


def _places(values: np.ndarray, ordered: np.ndarray, sieve: np.ndarray) -> list[tuple[int, int]]:
    """Every (place of a value, row of `ordered`) where both are equal."""
    maybe = np.flatnonzero(sieve[values & np.uint64(len(sieve) - 1)])
    left = np.searchsorted(ordered, values[maybe], "left").tolist()
    right = np.searchsorted(ordered, values[maybe], "right").tolist()
    return [(place, row) for place, a, b in zip(maybe.tolist(), left, right, strict=True) for row in range(a, b)]


def _build_index(problems: list[Problem], rules: DecontaminationRules) -> Index:
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.benchmark] = counts.get(problem.benchmark, 0) + 1
    spans, span_problems = _span_table(problems, rules.span_tokens)
    functions, owners = _function_table(problems)
    prefixes, prefix_functions = _prefix_table(functions, rules.function_similarity)
    return Index(
        rules, counts, _names(problems), spans, span_problems, functions, owners, prefixes, prefix_functions,
    )  # fmt: skip


def _names(problems: list[Problem]) -> tuple[tuple[str, str], ...]:
    files: dict[tuple[str, str], set[str]] = {}
    for problem in problems:
        files.setdefault((problem.benchmark, problem.name), set()).add(problem.file)
    names = []
    for problem in problems:
        several = len(files[problem.benchmark, problem.name]) > 1
        names.append((problem.benchmark, f"{problem.file}:{problem.name}" if several else problem.name))
    return tuple(names)


def _span_table(problems: list[Problem], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Every benchmark's spans that are neither plain nor frame, ascending, and the first problem that has each."""
    spans, owners = [np.empty(0, np.uint64)], [np.empty(0, np.int32)]
    for name in dict.fromkeys(problem.benchmark for problem in problems):
        numbers = [number for number, problem in enumerate(problems) if problem.benchmark == name]
        sets = [_problem_spans(problems[number], size) for number in numbers]
        files: dict[str, dict[str, list[np.ndarray]]] = {}
        for number, some in zip(numbers, sets, strict=True):
            files.setdefault(problems[number].file, {}).setdefault(problems[number].name, []).append(some)
        found = np.concatenate(sets)
        owner = np.repeat(np.array(numbers, np.int32), [len(some) for some in sets])
        own = ~np.isin(found, np.concatenate([_frame(rows) for rows in files.values()]))
        unique, first = np.unique(found[own], return_index=True)
        spans.append(unique)
        owners.append(owner[own][first])
    order = np.argsort(np.concatenate(spans), kind="stable")
    return np.concatenate(spans)[order], np.concatenate(owners)[order]


def _problem_spans(problem: Problem, size: int) -> np.ndarray:
    texts = dict.fromkeys([*problem.fields.values(), *itertools.chain(*whole_functions(problem.fields))])
    return np.unique(np.concatenate([np.empty(0, np.uint64), *(content_spans(text, size) for text in texts)]))


def _frame(rows: dict[str, list[np.ndarray]]) -> np.ndarray:
    """The spans that several problems of a file have, given the spans of each problem's rows."""
    spans, counts = np.unique(
        np.concatenate([np.unique(np.concatenate(sets)) for sets in rows.values()]), return_counts=True
    )
    return spans[counts >= FRAME_PROBLEMS]


def _function_table(problems: list[Problem]) -> tuple[tuple[np.ndarray, ...], tuple[int, ...]]:
    """The different functions of each benchmark, and the first problem that has each."""
    found: dict[tuple[str, bytes], tuple[np.ndarray, int]] = {}
    for number, problem in enumerate(problems):
        for shingles in _solutions(problem):
            found.setdefault((problem.benchmark, shingles.tobytes()), (shingles, number))
    return tuple(shingles for shingles, _ in found.values()), tuple(number for _, number in found.values())


def _prefix_table(functions: tuple[np.ndarray, ...], similarity: float) -> tuple[np.ndarray, np.ndarray]:
    """Of each function so many of its rarest shingles that a near duplicate must have one of them.

    A set of n shingles shares at least `similarity` n with a near duplicate, so of any n - ceil(similarity n) + 1 one.
    """
    if not functions:
        return np.empty(0, np.uint64), np.empty(0, np.int32)
    known, counts = np.unique(np.concatenate(functions), return_counts=True)
    chosen = []
    for function in functions:
        number = len(function) - int(np.ceil(similarity * len(function) - 1e-9)) + 1
        chosen.append(function[np.argsort(counts[np.searchsorted(known, function)], kind="stable")[:number]])
    prefixes = np.concatenate(chosen)
    owners = np.repeat(np.arange(len(functions), dtype=np.int32), [len(some) for some in chosen])
    order = np.argsort(prefixes, kind="stable")
    return prefixes[order], owners[order]
