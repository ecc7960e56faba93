"""Data sets of others, row by row: `pile:PATH`, `codeparrot:PATH` and `jsonl:PATH`.

Every row becomes a document or a Drop. A row without a repository is one of its own, named by the SHA-256 of its text,
so that its copies come to lie on one side of the split.

Covers: The Pile's set Github; CodeParrot and github-code; prose with `text` and `language`.
Does not cover: fetching them.
"""

import abc
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from mindgeex.data.document import Document, Drop
from mindgeex.data.languages import TAGS, canonical, detect_language, possible_languages, prose
from mindgeex.data.licences import canonical_licence
from mindgeex.data.sources import RepositoryRules
from mindgeex.data.sources.files import File, Files
from mindgeex.data.sources.guess import guess_language
from mindgeex.data.sources.rows import SUFFIXES, BadRow, read_rows
from mindgeex.data.sources.streams import Corrupt
from mindgeex.data.sources.text import READ_LIMIT_BYTES, printable

Wanted = Callable[[str, str], bool]


@dataclass(frozen=True)
class Fields:
    """What a row says."""

    text: str
    repo: str
    path: str = ""
    language: str | None = None
    """The language as the data set names it."""

    licence: str | None = None
    stars: int | None = None


class RowSource(abc.ABC):
    """Files of rows; a kind says which columns it reads and what they mean."""

    kind: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]

    def __init__(self, argument: str, languages: frozenset[str], repositories: RepositoryRules):
        self.files = Files(self.kind, argument, SUFFIXES)
        self.languages, self.repositories = languages, repositories

    def parts(self) -> Iterator[File]:
        """One part a file, sorted by name."""
        return self.files.list()

    def read(self, part: File, wanted: Wanted) -> Iterator[Document | Drop]:
        """Each row as a Document or a Drop; bad_row names the file and the line, corrupt_file the file."""
        name = printable(part.name)
        try:
            with self.files.open(part.name) as file:
                for number, row in read_rows(file, self.columns):
                    yield self._read_row(row, wanted, name, number)
        except Corrupt as error:
            yield Drop("corrupt_file", self.kind, name, str(error))
        except OSError as error:
            yield Drop("unreadable", self.kind, name, error.strerror or str(error))

    def _read_row(self, row: dict[str, Any] | BadRow, wanted: Wanted, name: str, number: int) -> Document | Drop:
        try:
            if isinstance(row, BadRow):
                raise row
            fields = self.fields(row)
        except BadRow as error:
            return Drop("bad_row", self.kind, name, f"line {number}: {error}")
        if isinstance(fields, Drop):
            return fields
        if not wanted(fields.repo, fields.path):
            return Drop("not_sampled", fields.repo, fields.path)
        if len(fields.text) > READ_LIMIT_BYTES:
            return Drop("too_large", fields.repo, fields.path, f"{len(fields.text)} characters")
        language = self.language(fields)
        if language is None:
            return Drop("unknown_language", fields.repo, fields.path)
        if language not in self.languages:
            return Drop("other_language", fields.repo, fields.path, language)
        return Document(fields.text, language, fields.repo, fields.path, fields.licence, fields.stars)

    @abc.abstractmethod
    def fields(self, row: dict[str, Any]) -> Fields | Drop:
        """What a row says, or the reason why it is not read further.

        Raises:
            BadRow: it misses what it needs.
        """

    def language(self, fields: Fields) -> str | None:
        """By the path, else as the data set names it, else by the text; None if nothing tells."""
        if possible_languages(fields.path.rpartition("/")[2]):
            return detect_language(fields.path, fields.text) or "none"
        return language_named(fields.language) if fields.language else guess_language(fields.text)


