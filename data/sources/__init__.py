"""Where documents come from: one file a kind, each a Source; `open_source` finds it from `kind:ARG`."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from mindgeex.common.errors import UserError, did_you_mean
from mindgeex.data.document import Document, Drop

KINDS = {
    "local": ("mindgeex.data.sources.local", "LocalSource"),
    "archives": ("mindgeex.data.sources.archives", "ArchiveSource"),
    "pile": ("mindgeex.data.sources.datasets", "PileSource"),
    "codeparrot": ("mindgeex.data.sources.datasets", "CodeParrotSource"),
    "jsonl": ("mindgeex.data.sources.datasets", "JsonlSource"),
    "github": ("mindgeex.data.sources.github", "GithubSource"),
    "corpus": ("mindgeex.data.sources.corpus", "CorpusSource"),
}
"""Word before the colon -> module and class; the class is made from (ARG, languages, repositories)."""


@dataclass(frozen=True)
class RepositoryRules:
    """CodeGeeX's rules for whole repositories; they apply where a source knows stars and sizes."""

    min_stars: int = 1
    """Fewest stars of a repository in a `github:` manifest."""

    pile_min_stars: int = 100
    """A repository of The Pile needs more stars than this."""

    max_bytes: int = 10_000_000
    """A repository in a `github:` manifest is smaller than this."""

    def __post_init__(self) -> None:
        for name in ("min_stars", "pile_min_stars", "max_bytes"):
            if getattr(self, name) < 0:
                raise UserError(f"repositories.{name}={getattr(self, name)}: must be at least 0")


class Part(Protocol):
    """A piece of a source that one worker reads at a time; it travels to the worker, so it can be pickled.

    It holds names and sizes alone: its repr is equal wherever the same content lies.
    """

    @property
    def num_bytes(self) -> int:
        """How much there is to read, in bytes; used for progress and for sampling."""


class Source(Protocol):
    """Lists its parts in an order that depends on its content alone, and reads each into documents."""

    def parts(self) -> Iterator[Any]:
        """The parts, in order, each a Part.

        Raises:
            UserError: the source is missing or cannot be read.
        """

    def read(self, part: Any, wanted: Callable[[str, str], bool]) -> Iterator[Document | Drop]:
        """The files of one part, in order.

        Args:
            part: one of `parts()`.
            wanted: called with repository and path before a file is read; false drops it as `not_sampled`.
        """


def open_source(
    spec: str,
    languages: frozenset[str],
    repositories: RepositoryRules = RepositoryRules(),  # noqa: B008
) -> Source:
    """The source behind `kind:ARG`, such as `local:/usr/include`.

    Args:
        spec: what the user typed.
        languages: canonical keys; files in other languages are passed over.
        repositories: rules for whole repositories.

    Raises:
        UserError: there is no such kind, or nothing behind the colon.
    """
    kind, colon, argument = spec.partition(":")
    if kind not in KINDS:
        raise UserError(f"--source {spec}: write KIND:PATH; unknown kind {kind!r}{did_you_mean(kind, KINDS)}")
    if not colon or not argument:
        raise UserError(f"--source {spec}: nothing behind the colon; write {kind}:PATH")
    module, name = KINDS[kind]
    source: Source = getattr(importlib.import_module(module), name)(argument, languages, repositories)
    return source
