"""`corpus:FOLDER`: the documents of a corpus that was built before, both splits.

Covers: building again from documents that were filtered once; telling a new corpus what an earlier one holds.
Does not cover: corpora without their documents.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.common.files import read_json, sha256_file
from mindgeex.data.document import Document, Drop, read_shard
from mindgeex.data.sources import RepositoryRules


@dataclass(frozen=True)
class CorpusPart:
    """One shard of documents."""

    file: str
    """Its path below the corpus's folder."""

    num_bytes: int
    sha256: str


class CorpusSource:
    """A corpus's documents. Made by `open_source`."""

    def __init__(
        self,
        argument: str,
        languages: frozenset[str] | None = None,
        repositories: RepositoryRules | None = None,
    ):
        self.folder, self.languages = Path(argument), languages
        next(self.parts(), None)  # the list is not kept: a source travels with every part

    def parts(self) -> Iterator[CorpusPart]:
        """The shards, in order."""
        manifest = read_json(self.folder / "manifest.json")
        try:
            entries = [
                CorpusPart(str(e["file"]), int(e["bytes"]), str(e["sha256"])) for e in manifest["document_shards"]
            ]
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{self.folder}/manifest.json: lists no document shards: not a corpus") from None
        yield from entries

    def read(self, part: CorpusPart, wanted: Callable[[str, str], bool]) -> Iterator[Document | Drop]:
        """Its documents; with `languages`, those in other languages are dropped as other_language.

        Raises:
            UserError: the shard is missing or altered.
        """
        path = self.folder / part.file
        if not path.is_file() or sha256_file(path) != part.sha256:
            raise UserError(f"{path}: missing, or not as its corpus wrote it: build that corpus again")
        for document in read_shard(path):
            if not wanted(document.repo, document.path):
                yield Drop("not_sampled", document.repo, document.path)
            elif self.languages is not None and document.language not in self.languages:
                yield Drop("other_language", document.repo, document.path)
            else:
                yield document
