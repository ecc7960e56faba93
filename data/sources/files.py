"""The files behind a source's argument: a path, a folder, a glob, or a URL of any of these that fsspec can open.

Covers: sorted lists with sizes, names below the place alone, so that a list is the same on every machine.
Does not cover: links to folders (never followed); URLs with a glob in their query.
"""

import functools
import glob
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError

REMOTE_BLOCK_BYTES = 1 << 20


class Missing(UserError):
    """There is no such file or folder."""


@dataclass(frozen=True)
class File:
    """One file of a place; also the Part of the sources that read a file as a whole."""

    name: str
    """Its path below the place, with forward slashes, as the operating system gives it."""

    num_bytes: int
    """0 where a server does not tell."""


class Files:
    """A place with files; holds names alone, so it travels to any worker."""

    def __init__(self, kind: str, argument: str, suffixes: tuple[str, ...]):
        """Finds the place.

        Args:
            kind: the word before the colon, for messages.
            argument: what stands behind it.
            suffixes: names a folder is searched for, in lower case; a file or a glob is taken whatever its suffix.

        Raises:
            UserError: there is no such place, or no way to open its protocol.
        """
        self.spec, self.suffixes = f"{kind}:{argument}", suffixes
        self.remote = "://" in argument
        self.place = argument if self.remote else os.path.abspath(os.path.expanduser(argument))
        if self.remote:
            self._file_system()
        self.glob = "*" in argument if self.remote else glob.has_magic(argument) and not os.path.exists(self.place)
        if not self.remote and not self.glob and not os.path.exists(self.place):
            raise Missing(f"--source {self.spec}: no such file or folder")

    def list(self) -> Iterator[File]:
        """The files, sorted by name.

        Raises:
            UserError: the place cannot be listed, or holds none.
        """
        found = sorted(self._remote() if self.remote else self._local())
        if not found:
            what = "matches no file" if self.glob else f"holds no file named {' '.join('*' + s for s in self.suffixes)}"
            raise Missing(f"--source {self.spec}: {what}")
        return (File(name, num_bytes) for name, num_bytes in found)

    def open(self, name: str) -> io.BufferedReader:
        """One of the listed files, from its beginning.

        Raises:
            OSError: a local file is not there, or closed to us.
            UserError: the other end of a URL does not answer as it should.
        """
        if not self.remote:
            return open(os.path.join(self.root, name), "rb")  # noqa: SIM115 (the caller closes it)
        file_system, _ = self._file_system()
        path = f"{self.root}/{name}"
        try:
            file = file_system.open(path, "rb", block_size=_block_bytes(file_system, path))
        except Exception as error:  # every protocol has its own
            raise UserError(f"--source {self.spec}: {name} cannot be opened: {_words(error)}") from error
        return io.BufferedReader(_Remote(file, f"--source {self.spec}: {name}"), REMOTE_BLOCK_BYTES)

    @functools.cached_property
    def root(self) -> str:
        """What names are below: the folder itself, a file's folder, or the part of a glob without a star."""
        path = self._file_system()[1] if self.remote else self.place
        if self.glob:
            plain = path[: next(at for at, letter in enumerate(path) if letter in "*?[")]
            return plain.rpartition("/")[0]
        return path.rstrip("/") if self._is_folder(path) else path.rpartition("/")[0]

    def _is_folder(self, path: str) -> bool:
        if not self.remote:
            return os.path.isdir(path)
        try:
            return not path.rpartition("/")[2].lower().partition("?")[0].endswith(self.suffixes) and bool(
                self._file_system()[0].isdir(path)
            )
        except Exception as error:
            raise UserError(f"--source {self.spec}: cannot be read: {_words(error)}") from error

    def _file_system(self) -> tuple[Any, str]:
        import fsspec

        try:
            file_system, path = fsspec.core.url_to_fs(self.place)
        except Exception as error:
            raise UserError(f"--source {self.spec}: cannot be opened: {_words(error)}") from error
        return file_system, str(path)

    def _local(self) -> Iterator[tuple[str, int]]:
        root = self.root
        if self.glob:
            paths = [path for path in glob.glob(self.place, recursive=True) if not os.path.isdir(path)]
        elif os.path.isdir(self.place):
            paths = [
                os.path.join(folder, name)
                for folder, _, names in os.walk(self.place, onerror=self._refuse)
                for name in names
                if name.lower().endswith(self.suffixes)
            ]
        else:
            paths = [self.place]
        for path in paths:
            yield Path(path).relative_to(root).as_posix(), _local_size(path)

    def _refuse(self, error: OSError) -> None:
        raise UserError(f"--source {self.spec}: {error.filename} cannot be listed: {error.strerror}")

    def _remote(self) -> Iterator[tuple[str, int]]:
        file_system, path = self._file_system()
        try:
            root = self.root
            if self.glob:
                found = file_system.glob(path, detail=True)
            elif self._is_folder(path):
                found = file_system.find(path, detail=True)
                found = {name: about for name, about in found.items() if name.lower().endswith(self.suffixes)}
            else:
                found = {path: file_system.info(path)}
            sizes = {
                name: about.get("size") or file_system.info(name).get("size") or 0
                for name, about in found.items()
                if about.get("type") != "directory"
            }
        except FileNotFoundError:
            raise Missing(f"--source {self.spec}: no such file or folder") from None
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"--source {self.spec}: cannot be listed: {_words(error)}") from error
        for name, num_bytes in sizes.items():
            yield name.removeprefix(root).lstrip("/"), int(num_bytes)


class _Remote(io.RawIOBase):
    """A file of fsspec whose failures name it: a part that cannot be fetched must stop the build, not shrink it."""

    def __init__(self, file: Any, name: str):
        self._file, self._name = file, name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._file.read(len(buffer))
        except Exception as error:
            raise UserError(f"{self._name} cannot be read: {_words(error)}: try again") from error
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._file.close()
        super().close()


def _block_bytes(file_system: Any, path: str) -> int:
    """What to ask for at a time; 0, all in one stream, of a web server that gives no pieces."""
    web = "http" in file_system.protocol
    return 0 if web and not file_system.info(path).get("partial") else REMOTE_BLOCK_BYTES


def _local_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # a broken link: reading it will say so
        return 0


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ").replace("\n", " ")[:200]
