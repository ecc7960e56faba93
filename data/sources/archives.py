"""`archives:PATH`: tar and zip files as they are published: sdists, wheels, npm, crates, Debian, GitHub.

An archive is one part and belongs to the repository of its name without the version, so that the versions of a
package never come to lie on both sides of the split. It is read twice, first for its licence and for the folder that
all its files have in common, then for the files.

Covers: archives local and remote, damaged ones up to the damage. Does not cover: archives inside archives.
"""

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mindgeex.data.document import Document, Drop
from mindgeex.data.languages import detect_language, possible_languages
from mindgeex.data.licences import LICENCE_BYTES, is_licence_file, repository_licence
from mindgeex.data.sources import RepositoryRules
from mindgeex.data.sources.containers import DamagedMember, Member, members
from mindgeex.data.sources.files import File, Files
from mindgeex.data.sources.local import SKIPPED_FOLDERS
from mindgeex.data.sources.streams import Bomb, Corrupt
from mindgeex.data.sources.text import READ_LIMIT_BYTES, decode, printable

SUFFIXES = (".tar", ".zip", ".whl", ".crate", ".tgz", ".tbz2", ".txz", ".tzst", ".tar.gz",
            ".tar.bz2", ".tar.xz", ".tar.zst")  # fmt: skip
HELD_BYTES = 64 << 20
"""A smaller archive behind a URL is fetched once and held in memory."""

LICENCE_FILES = 32
"""Licence files looked at, at most."""


@dataclass(frozen=True)
class Archive:
    """What is known of an archive before it is opened."""

    open: Callable[[], io.BufferedReader]
    """Opens it at its beginning."""

    name: str
    """Its file name, for what is said about all of it."""

    num_bytes: int
    repo: str
    licence: str | None = None
    """Its licence, where that is known; else it is looked for inside."""

    stars: int | None = None


class ArchiveSource:
    """Archives in a place. Made by `open_source`."""

    def __init__(self, argument: str, languages: frozenset[str], repositories: RepositoryRules):
        self.files = Files("archives", argument, SUFFIXES)
        self.languages = languages
        self._held: tuple[str, bytes] | None = None

    def parts(self) -> Iterator[File]:
        """One part an archive, sorted by name."""
        return self.files.list()

    def read(self, part: File, wanted: Callable[[str, str], bool]) -> Iterator[Document | Drop]:
        """The archive's files, as `read_archive` gives them."""
        name = printable(part.name)
        archive = Archive(lambda: self._open(part), name, part.num_bytes, repository_name(name))
        yield from read_archive(archive, self.languages, wanted)

    def _open(self, part: File) -> io.BufferedReader:
        file = self.files.open(part.name)
        if not self.files.remote or not 0 < part.num_bytes <= HELD_BYTES:
            return file
        if self._held is None or self._held[0] != part.name:
            with file:
                self._held = (part.name, file.read())
        return io.BufferedReader(io.BytesIO(self._held[1]))

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_held": None}


def read_archive(
    archive: Archive, languages: frozenset[str], wanted: Callable[[str, str], bool]
) -> Iterator[Document | Drop]:
    """The source files of an archive, in its order.

    Files in other languages are passed over, as in a folder; whatever is odd is said: unsafe_name, not_a_file,
    encrypted, too_large, not_utf8, and, once, unreadable, corrupt_archive or decompression_bomb where reading ends.
    """
    try:
        with archive.open() as file:
            prefix, licence = _survey(file, archive.num_bytes)
        reader = _Reader(archive, prefix, archive.licence or licence, languages, wanted)
        with archive.open() as file:
            for member in members(file, archive.num_bytes):
                item = reader.read(member)
                if item is not None:
                    yield item
    except Bomb as error:
        yield Drop("decompression_bomb", archive.repo, archive.name, str(error))
    except Corrupt as error:
        yield Drop("corrupt_archive", archive.repo, archive.name, str(error))
    except OSError as error:
        yield Drop("unreadable", archive.repo, archive.name, error.strerror or str(error))


