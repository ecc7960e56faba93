"""Raw code to a corpus: sources -> filters -> dedup -> split by repository -> tokens -> rows -> MindRecord -> manifest.

The folder is written beside its place and renamed when all of it is on disk, so a killed build leaves `<out>.partial`
and no manifest, and the next build starts anew. What is written depends on the sources' names and content and on the
configuration alone: not on the number of workers, the clock, or the folders above the sources.

Covers: one machine, several processes. Does not cover: several machines; continuing a killed build from its middle.
"""

import collections
import functools
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.common.files import atomic_folder, write_json
from mindgeex.common.progress import progress
from mindgeex.common.versions import versions
from mindgeex.data.config import BuildConfig
from mindgeex.data.dedup import Seen, digest
from mindgeex.data.document import Document, DocumentShards, Drop, file_entry, read_shard
from mindgeex.data.filters import Rules, first_reason
from mindgeex.data.languages import canonical, language_tag
from mindgeex.data.mindrecord import FORMAT, Corpus, is_corpus, write_shards
from mindgeex.data.packing import packed, windows
from mindgeex.data.sources import Source, open_source
from mindgeex.data.split import heldout_repositories, unit_hash
from mindgeex.data.tokenizer import FILES, check_vocab_size, fingerprint, load_tokenizer, train_tokenizer
from mindgeex.data.workers import ordered_map

EXAMPLES = 3
"""Paths the manifest names for each reason to drop."""


@dataclass(frozen=True)
class Built:
    """What `build` did."""

    folder: Path
    manifest: dict[str, Any]
    seconds: dict[str, float]
    """Wall time by stage; empty if the corpus was there already."""


def build(config: BuildConfig, out: Path, overwrite: bool = False) -> Built:
    """Makes a corpus, or finds that it is there already.

    Args:
        config: what to build.
        out: the corpus's folder.
        overwrite: replace a corpus made from another configuration, or build the same one again.

    Raises:
        UserError: a bad source or tokenizer, nothing left after filtering, a folder in the way, a full disk.
    """
    out = Path(out)
    if not overwrite and (corpus := _existing(config, out)):
        return Built(out, corpus.manifest, {})
    if out.exists() and not is_corpus(out) and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there and is not a corpus: choose another folder for --out")
    languages = frozenset(canonical(key) for key in config.languages)
    sources = [open_source(spec, languages) for spec in config.sources]
    if config.tokenizer is not None:
        load_tokenizer(Path(config.tokenizer))
    else:
        check_vocab_size(config.vocab_size)
    with atomic_folder(out) as folder:
        return Built(out, *_Build(config, sources, folder).run())


def _existing(config: BuildConfig, out: Path) -> Corpus | None:
    if not (out / "manifest.json").is_file():
        return None
    corpus = Corpus.open(out)
    there, wanted = corpus.manifest["config"], config.identity()
    different = [key for key in wanted if there.get(key) != wanted[key]]
    if config.tokenizer is not None and not different and fingerprint(Path(config.tokenizer)) != _tokenizer(corpus):
        raise UserError(
            f"{out}: a corpus built with another tokenizer than {config.tokenizer} now holds is there: "
            "choose another --out, or replace it with --overwrite"
        )
    if different:
        key = different[0]
        raise UserError(
            f"{out}: a corpus built with {key}={there.get(key)} is there, wanted {key}={wanted[key]}: "
            "choose another --out, or replace it with --overwrite"
        )
    return corpus


def _tokenizer(corpus: Corpus) -> str:
    return str(corpus.manifest["tokenizer"]["fingerprint"])


@dataclass(frozen=True)
class _ReadTask:
    """One part for one worker."""

    source: Source
    part: Any
    rules: Rules
    seed: int
    share: float


def _read_part(task: _ReadTask) -> list[tuple[Document, bytes] | Drop]:
    """Reads and filters one part; kept documents come with their digest."""

    def wanted(repo: str, path: str) -> bool:
        return task.share >= 1 or unit_hash(task.seed, "sample", repo, path) < task.share

    filters = task.rules.filters()
    results: list[tuple[Document, bytes] | Drop] = []
    for item in task.source.read(task.part, wanted):
        if isinstance(item, Document) and (reason := first_reason(item, filters)):
            item = Drop(reason, item.repo, item.path)
        results.append((item, digest(item.text)) if isinstance(item, Document) else item)
    return results


