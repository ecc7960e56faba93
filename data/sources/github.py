"""`github:PATH`: repositories that were fetched before, listed in a manifest with what GitHub knows of them.

The manifest has a JSON object a line: name, stars, size (bytes), licence (SPDX, or null), and archive (a file) or path
(a folder), each relative to the manifest, an archive also a URL.

Covers: CodeGeeX's rules for whole repositories. Does not cover: fetching.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mindgeex.common.errors import UserError, did_you_mean
from mindgeex.data.document import Document, Drop
from mindgeex.data.licences import COMMON, canonical_licence
from mindgeex.data.sources import RepositoryRules
from mindgeex.data.sources.archives import Archive, read_archive
from mindgeex.data.sources.files import Files, Missing
from mindgeex.data.sources.local import LocalSource
from mindgeex.data.sources.rows import BadRow, read_rows
from mindgeex.data.sources.streams import Corrupt

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
KEYS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "stars": (int,),
    "size": (int,),
    "licence": (str, type(None)),
    "archive": (str,),
    "path": (str,),
}


@dataclass(frozen=True)
class GithubPart:
    """A repository: a line of the manifest."""

    manifest: str
    name: str
    stars: int
    num_bytes: int
    """Its size."""

    licence: str | None
    place: str
    """As the manifest gives it."""

    is_archive: bool


class GithubSource:
    """The repositories of a manifest. Made by `open_source`."""

    def __init__(self, argument: str, languages: frozenset[str], repositories: RepositoryRules):
        self.files = Files("github", argument, SUFFIXES)
        self.languages, self.repositories = languages, repositories

    def parts(self) -> Iterator[GithubPart]:
        """One part a repository, in the manifest's order.

        Raises:
            UserError: a line of the manifest is not as it should be.
        """
        for manifest in self.files.list():
            try:
                with self.files.open(manifest.name) as file:
                    for number, row in read_rows(file, ()):
                        yield _part(manifest.name, f"{manifest.name}, line {number}", row)
            except (Corrupt, OSError) as error:
                raise UserError(f"--source {self.files.spec}: {manifest.name} cannot be read: {error}") from None

    def read(self, part: GithubPart, wanted: Callable[[str, str], bool]) -> Iterator[Document | Drop]:
        """The repository's files; one Drop, few_stars or large_repository, for all of one that the rules refuse."""
        if part.stars < self.repositories.min_stars:
            yield Drop("few_stars", part.name, "", f"{part.stars} stars")
        elif part.num_bytes >= self.repositories.max_bytes:
            yield Drop("large_repository", part.name, "", f"{part.num_bytes} bytes")
        else:
            yield from self._archive(part, wanted) if part.is_archive else self._folder(part, wanted)

    def _place(self, part: GithubPart) -> str:
        if "://" in part.place or os.path.isabs(part.place):
            return part.place
        folder = f"{self.files.root}/{part.manifest}".rpartition("/")[0]
        if self.files.remote:
            return f"{self.files.place.partition('://')[0]}://{folder.partition('://')[2] or folder}/{part.place}"
        return os.path.join(folder, part.place)

    def _archive(self, part: GithubPart, wanted: Callable[[str, str], bool]) -> Iterator[Document | Drop]:
        try:
            files = Files("github", self._place(part), ())
            found = next(files.list())
        except Missing:
            yield Drop("unreadable", part.name, "", f"{part.place}: no such file")
            return
        archive = Archive(
            lambda: files.open(found.name), part.place, found.num_bytes, part.name, part.licence, part.stars
        )
        yield from read_archive(archive, self.languages, wanted)

    def _folder(self, part: GithubPart, wanted: Callable[[str, str], bool]) -> Iterator[Document | Drop]:
        try:
            source = LocalSource(self._place(part), self.languages)
        except UserError:
            yield Drop("unreadable", part.name, "", f"{part.place}: no such folder")
            return
        for files in source.parts_of(part.name):
            yield from source.read(files, wanted, part.licence, part.stars)


def _part(manifest: str, where: str, row: dict[str, Any] | BadRow) -> GithubPart:
    if isinstance(row, BadRow):
        raise UserError(f"{where}: {row}: write one JSON object a line")
    for key, value in row.items():
        if key not in KEYS:
            raise UserError(f"{where}: unknown key {key!r}{did_you_mean(key, KEYS)}")
        if type(value) not in KEYS[key]:
            kinds = " or ".join(
                {"NoneType": "null", "str": "text", "int": "a whole number"}[t.__name__] for t in KEYS[key]
            )
            raise UserError(f"{where}: key '{key}' is {json.dumps(value)[:80]}, expected {kinds}")
    for key in ("name", "stars", "size"):
        if key not in row:
            raise UserError(f"{where}: key '{key}' is missing")
        if row[key] == "" or (key != "name" and row[key] < 0):
            raise UserError(f"{where}: key '{key}' is {row[key]!r}, must not be empty or negative")
    places = [key for key in ("archive", "path") if row.get(key)]
    if len(places) != 1:
        raise UserError(f"{where}: needs exactly one of the keys 'archive' and 'path', has {len(places)}")
    licence = row.get("licence")
    known = canonical_licence(licence) if licence else None
    if licence and known is None and licence != "NOASSERTION":
        raise UserError(
            f"{where}: key 'licence' is {licence!r}, no SPDX expression{did_you_mean(licence, COMMON)}; "
            "write null if it is not known"
        )
    return GithubPart(manifest, row["name"], row["stars"], row["size"], known, row[places[0]], places[0] == "archive")
