"""Where a benchmark's rows come from: a folder, or the Hugging Face hub; JSON lines, JSON, either packed, or Parquet.

The hub is asked for nothing but the benchmark's own files, which then lie in the hub's cache; without a network, a
folder with the same files does. No benchmark's data is part of the project.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError, did_you_mean

Row = dict[str, Any]
SHIPPED = Path(__file__).parents[1] / "problems"


@dataclass
class Source:
    """A folder with files of a benchmark; remembers what was read."""

    folder: Path
    described: str
    sha256: dict[str, str] = field(default_factory=dict)
    """File name -> SHA-256 of the bytes that were read."""

    def rows(self, candidates: Sequence[str]) -> Iterator[tuple[str, Row]]:
        """`file, line n` and the row, from the first file there is of some patterns.

        Raises:
            UserError: there is none, it cannot be read, or it holds something else than objects.
        """
        path = self.find(candidates)
        content = _content(path)
        self.sha256[path.relative_to(self.folder).as_posix()] = hashlib.sha256(content).hexdigest()
        found = False
        for number, row in _parsed(path, content):
            found = True
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number}: expected an object with the benchmark's keys")
            yield f"{path}, line {number}", row
        if not found:
            raise UserError(f"{path}: holds no problem")

    def find(self, candidates: Sequence[str]) -> Path:
        """The first file there is of some glob patterns."""
        for pattern in candidates:
            if found := sorted(path for path in self.folder.glob(pattern) if path.is_file()):
                return found[0]
        raise UserError(f"{self.folder}: holds none of {', '.join(candidates)}")

    def lines(self, candidates: Sequence[str]) -> list[str]:
        """The lines of a text file, for benchmarks that are one."""
        path = self.find(candidates)
        content = _content(path)
        self.sha256[path.relative_to(self.folder).as_posix()] = hashlib.sha256(content).hexdigest()
        return _text(path, content).splitlines()


def open_source(data: Path | str | None, hub: str | None, patterns: Sequence[str], shipped: bool = False) -> Source:
    """Where to read a benchmark from.

    Args:
        data: a folder, `hub` or `hub:OWNER/NAME`; None for the problems that ship with the project.
        hub: OWNER/NAME of the published data set; None if it is on no hub.
        patterns: which of its files are wanted.
        shipped: whether the project has problems of its own in this format.

    Raises:
        UserError: there is no such folder or data set, or nothing was chosen and nothing ships.
    """
    if data is None:
        if shipped:
            return Source(SHIPPED, "shipped with the project")
        where = f", or `--data hub` for {hub} on the Hugging Face hub" if hub else ""
        raise UserError(f"no data ships with the project: --data FOLDER with one of {', '.join(patterns)}{where}")
    typed = str(data)
    if typed == "hub" or typed.startswith("hub:"):
        name = typed.removeprefix("hub").removeprefix(":") or hub
        if name is None:
            raise UserError("this benchmark is on no hub: give --data FOLDER")
        return _from_hub(name, patterns)
    folder = Path(data)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: --data wants the one that holds {' or '.join(patterns[:2])}")
    return Source(folder, str(folder))


def text(row: Row, key: str, where: str) -> str:
    """The text under a key.

    Raises:
        UserError: it is missing or something else.
    """
    if not isinstance(row.get(key), str):
        raise UserError(f"{where}: key '{key}' is missing or not a text")
    return str(row[key])


def texts(row: Row, key: str, where: str) -> list[str]:
    """The list of texts under a key; numpy arrays of Parquet files are lists too."""
    value = row.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UserError(f"{where}: key '{key}' is missing or not a list of texts")
    return value


def choose(typed: Sequence[str], known: Sequence[str], what: str = "language") -> list[str]:
    """The chosen ones, each once, in the order typed; `js` is javascript, `all` is all.

    Raises:
        UserError: one is unknown, with a suggestion.
    """
    chosen: list[str] = []
    for word in typed:
        name = "-".join("javascript" if part == "js" else part for part in word.split("-"))
        if word != "all" and name not in known:
            raise UserError(f"unknown {what} '{word}'{did_you_mean(name, known)}")
        chosen += known if word == "all" else [name]
    if not chosen:
        raise UserError(f"no {what} chosen; known: {', '.join(known)}")
    return list(dict.fromkeys(chosen))


def _from_hub(name: str, patterns: Sequence[str]) -> Source:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError("the Hugging Face hub needs its package: pip install huggingface_hub") from None
    try:
        folder = Path(snapshot_download(name, repo_type="dataset", allow_patterns=list(patterns)))
    except (OSError, ValueError) as error:  # what the package's errors are kinds of
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name} cannot be had from the Hugging Face hub: {first}: use --data FOLDER") from None
    return Source(folder, f"hub:{name}@{folder.name}")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _text(path: Path, content: bytes) -> str:
    try:
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _parsed(path: Path, content: bytes) -> Iterator[tuple[int, object]]:
    if path.suffix == ".parquet":
        yield from enumerate(_parquet(path), start=1)
        return
    whole = _text(path, content)
    if path.name.removesuffix(".gz").endswith(".json") and whole.lstrip().startswith("["):
        try:
            yield from enumerate(json.loads(whole), start=1)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}") from None
        return
    for number, line in enumerate(whole.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                message = f"not valid JSON: {error.msg} at column {error.colno}"
                raise UserError(f"{path}, line {number}: {message}") from None


def _parquet(path: Path) -> list[object]:
    import pyarrow
    from pyarrow import parquet

    try:
        return list(parquet.read_table(path).to_pylist())
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