@dataclass(frozen=True)
class _Reader:
    """Makes documents of members."""

    archive: Archive
    prefix: str
    licence: str | None
    languages: frozenset[str]
    wanted: Callable[[str, str], bool]

    def read(self, member: Member) -> Document | Drop | None:
        """The member as a document, the reason why not, or None for what is passed over."""
        repo = self.archive.repo
        path = _safe_path(member.name)
        if not path:
            return Drop("unsafe_name", repo, printable(member.name)[:200])
        path = path.removeprefix(self.prefix)
        if member.problem is not None:
            return Drop(member.problem, repo, path)
        *folders, name = path.split("/")
        if not self.languages.intersection(possible_languages(name)) or not SKIPPED_FOLDERS.isdisjoint(folders):
            return None
        if not self.wanted(repo, path):
            return Drop("not_sampled", repo, path)
        if member.num_bytes > READ_LIMIT_BYTES:
            return Drop("too_large", repo, path, f"{member.num_bytes} bytes")
        try:
            text = decode(member.read())
        except DamagedMember as error:
            return Drop("corrupt_archive", repo, path, str(error))
        if text is None:
            return Drop("not_utf8", repo, path)
        language = detect_language(path, text)
        if language not in self.languages:
            return Drop("other_language", repo, path)
        return Document(text, language, repo, path, self.licence, self.archive.stars)


def _survey(file: io.BufferedReader, num_bytes: int) -> tuple[str, str | None]:
    """The folder that holds all files, with its slash (or nothing), and the licence; damage is left to the reading."""
    tops: set[str] = set()
    licences: dict[str, str] = {}
    try:
        for member in members(file, num_bytes):
            path = _safe_path(member.name)
            if not path:
                continue
            if len(tops) < 2:
                tops.add(path.partition("/")[0] + "/" if "/" in path else "")
            small = member.problem is None and member.num_bytes <= LICENCE_BYTES
            if small and len(licences) < LICENCE_FILES and path.count("/") < 4 and is_licence_file(path):
                with contextlib.suppress(DamagedMember):
                    licences[path] = member.read().decode("utf-8", "replace")
    except Corrupt:
        pass
    prefix = next(iter(tops)) if len(tops) == 1 else ""
    return prefix, repository_licence(
        {
            path.rpartition("/")[2]: text
            for path, text in sorted(licences.items())
            if _PACKAGE_FOLDER.fullmatch(path.removeprefix(prefix).rpartition("/")[0])
        }
    )


_PACKAGE_FOLDER = re.compile(r"|[^/]+\.dist-info(?:/licenses)?|[^/]+\.egg-info")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def _safe_path(name: str) -> str:
    """A member's name as a path below the archive; empty for a name that leads out of it, or to nothing."""
    if name.startswith("/") or "\0" in name or _DRIVE.match(name):
        return ""
    if "//" not in name and "./" not in name and not name.endswith(("/", "/.", "..")):
        return printable(name) if name != "." else ""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "" if ".." in parts else printable("/".join(parts))


_ENDING = re.compile(r"(?:\.(?:tar(?:\.[a-z0-9]+)?|zip|whl|crate|tgz|tbz2|txz|tzst))+$", re.IGNORECASE)
_DEBIAN = re.compile(r"([a-z0-9][a-z0-9+.-]+)_\d[^_]*")
_VERSION = re.compile(
    r"[-_]v?\d+(?:\.\d+)+(?:[-._+~][0-9A-Za-z]+|[A-Za-z]+\d*)*$"  # 2.31.0, 1.0-rc.1, 1.0b2
    r"|[-_]v?\d+(?:[-._]?(?:alpha|beta|rc|dev|post|a|b)[-._]?\d*)?$"  # 20231001, 7
    r"|-(?:main|master|head|trunk|develop|[0-9a-f]{40}|(?=[a-f]*\d)[0-9a-f]{7})$",  # branches and commits
    re.IGNORECASE,
)
_ONLY_VERSION = re.compile(r"v?\d[\d.]*(?:[-._+~][0-9a-z]+)*|main|master|head|package|source|archive|[0-9a-f]{40}")
_DASHES = re.compile(r"[-_.]+")


def repository_name(file_name: str) -> str:
    """The package an archive is a version of: `pypi/requests-2.31.0.tar.gz` -> `requests`.

    As Python's index does, names are told apart without regard to case, dots, dashes and underscores; an npm scope, in
    the name of a folder, stays. A file named by its version alone has the name of its folder.
    """
    *folders, name = file_name.partition("?")[0].split("/")
    wheel = name.lower().endswith(".whl")
    name = _ENDING.sub("", name)
    if wheel:
        name = name.split("-")[0]
    elif debian := _DEBIAN.fullmatch(name):
        name = debian[1]
    else:
        name = _VERSION.sub("", name)
    if _ONLY_VERSION.fullmatch(name.lower()):
        name = next((folder for folder in reversed(folders) if not folder.startswith(("-", "@"))), name)
    name = _DASHES.sub("-", name).strip("-").lower() or "archive"
    scope = next((folder for folder in reversed(folders) if len(folder) > 1 and folder.startswith("@")), None)
    return f"{scope}/{name}" if scope else name