_loaded = functools.lru_cache(maxsize=1)(load_tokenizer)


def _tokenize_shard(task: tuple[Path, Path]) -> list[tuple[str, int, np.ndarray]]:
    """Language, bytes of text and tokens (tag line first, int32) of each document in (shard, tokenizer)."""
    shard, folder = task
    tokenizer = _loaded(folder)
    return [
        (
            document.language,
            len(document.text.encode("utf-8")),
            np.array(tokenizer.encode(tagged(document), eod_in_text=False), np.int32),
        )
        for document in read_shard(shard)
    ]


def tagged(document: Document) -> str:
    """What is tokenized: the language's tag line, then the text."""
    return f"{language_tag(document.language)}\n{document.text}"


def training_texts(documents: Iterable[Document], share: float, seed: int) -> Iterator[str]:
    """The texts a tokenizer learns from: about `share` of the documents, chosen by a hash of their names.

    One document is always chosen.
    """
    chosen = False
    for document in documents:
        if not chosen or unit_hash(seed, "tokenizer", document.repo, document.path) < share:
            chosen = True
            yield tagged(document)


class _Build:
    """One run; a method a stage, each leaving what the next needs."""

    def __init__(self, config: BuildConfig, sources: Sequence[Source], folder: Path):
        self.config, self.sources, self.folder = config, sources, folder
        self.seconds: dict[str, float] = {}
        self.num_in = 0
        self.dropped: collections.Counter[str] = collections.Counter()
        self.examples: dict[str, list[str]] = {}
        self.repositories: set[str] = set()
        self.heldout: set[str] = set()
        self.train_bytes = 0
        self.counts: dict[str, dict[str, collections.Counter[str]]] = {"train": {}, "heldout": {}}

    def run(self) -> tuple[dict[str, Any], dict[str, float]]:
        kept = self._timed("read", self._read)
        documents = self._timed("split", lambda: self._split(kept))
        tokenizer = self._timed("tokenizer", lambda: self._make_tokenizer(documents["train"]))
        shards = self._timed("rows", lambda: self._write_rows(documents, tokenizer))
        manifest = self._timed("manifest", lambda: self._manifest(documents, tokenizer, shards))
        write_json(self.folder / "manifest.json", manifest)
        return manifest, self.seconds

    def _timed(self, stage: str, function: Any) -> Any:
        start = time.monotonic()
        result = function()
        self.seconds[stage] = time.monotonic() - start
        return result

    def _read(self) -> list[Path]:
        """Sources, sample, filters, dedup -> shards of kept documents in source order."""
        parts = [(source, part) for source in self.sources for part in source.parts()]
        total = sum(part.num_bytes for _, part in parts)
        share = 1.0 if self.config.max_bytes is None else self.config.max_bytes / max(1, total)
        tasks = (_ReadTask(source, part, self.config.rules, self.config.seed, share) for source, part in parts)
        shards = DocumentShards(self.folder / "kept", "kept", self.config.document_shard_bytes)
        seen = Seen()
        with progress("read and filter, MB", total // 1_000_000) as bar:
            done = 0
            results = ordered_map(_read_part, tasks, self.config.workers)
            for (_, part), items in zip(parts, results, strict=True):
                for item in items:
                    self.num_in += 1
                    if isinstance(item, Drop):
                        self._drop(item)
                    elif not seen.is_new(item[1]):
                        self._drop(Drop("duplicate", item[0].repo, item[0].path))
                    else:
                        shards.add(item[0])
                        self.repositories.add(item[0].repo)
                done += part.num_bytes
                bar.advance(done // 1_000_000 - bar.done)
        if not self.repositories:
            raise UserError(self._why_empty())
        return shards.close()

    def _drop(self, drop: Drop) -> None:
        self.dropped[drop.reason] += 1
        examples = self.examples.setdefault(drop.reason, [])
        if len(examples) < EXAMPLES:
            examples.append(f"{drop.repo}: {drop.path}")

    def _why_empty(self) -> str:
        if not self.num_in:
            return f"no file in {', '.join(self.config.languages)} below {', '.join(self.config.sources)}"
        reason, count = self.dropped.most_common(1)[0]
        return (
            f"nothing is left of {self.num_in} files: {reason!r} dropped most, {count}, such as "
            f"{self.examples[reason][0]}: loosen that rule or give other sources"
        )

    def _split(self, kept: Sequence[Path]) -> dict[str, list[Path]]:
        """Shards of kept documents -> shards of either split."""
        self.heldout = heldout_repositories(self.repositories, self.config.seed, self.config.heldout_share)
        size = self.config.document_shard_bytes
        writers = {split: DocumentShards(self.folder / "documents", split, size) for split in self.counts}
        for path in kept:
            for document in read_shard(path):
                held = document.repo in self.heldout
                writers["heldout" if held else "train"].add(document)
                self.train_bytes += 0 if held else len(document.text.encode("utf-8"))
            path.unlink()
        (self.folder / "kept").rmdir()
        return {split: writer.close() for split, writer in writers.items()}

    def _make_tokenizer(self, train: Sequence[Path]) -> Path:
        """Copies the given tokenizer, or trains one, into the corpus."""
        folder = self.folder / "tokenizer"
        if self.config.tokenizer is not None:
            folder.mkdir()
            for file in sorted(Path(self.config.tokenizer).iterdir()):
                if file.name in FILES or (file.suffix == ".json" and file.is_file()):
                    shutil.copyfile(file, folder / file.name)
            return folder
        with progress("train the tokenizer, shards", len(train)) as bar:

            def documents() -> Iterator[Document]:
                for path in train:
                    yield from read_shard(path)
                    bar.advance()

            share = self.config.tokenizer_bytes / max(1, self.train_bytes)
            train_tokenizer(training_texts(documents(), share, self.config.seed), self.config.vocab_size, folder)
        return folder

    def _write_rows(self, documents: dict[str, list[Path]], tokenizer: Path) -> list[dict[str, Any]]:
        """Shards of documents -> tokens -> rows -> MindRecord, split by split."""
        config, eod_id = self.config, load_tokenizer(tokenizer).eod_id
        entries: list[dict[str, Any]] = []
        with progress("tokenize and pack, shards", sum(map(len, documents.values()))) as bar:
            tasks = ((path, tokenizer) for paths in documents.values() for path in paths)
            results = ordered_map(_tokenize_shard, tasks, config.workers)
            for split, paths in documents.items():

                def tokens(split: str = split, paths: Sequence[Path] = paths) -> Iterable[np.ndarray]:
                    for _ in paths:
                        for language, num_bytes, ids in next(results):
                            count = self.counts[split].setdefault(language, collections.Counter())
                            count.update(documents=1, bytes=num_bytes, tokens=len(ids) + 1)
                            yield ids
                        bar.advance()

                if config.packing == "packed":
                    rows = packed(tokens(), config.seq_length, eod_id)
                else:
                    rows = windows(tokens(), config.seq_length, eod_id, config.window_stride)
                folder = self.folder / "shards"
                entries += write_shards(rows, folder, split, config.rows_per_shard)
            results.close()
        return entries

    def _manifest(
        self, documents: dict[str, list[Path]], tokenizer: Path, shards: list[dict[str, Any]]
    ) -> dict[str, Any]:
        loaded = load_tokenizer(tokenizer)
        totals: collections.Counter[str] = collections.Counter()
        for count in (count for languages in self.counts.values() for count in languages.values()):
            totals.update(count)
        return {
            "format": FORMAT,
            "config": self.config.identity(),
            "versions": versions(),
            "documents": {
                "in": self.num_in,
                "kept": totals["documents"],
                "dropped": dict(self.dropped.most_common()),
                "examples": self.examples,
            },
            "splits": {
                split: {
                    "rows": sum(shard["rows"] for shard in shards if shard["split"] == split),
                    **{
                        name: sum(count[name] for count in counts.values()) for name in ("documents", "bytes", "tokens")
                    },
                    "languages": {language: dict(counts[language]) for language in sorted(counts)},
                    "repositories": sorted(
                        repo for repo in self.repositories if (repo in self.heldout) == (split == "heldout")
                    ),
                }
                for split, counts in self.counts.items()
            },
            "tokenizer": {
                "fingerprint": loaded.fingerprint,
                "vocab_size": loaded.vocab_size,
                "eod_id": loaded.eod_id,
                "trained_here": self.config.tokenizer is None,
                "bytes_per_token": round(totals["bytes"] / totals["tokens"], 4),
                "files": [file_entry(path, self.folder) for path in sorted(tokenizer.iterdir())],
            },
            "shards": shards,
            "document_shards": [
                {**file_entry(path, self.folder), "split": split}
                for split, paths in documents.items()
                for path in paths
            ],
        }
