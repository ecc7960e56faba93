"""Files that are whole or absent: write beside, flush to disk, rename into place.

Covers: a crash or kill -9 at any moment, a full disk, a directory we may not write to.
Does not cover: two writers of the same path that do not ask for `sole_writer`, file systems without atomic rename.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError

PARTIAL = ".partial"
"""Suffix of what is still being written; anything that ends so may be deleted."""

LOCK = ".lock"
"""What `sole_writer` puts into a folder."""

REFUSALS = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
    errno.EBUSY, errno.EXDEV, errno.EFBIG,  # a mount point itself; a file larger than the file system or the limit has
)  # fmt: skip
"""What another path would put right."""


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's refusals to write into a UserError that names the path and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = _free_bytes(path)
            raise UserError(
                f"{path}: the disk is full ({free / 1e6:.0f} MB free): free some space or choose another folder; "
                "nothing incomplete was published"
            ) from error
        if error.errno in REFUSALS:
            raise UserError(f"{path}: cannot be written ({error.strerror}): choose another folder") from error
        raise


def target(path: Path) -> Path:
    """A path that a rename can replace: a symbolic link stays and what it points to is replaced; `.` is refused."""
    if path.name in ("", ".."):
        raise UserError(f"{path}: cannot be written as a whole: give it a name, such as {path / 'out'}")
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; it takes the place of `path` only if the block ends without error.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    path = target(path)
    partial = path.with_name(path.name + PARTIAL)
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            _flush(partial)
            os.replace(partial, path)
            _flush(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder; it is renamed to `path` (replacing what was there) only if the block ends well.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    path = target(path)
    partial = path.with_name(path.name + PARTIAL)
    try:
        with disk_errors(path):
            _put_back(_replaced(path), path)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            publish_folder(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def publish_folder(partial: Path, path: Path) -> None:
    """Flushes a finished folder to disk and renames it to `path`, replacing what was there.

    Killed between the two renames that this takes, it leaves what was there under another name, and the next
    `publish_folder` or `atomic_folder` of the same path puts it back first.
    """
    path = target(path)
    replaced = _replaced(path)
    try:
        _put_back(replaced, path)
        shutil.rmtree(replaced, ignore_errors=True)
        for entry in (*partial.rglob("*"), partial):
            if entry.is_file() or entry.is_dir():
                _flush(entry)
        if path.is_dir():  # moved away first: a folder that is being deleted would look whole
            os.replace(path, replaced)
        os.replace(partial, path)
        _flush(path.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        _put_back(replaced, path)
        raise


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Locks a folder (made if absent) for the block. The lock ends with the process, however it ends.

    A folder that is renamed inside the block stays locked; one made in its old place afterwards is another.

    Raises:
        UserError: another process holds it, or the folder cannot be written.
    """
    path = folder / LOCK
    while True:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            file = path.open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{folder}: another process is writing there: wait for it, or choose another folder"
                ) from None
            if path.exists() and os.path.samefile(path, file.fileno()):  # else the folder was renamed before we had it
                yield
                return


def write_json(path: Path, value: Any) -> None:
    """Writes indented UTF-8 JSON, atomically."""
    with atomic_file(path) as partial:
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        # Half a character, as in a file name that is not UTF-8, becomes the escape that JSON has for it.
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        UserError: the file is missing, or is not JSON (with line and column).
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of lists in each other
        raise UserError(f"{path}: not JSON that can be read: {error}") from None


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _replaced(path: Path) -> Path:
    return path.with_name(path.name + ".replaced" + PARTIAL)


def _put_back(replaced: Path, path: Path) -> None:
    """Undoes the first of the two renames that replace a folder, if the second one never came."""
    if os.path.isdir(replaced) and not os.path.lexists(path):
        os.replace(replaced, path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free_bytes(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