class PileSource(RowSource):
    """The Pile: `{"text", "meta": {"pile_set_name": "Github"}}`. Made by `open_source`."""

    kind = "pile"
    columns = ("text", "meta")

    def fields(self, row: dict[str, Any]) -> Fields | Drop:
        """A row of the set Github, with whatever else its `meta` names; `other_set`, or `few_stars` where it does."""
        text, meta = text_of(row, "text"), row.get("meta")
        if not isinstance(meta, dict):
            raise BadRow("no meta")
        repo = name_in(meta, "repo_name", "repository", "repo") or own_repository(self.kind, text)
        path = name_in(meta, "path", "file_path", "file_name") or ""
        if meta.get("pile_set_name") != "Github":
            return Drop("other_set", repo, path, (name_in(meta, "pile_set_name") or "")[:60])
        stars = number_in(meta, "stars", "stargazers")
        if stars is not None and stars <= self.repositories.pile_min_stars:
            return Drop("few_stars", repo, path, f"{stars} stars")
        licence = canonical_licence(name_in(meta, "license", "licence") or "")
        return Fields(text, repo, path, name_in(meta, "language", "lang"), licence, stars)


class CodeParrotSource(RowSource):
    """CodeParrot's columns, and github-code's, which has `code` and `language`. Made by `open_source`."""

    kind = "codeparrot"
    columns = ("repo_name", "path", "content", "code", "license", "language")

    def fields(self, row: dict[str, Any]) -> Fields:
        """A file of a repository."""
        text = text_of(row, "content", "code")
        repo = name_in(row, "repo_name") or own_repository(self.kind, text)
        licence = canonical_licence(name_in(row, "license") or "")
        return Fields(text, repo, name_in(row, "path") or "", name_in(row, "language"), licence)


class JsonlSource(RowSource):
    """Chinese and English prose: `text` (or `content`), and `language`. Made by `open_source`."""

    kind = "jsonl"
    columns = ("text", "content", "language")

    def fields(self, row: dict[str, Any]) -> Fields:
        """A text."""
        text = text_of(row, "text", "content")
        return Fields(text, own_repository(self.kind, text), language=name_in(row, "language"))

    def language(self, fields: Fields) -> str | None:
        """As the row names it, else by its share of Chinese characters."""
        return language_named(fields.language) if fields.language else prose(fields.text)


def text_of(row: dict[str, Any], *keys: str) -> str:
    """The text under the first of the keys that is there, without a byte order mark.

    Raises:
        BadRow: there is none, or it is not text.
    """
    key = next((key for key in keys if row.get(key) is not None), None)
    if key is None:
        raise BadRow(f"no {' or '.join(keys)}")
    text = row[key]
    if not isinstance(text, str):
        raise BadRow(f"{key} is {type(text).__name__}, not text")
    if "\0" in text:
        raise BadRow(f"{key} holds NUL")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise BadRow(f"{key} holds half a character at {error.start}") from None
    return text.removeprefix("\ufeff")


def name_in(row: dict[str, Any], *keys: str) -> str | None:
    """The first non-empty text under one of the keys, with nothing in it that cannot be written."""
    found = next((row[key] for key in keys if isinstance(row.get(key), str) and row[key]), None)
    return None if found is None else found.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def number_in(row: dict[str, Any], *keys: str) -> int | None:
    """The first whole number under one of the keys."""
    return next((row[key] for key in keys if type(row.get(key)) is int), None)


def own_repository(kind: str, text: str) -> str:
    """The name of a repository that holds this text alone."""
    return f"{kind}/{hashlib.sha256(text.encode('utf-8')).hexdigest()[:16]}"


def _names() -> dict[str, str]:
    names = {key: canonical(key) for key in TAGS}
    for key, tag in TAGS.items():  # the name inside the tag: `// language: C++`, `/* language: CSS */`
        name = tag.partition("language:")[2].strip(" */->}").lower()
        names.setdefault(name, canonical(key))
    extra = {
        "c-sharp": "csharp", "golang": "go", "bash": "shell", "shell script": "shell", "latex": "tex",
        "common lisp": "lisp", "emacs lisp": "lisp", "jsx": "javascript", "tsx": "typescript", "visual basic": "vb",
        "zh": "chinese", "zh-cn": "chinese", "en": "english", "chinese": "chinese", "english": "english",
    }  # fmt: skip
    return names | extra


_LANGUAGES = _names()


def language_named(name: str) -> str:
    """The key of a language by the name a data set has for it: `C++`, `GO`, `zh`; the name itself if it is not ours."""
    name = name.strip().lower()
    return _LANGUAGES.get(name, name[:60])
