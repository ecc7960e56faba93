"""Rows that survive kill -9: one JSON object a line, appended as soon as it is known.

Covers: a process killed in the middle of a line (the torn line is cut off when the file is opened again), a disk that
fills in the middle of a line (it is cut off at once), two runs that write to one file at once (the second is refused).
Does not cover: a power failure: rows are handed to the operating system, not forced to the disk one by one.
"""

import fcntl
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.common.files import disk_errors

Row = dict[str, Any]


def passed(row: Row) -> bool:
    """Whether a row is a pass."""
    return bool(row["verdict"] == "passed")


class Rows:
    """An append-only file of JSON objects. Use as a context manager; `append` may be called from several threads."""

    def __init__(self, path: Path, keys: Iterable[str] = ()):
        """Opens the file, or makes it, and reads the whole rows that are there.

        Args:
            path: of the file.
            keys: what every row must have.

        Raises:
            UserError: another process is writing to it, a line in it is damaged, or it cannot be written.
        """
        self.path, self.keys = path, frozenset(keys)
        self._lock = threading.Lock()
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab+", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UserError(f"{path}: another run is writing to it: wait, or choose another folder") from None
        self.rows: list[Row] = []
        """What was there when it was opened, and what was appended since."""
        try:
            self._read()
        except UserError:
            self._file.close()
            raise

    def append(self, row: Row) -> None:
        """Adds a row; it is kept even if this process is killed right after."""
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        with self._lock, disk_errors(self.path):
            end = os.fstat(self._file.fileno()).st_size
            rest = memoryview(line)
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                self._file.truncate(end)
                raise
            self.rows.append(row)

    def _read(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            self._file.truncate(whole)
        self.rows += _parsed(content[:whole], self.path, self.keys)

    def __enter__(self) -> "Rows":
        """Nothing: opened already."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the file and lets others write to it."""
        self._file.close()


def read_rows(path: Path, keys: Iterable[str] = ()) -> list[Row]:
    """The whole rows of a file, which may be growing; none if there is no such file.

    Raises:
        UserError: it cannot be read, or a line in it is damaged.
    """
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return _parsed(content[: content.rfind(b"\n") + 1], path, frozenset(keys))


def _parsed(content: bytes, path: Path, keys: frozenset[str]) -> list[Row]:
    rows = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not row.keys() >= keys:
            raise UserError(f"{path}, line {number}: damaged: delete the file to start over")
        rows.append(row)
    return rows
