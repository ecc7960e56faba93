"""Translation pairs in XLCoST's layout: a folder for each pair of languages, parallel files, a program a line.

    pair_data_tok_full/C++-Java/train-C++-Java-tok.cpp    line i: a program in C++
                                train-C++-Java-tok.java   line i: the same in Java
                                train-C++-map.jsonl       line i: the number of the problem (may be missing)

Both directions of a pair become records. Source: reddy-lab-code-research/XLCoST, metadata/translation/README.md.

Covers: the training files of program level (pair_data_tok_full).
Does not cover: snippets (pair_data_tok_1), whose lines are parts of programs; the val and test files, which stay for
evaluation.
"""

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.data.instructions.detokenise import detokenise
from mindgeex.data.instructions.records import Record, Translation

SUFFIXES = {
    "C": ".c", "C++": ".cpp", "C#": ".cs", "Java": ".java", "Javascript": ".js", "PHP": ".php", "Python": ".py",
}  # fmt: skip
"""Language as XLCoST calls it -> suffix of its files."""


def is_xlcost(path: Path) -> bool:
    """Whether a folder is one of a pair of languages, or holds such folders."""
    return path.is_dir() and bool(_pairs(path))


def read_pairs(path: Path) -> Iterator[Record | None]:
    """Both directions of all pairs, in the order of names; None for a program that lost what it needs to be one.

    Python programs in which the block marks are lost do not parse; nothing is learnt from them.

    Raises:
        UserError: a file is missing, not UTF-8, or has another number of lines than its counterpart.
    """
    for folder, languages in _pairs(path):
        files = [folder / f"train-{folder.name}-tok{SUFFIXES[language]}" for language in languages]
        first, second = (_lines(file) for file in files)
        if len(first) != len(second):
            raise UserError(
                f"{files[0]}: {len(first)} lines, but {files[1].name} has {len(second)}: line i of both must be the "
                "same program; unpack the data set again"
            )
        keys = _keys(folder, languages, len(first))
        for at, lines in enumerate(zip(first, second, strict=True)):
            programs = [detokenise(line, language) for line, language in zip(lines, languages, strict=True)]
            key = f"xlcost {keys[at]}" if keys else programs[0]
            for one, other in ((0, 1), (1, 0)):
                if all(_is_program(*pair) for pair in zip(programs, languages, strict=True)):
                    translation = Translation(languages[one], languages[other], programs[one], programs[other])
                    yield Record(translation, key, f"{files[0]}, line {at + 1}")
                else:
                    yield None


def _pairs(path: Path) -> list[tuple[Path, tuple[str, str]]]:
    folders = [path, *sorted(folder for folder in path.iterdir() if folder.is_dir())]
    found = []
    for folder in folders:
        names = folder.resolve().name.split("-")
        if len(names) == 2 and all(name in SUFFIXES for name in names):
            found.append((folder, (names[0], names[1])))
    return found


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise UserError(f"{file}: no such file: XLCoST has one for each of the two languages; unpack it again")
    try:
        return file.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 (byte {error.start}): unpack the data set again") from None


def _keys(folder: Path, languages: tuple[str, str], count: int) -> list[str]:
    """The problem of each line, where a map says it for all of them."""
    for language in languages:
        file = folder / f"train-{language}-map.jsonl"
        if file.is_file():
            lines = _lines(file)
            return [line.strip() for line in lines] if len(lines) == count else []
    return []


def _is_program(text: str, language: str) -> bool:
    if not text.strip():
        return False
    if language != "Python":
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
