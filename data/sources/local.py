"""`local:PATH`: the source files below a folder of this machine.

A repository is the nearest folder that holds a `.git`; below a root without one, such as site-packages, it is the
root's first folder; files that lie directly in the root belong to a repository of the root's own name.

Covers: files in sorted order, symbolic links to files, names and texts that are not UTF-8, folders we may not read.
Does not cover: symbolic links to folders (never followed, so no loops), tarballs, git history, licences.
"""

import os
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.data.document import Document, Drop
from mindgeex.data.languages import detect_language, possible_languages

SKIPPED_FOLDERS = frozenset(
    ("__pycache__", ".git", ".hg", ".svn", "node_modules", ".tox", ".nox", ".venv", ".mypy_cache", ".pytest_cache",
     ".ruff_cache", ".eggs", "site-packages", "dist-packages")
)  # fmt: skip
"""Not entered; the last two are somebody else's repositories: give them as a source of their own."""

PART_BYTES = 1 << 20
PART_FILES = 512
"""A part is closed when it reaches either: small enough to balance workers, large enough to be worth a message."""

READ_LIMIT_BYTES = 16 << 20
"""A larger file is dropped as `too_large` without being read into memory, whatever the size rule says."""


@dataclass(frozen=True)
class LocalPart:
    """A run of files in sorted order."""

    files: tuple[tuple[str, str], ...]
    """(repository, path below the root), the path as the operating system gives it."""

    num_bytes: int
    unreadable: bool = False
    """True for a single folder that could not be listed."""


class LocalSource:
    """A folder. Made by `open_source`."""

    def __init__(self, argument: str, languages: frozenset[str]):
        self.languages = languages
        try:
            self.root = Path(argument).expanduser().resolve()
            with os.scandir(self.root):
                pass
        except FileNotFoundError:
            raise UserError(f"--source local:{argument}: no such folder") from None
        except OSError as error:
            raise UserError(f"--source local:{argument}: cannot be read as a folder: {error.strerror}") from None
        self.name = printable(self.root.name)

    def parts(self) -> Iterator[LocalPart]:
        """The files with a wanted extension, depth first, names sorted, in runs of about PART_BYTES."""
        files: list[tuple[str, str]] = []
        size = 0
        for repo, path, num_bytes in self._walk("", self.name):
            if num_bytes is None:
                yield LocalPart(((repo, path),), 0, unreadable=True)
                continue
            files.append((repo, path))
            size += num_bytes
            if size >= PART_BYTES or len(files) >= PART_FILES:
                yield LocalPart(tuple(files), size)
                files, size = [], 0
        if files:
            yield LocalPart(tuple(files), size)

    def read(self, part: LocalPart, wanted: Callable[[str, str], bool]) -> Iterator[Document | Drop]:
        """Each file as a Document, or a Drop: not_sampled, unreadable, too_large, not_utf8, other_language."""
        for repo, raw_path in part.files:
            path = printable(raw_path)
            if part.unreadable:
                yield Drop("unreadable", repo, path)
            elif not wanted(repo, path):
                yield Drop("not_sampled", repo, path)
            else:
                yield self._read_file(repo, path, self.root / raw_path)

    def _read_file(self, repo: str, path: str, file: Path) -> Document | Drop:
        try:
            if file.stat().st_size > READ_LIMIT_BYTES:
                return Drop("too_large", repo, path)
            text = file.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            return Drop("not_utf8", repo, path)
        except OSError:
            return Drop("unreadable", repo, path)
        if "\0" in text:
            return Drop("not_utf8", repo, path)
        language = detect_language(path, text)
        return (
            Document(text, language, repo, path) if language in self.languages else Drop("other_language", repo, path)
        )

    def _walk(self, below: str, repo: str) -> Iterator[tuple[str, str, int | None]]:
        """(repository, path below the root, bytes); bytes is None for a folder that cannot be listed."""
        try:
            entries = sorted(os.scandir(self.root / below), key=lambda entry: entry.name)
        except OSError:
            yield repo, below, None
            return
        if below and any(entry.name == ".git" for entry in entries):
            repo = f"{self.name}/{printable(below)}"
        plain_root = not below and not any(entry.name == ".git" for entry in entries)
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in SKIPPED_FOLDERS:
                    yield from self._walk(path, f"{repo}/{printable(entry.name)}" if plain_root else repo)
            elif self.languages.intersection(possible_languages(entry.name)):
                try:
                    if entry.is_file():
                        yield repo, path, entry.stat().st_size
                except OSError:  # a link in a circle or into a folder that is closed to us: reading it will say so
                    yield repo, path, 0


def default_sources() -> tuple[str, ...]:
    """What every machine that runs this has: Python's standard library, its site-packages and its C headers."""
    places = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib", "include")]
    found = dict.fromkeys(str(Path(place).resolve()) for place in places if place and Path(place).is_dir())
    return tuple(f"local:{place}" for place in found)


def printable(path: str) -> str:
    """The path as valid Unicode: bytes of a file name that are not UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")
