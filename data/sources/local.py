"""`local:PATH`: the source files below a folder of this machine.

A repository is the nearest folder that holds a `.git`; below a root without one, such as site-packages, it is the
root's first folder; files that lie directly in the root belong to a repository of the root's own name.

Its licence is that of the files at its top (licences.py), or, for a first folder that has none, the root's.

Covers: files in sorted order, symbolic links to files, names and texts that are not UTF-8, folders we may not read.
Does not cover: symbolic links to folders (never followed, so no loops), git history, licences further down.
"""

import contextlib
import os
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.common.files import PARTIAL
from mindgeex.data.document import Document, Drop
from mindgeex.data.languages import detect_language, possible_languages
from mindgeex.data.licences import LICENCE_BYTES, is_licence_file, repository_licence
from mindgeex.data.sources import RepositoryRules
from mindgeex.data.sources.text import READ_LIMIT_BYTES, decode, printable

SKIPPED_FOLDERS = frozenset(
    ("__pycache__", ".git", ".hg", ".svn", "node_modules", ".tox", ".nox", ".venv", ".mypy_cache", ".pytest_cache",
     ".ruff_cache", ".eggs", "site-packages", "dist-packages")
)  # fmt: skip
"""Not entered; the last two are somebody else's repositories: give them as a source of their own."""

CORPUS = frozenset(("manifest.json", "documents", "shards", "tokenizer"))
"""A folder with these is a corpus of ours, and not entered either: its report would be a source of the next build."""

PART_BYTES = 1 << 20
PART_FILES = 512
"""A part is closed when it reaches either: small enough to balance workers, large enough to be worth a message."""


@dataclass(frozen=True)
class LocalPart:
    """A run of files in sorted order."""

    files: tuple[tuple[str, str], ...]
    """(repository, path below the root), the path as the operating system gives it."""

    num_bytes: int
    licences: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(repository, the files below the root that state its licence), of repositories that have any."""

    unreadable: bool = False
    """True for a single folder that could not be listed."""


@dataclass(frozen=True)
class _Found:
    repo: str
    path: str
    num_bytes: int | None
    """None for a folder that cannot be listed."""

    licences: tuple[str, ...] = ()


class LocalSource:
    """A folder. Made by `open_source`."""

    def __init__(self, argument: str, languages: frozenset[str], repositories: RepositoryRules | None = None):
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
        yield from self._runs(self._walk("", self.name, (), top=True, divided=True))

    def parts_of(self, repo: str) -> Iterator[LocalPart]:
        """The same for a folder that is one repository, of this name."""
        yield from self._runs(self._walk("", repo, (), top=True, divided=False))

    def _runs(self, found: "Iterator[_Found]") -> Iterator[LocalPart]:
        files: list[tuple[str, str]] = []
        licences: dict[str, tuple[str, ...]] = {}
        size = 0
        for item in found:
            if item.num_bytes is None:
                yield LocalPart(((item.repo, item.path),), 0, unreadable=True)
                continue
            files.append((item.repo, item.path))
            if item.licences:
                licences[item.repo] = item.licences
            size += item.num_bytes
            if size >= PART_BYTES or len(files) >= PART_FILES:
                yield LocalPart(tuple(files), size, tuple(licences.items()))
                files, licences, size = [], {}, 0
        if files:
            yield LocalPart(tuple(files), size, tuple(licences.items()))

    def read(
        self,
        part: LocalPart,
        wanted: Callable[[str, str], bool],
        licence: str | None = None,
        stars: int | None = None,
    ) -> Iterator[Document | Drop]:
        """Each file as a Document, or a Drop: not_sampled, unreadable, too_large, not_utf8, other_language.

        Args:
            part: one of `parts()`.
            wanted: as for every source.
            licence: the licence of all of them, where it is known; else the part's licence files are asked.
            stars: of their repository, where they are known.
        """
        licences: dict[str, str | None] = {}
        files = dict(part.licences)
        for repo, raw_path in part.files:
            path = printable(raw_path)
            if part.unreadable:
                yield Drop("unreadable", repo, path)
                continue
            if not wanted(repo, path):
                yield Drop("not_sampled", repo, path)
                continue
            if licence is None and repo not in licences:
                licences[repo] = self._licence(files.get(repo, ()))
            yield self._read_file(repo, path, self.root / raw_path, licence or licences[repo], stars)

    def _licence(self, files: tuple[str, ...]) -> str | None:
        texts = {}
        for path in files:
            with contextlib.suppress(OSError), (self.root / path).open("rb") as file:
                texts[path.rpartition("/")[2]] = file.read(LICENCE_BYTES).decode("utf-8", "replace")
        return repository_licence(texts)

    def _read_file(self, repo: str, path: str, file: Path, licence: str | None, stars: int | None) -> Document | Drop:
        try:
            if file.stat().st_size > READ_LIMIT_BYTES:
                return Drop("too_large", repo, path)
            text = decode(file.read_bytes())
        except OSError:
            return Drop("unreadable", repo, path)
        if text is None:
            return Drop("not_utf8", repo, path)
        language = detect_language(path, text)
        if language not in self.languages:
            return Drop("other_language", repo, path)
        return Document(text, language, repo, path, licence, stars)

    def _walk(self, below: str, repo: str, licences: tuple[str, ...], top: bool, divided: bool) -> "Iterator[_Found]":
        """The files below a folder.

        Args:
            below: its path below the root.
            repo: what it belongs to, unless it is a checkout itself.
            licences: files that state the licence of what it lies in.
            top: whether it is the repository's first folder.
            divided: whether folders further down may be repositories of their own.
        """
        try:
            entries = sorted(os.scandir(self.root / below), key=lambda entry: entry.name)
        except OSError:
            yield _Found(repo, below, None)
            return
        names = {entry.name for entry in entries}
        if below and (below.endswith(PARTIAL) or names >= CORPUS):
            return
        is_checkout = ".git" in names
        if below and divided and is_checkout:
            repo = f"{self.name}/{printable(below)}"
            licences, top = (), True
        if top:
            licences = self._licence_files(below, entries) or licences
        plain_root = divided and not below and not is_checkout
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in SKIPPED_FOLDERS:
                    inner = f"{repo}/{printable(entry.name)}" if plain_root else repo
                    yield from self._walk(path, inner, licences, plain_root, divided)
            elif self.languages.intersection(possible_languages(entry.name)):
                try:
                    if entry.is_file():
                        yield _Found(repo, path, entry.stat().st_size, licences)
                except OSError:  # a link in a circle or into a folder that is closed to us: reading it will say so
                    yield _Found(repo, path, 0, licences)

    @staticmethod
    def _licence_files(below: str, entries: Iterable[os.DirEntry[str]]) -> tuple[str, ...]:
        names = (entry.name for entry in entries if is_licence_file(entry.name) and entry.is_file())
        return tuple(f"{below}/{name}" if below else name for name in names)


def default_sources() -> tuple[str, ...]:
    """What every machine that runs this has: Python's standard library, its site-packages and its C headers."""
    places = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib", "include")]
    found = dict.fromkeys(str(Path(place).resolve()) for place in places if place and Path(place).is_dir())
    return tuple(f"local:{place}" for place in found)
