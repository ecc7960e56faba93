"""Texts for training and comparing tokenizers: a corpus, shards of documents, or a plain folder.

A corpus gives the documents of one split, by its manifest. A folder with `*.jsonl.zst` gives the documents of these
shards; any other folder its source files, and files named .txt, .md and .rst, in sorted order.

Covers: reading them anew for each use, a sample by a hash of names. Does not cover: filters, duplicates, archives.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mindgeex.common.errors import UserError
from mindgeex.data.document import Document, read_shard
from mindgeex.data.languages import detect_language, possible_languages
from mindgeex.data.split import unit_hash

SHARDS = "*.jsonl.zst"
PLAIN = (".txt", ".md", ".rst")
PLAIN_LANGUAGE = "text"
"""What a plain file's language is called here."""
READ_LIMIT_BYTES = 16 << 20
"""Larger files of a plain folder are passed over."""


@dataclass(frozen=True)
class Texts:
    """Documents that can be read again and again."""

    num_bytes: int
    """Of all their texts, about, in UTF-8."""

    read: Callable[[], Iterator[Document]]
    """All documents, in an order that depends on the content alone."""


def open_texts(folder: Path, split: Literal["train", "heldout"] = "train") -> Texts:
    """The texts of a folder; of a corpus those of a split, or of the other one if it has none.

    Raises:
        UserError: there is no such folder, or no text in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: give a corpus, a folder with {SHARDS}, or a folder of text files")
    if (folder / "manifest.json").is_file():
        return _corpus(folder, split)
    shards = sorted(folder.glob(SHARDS))
    texts = _shards(shards) if shards else _plain(folder)
    if not texts.num_bytes:
        raise UserError(f"{folder}: no text in it: neither {SHARDS}, nor source files, nor {' '.join(PLAIN)}")
    return texts


def sample(documents: Iterable[Document], share: float, seed: int) -> Iterator[Document]:
    """About `share` of the documents, chosen by a hash of their names; the first one always."""
    for number, document in enumerate(documents):
        if not number or share >= 1 or unit_hash(seed, "tokenizer", document.repo, document.path) < share:
            yield document


def _corpus(folder: Path, split: Literal["train", "heldout"]) -> Texts:
    from mindgeex.data.mindrecord import Corpus

    corpus = Corpus.open(folder)
    sizes = {name: int(counts["bytes"]) for name, counts in corpus.manifest["splits"].items()}
    other: Literal["train", "heldout"] = "heldout" if split == "train" else "train"
    chosen = split if sizes.get(split) else other
    return Texts(sizes[chosen], lambda: corpus.documents(chosen))


def _shards(paths: list[Path]) -> Texts:
    def read() -> Iterator[Document]:
        import zstandard

        for path in paths:
            try:
                yield from read_shard(path)
            except (zstandard.ZstdError, ValueError, TypeError) as error:
                raise UserError(f"{path}: no documents as `mindgeex data build` writes them: {error}") from None

    return Texts(sum(len(document.text.encode("utf-8", "replace")) for document in read()), read)


def _plain(folder: Path) -> Texts:
    files = list(_files(folder))

    def read() -> Iterator[Document]:
        for path in files:
            try:
                text = path.read_bytes().decode("utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            if "\0" not in text:
                language = detect_language(path.name, text) if possible_languages(path.name) else None
                yield Document(text, language or PLAIN_LANGUAGE, folder.name, path.relative_to(folder).as_posix())

    return Texts(sum(path.stat().st_size for path in files), read)


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in sorted(names):
            path = Path(place, name)
            wanted = possible_languages(name) or name.lower().endswith(PLAIN)
            if wanted and path.is_file() and path.stat().st_size <= READ_LIMIT_BYTES:
                yield path
