"""What a build says about itself: counts, drops with examples, scores, duplicates, the mixture, and every file.

Nothing in it depends on the engine, the clock or the machine, so equal corpora have equal manifests.
"""

import collections
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindgeex.common.files import atomic_file
from mindgeex.data.config import BuildConfig
from mindgeex.data.document import file_entry
from mindgeex.data.mindrecord import FORMAT
from mindgeex.data.split import unit_hash
from mindgeex.data.stages.documents import SplitDocuments
from mindgeex.data.stages.pool import FATES, Pool
from mindgeex.data.stages.read import EXAMPLES, read_about
from mindgeex.data.stages.rows import SplitRows
from mindgeex.data.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from mindgeex.data.pipeline import Inputs

SAMPLE = 100
"""Documents whose scores the manifest keeps."""

CLUSTERS = 20
"""Largest groups of copies the manifest names."""


@dataclass
class Tally:
    """What the first stage counted, over all parts."""

    outs: list[Path]
    sources: list[int]
    """Number of the source of each part."""
    earlier: int
    """So many of the first sources are earlier corpora, which count for nothing here."""
    num_in: int = 0
    bytes_in: int = 0
    """Of text, before any rule; files that could not be read as text count for nothing."""
    kept: int = 0
    by_source: collections.Counter[int] = field(default_factory=collections.Counter)
    dropped: collections.Counter[str] = field(default_factory=collections.Counter)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    redacted: collections.Counter[str] = field(default_factory=collections.Counter)
    scores: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    hits: int = 0
    hit_benchmarks: collections.Counter[str] = field(default_factory=collections.Counter)
    cpu_seconds: collections.Counter[str] = field(default_factory=collections.Counter)

    def add(self, source: int, about: dict[str, Any]) -> None:
        """Adds a part; parts come in order, so the examples are the first ones."""
        self.cpu_seconds.update(about["seconds"])
        if source < self.earlier:
            return
        self.num_in += about["in"]
        self.bytes_in += about["bytes_in"]
        self.kept += about["kept"]
        self.by_source[source] += about["in"]
        self.dropped.update(about["dropped"])
        for reason, examples in about["examples"].items():
            self.add_examples(reason, examples)
        self.redacted.update(about["redacted"])
        for language, histograms in about["scores"].items():
            ours = self.scores.setdefault(language, {name: [0] * len(counts) for name, counts in histograms.items()})
            for name, counts in histograms.items():
                ours[name] = [a + b for a, b in zip(ours[name], counts, strict=True)]
        self.hits += len(about["hits"])
        self.hit_benchmarks.update(hit["benchmark"] for hit in about["hits"])

    def add_examples(self, reason: str, examples: Sequence[dict[str, str]]) -> None:
        """Keeps the first few."""
        ours = self.examples.setdefault(reason, [])
        ours += examples[: EXAMPLES - len(ours)]

    def note(self, about: dict[str, Any]) -> str:
        """What the progress bar shows behind its numbers."""
        kept, dropped = self.kept + about["kept"], sum(self.dropped.values()) + sum(about["dropped"].values())
        return f"kept {kept:,}, dropped {dropped:,}"


def why_empty(tally: Tally, pool: Pool, config: BuildConfig) -> str:
    """The message for a build that nothing is left of."""
    if not tally.num_in:
        return f"no file in {', '.join(config.languages)} below {', '.join(config.sources)}"
    dropped = tally.dropped + collections.Counter(_fates(pool, tally.earlier))
    reason, count = dropped.most_common(1)[0]
    such_as = ""
    if reason in tally.examples:
        example = tally.examples[reason][0]
        such_as = f", such as {example['repo']}: {example['path']}" + (
            f" ({example['detail']})" * bool(example["detail"])
        )
    remedy = "raise max_bytes" if reason == "not_sampled" else "loosen that rule or give other sources"
    return f"nothing is left of {tally.num_in} files: {reason!r} dropped most, {count}{such_as}: {remedy}"


def make_manifest(
    inputs: "Inputs",
    languages: Sequence[str],
    tally: Tally,
    pool: Pool,
    documents: dict[str, SplitDocuments],
    rows: dict[str, SplitRows],
    folder: Path,
) -> dict[str, Any]:
    """The manifest of a corpus whose other files are all there; also writes the list of benchmark hits."""
    tokenizer = load_tokenizer(folder / "tokenizer")
    fates = _fates(pool, tally.earlier)
    _add_fate_examples(tally, pool)
    splits = {split: _split(pool, written, rows[split], languages) for split, written in documents.items()}
    num_bytes, tokens = (sum(split[key] for split in splits.values()) for key in ("bytes", "tokens"))
    return {
        "format": FORMAT,
        **inputs.identity,
        "sources": [
            {"source": name, "earlier": number < inputs.earlier, "parts": len(inputs.parts[number])}
            | {"bytes": sum(part.num_bytes for part in inputs.parts[number])}
            | {"in": tally.by_source[number], "kept": int(((pool.source == number) & (pool.fate == 0)).sum())}
            for number, name in enumerate(inputs.names)
        ],
        "documents": {
            "in": tally.num_in,
            "bytes_in": tally.bytes_in,
            "kept": sum(len(written.numbers) for written in documents.values()),
            "dropped": dict((tally.dropped + collections.Counter(fates)).most_common()),
            "examples": tally.examples,
        },
        "splits": splits,
        "licences": _licences(pool, documents),
        "redacted": dict(tally.redacted.most_common()),
        "analysis": {language: tally.scores[language] for language in sorted(tally.scores)},
        "sample": _sample(pool, documents, inputs.identity["config"]["seed"]),
        "duplicates": _duplicates(pool),
        "decontamination": _decontamination(inputs, tally, folder),
        "mixture": rows["train"].mixture,
        "tokenizer": {
            "fingerprint": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
            "eod_id": tokenizer.eod_id,
            "trained_here": inputs.identity["config"]["tokenizer"]["path"] is None,
            "bytes_per_token": round(num_bytes / tokens, 4) if tokens else 0.0,
            "files": [file_entry(path, folder) for path in sorted((folder / "tokenizer").iterdir())],
        },
        "shards": [shard for split in rows.values() for shard in split.shards],
        "document_shards": [
            {**entry, "split": split} for split, written in documents.items() for entry in written.entries
        ],
    }


def _fates(pool: Pool, earlier: int) -> dict[str, int]:
    ours = pool.fate[pool.source >= earlier]
    return {name: count for number, name in enumerate(FATES) if number and (count := int((ours == number).sum()))}


def _add_fate_examples(tally: Tally, pool: Pool) -> None:
    reader = pool.reader()
    for number, fate in enumerate(FATES[1:], 1):
        examples = []
        for copy in np.flatnonzero((pool.fate == number) & (pool.source >= tally.earlier))[:EXAMPLES]:
            twin = int(pool.twin[copy])
            detail = f"of {_name(reader.document(twin))}" if twin >= 0 else ""
            document = reader.document(int(copy))
            examples.append({"repo": document.repo, "path": document.path, "detail": detail})
        if examples:
            tally.add_examples(fate, examples)


def _name(document: Any) -> str:
    return f"{document.repo}: {document.path}"


def _split(pool: Pool, written: SplitDocuments, rows: SplitRows, languages: Sequence[str]) -> dict[str, Any]:
    """Counts of one split: of its documents, and of the tokens in its rows (a mixture takes some twice, some never)."""
    language = pool.columns["language"][written.numbers]
    num_bytes = pool.columns["num_bytes"][written.numbers].astype(np.int64)
    in_rows = rows.lengths * rows.times
    counts = {
        languages[number]: {
            "documents": int((language == number).sum()),
            "bytes": int(num_bytes[language == number].sum()),
            "tokens": int(rows.lengths[language == number].sum()),
            "tokens_in_rows": int(in_rows[language == number].sum()),
        }
        for number in np.unique(language)
    }
    return {
        "rows": sum(shard["rows"] for shard in rows.shards),
        "documents": len(written.numbers),
        "bytes": int(num_bytes.sum()),
        "tokens": int(rows.lengths.sum()),
        "tokens_in_rows": int(in_rows.sum()),
        "languages": counts,
        "repositories": sorted(pool.names["repo"][n] for n in np.unique(pool.columns["repo"][written.numbers])),
    }


def _licences(pool: Pool, documents: dict[str, SplitDocuments]) -> dict[str, int]:
    numbers = np.concatenate([written.numbers for written in documents.values()])
    which, counts = np.unique(pool.columns["licence"][numbers], return_counts=True)
    found = {pool.names["licence"][n] or "unknown": int(count) for n, count in zip(which, counts, strict=True)}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _sample(pool: Pool, documents: dict[str, SplitDocuments], seed: int) -> list[dict[str, Any]]:
    """Some of the kept documents, by a hash of their digests, with their scores."""
    numbers = np.concatenate([written.numbers for written in documents.values()])
    hashes = pool.columns["digest"][numbers, 0] ^ np.uint64(int(unit_hash(seed, "report") * 2**53))
    chosen = np.sort(numbers[np.argsort(hashes, kind="stable")[:SAMPLE]])
    reader = pool.reader()
    keys = ("repo", "path", "language", "licence", "stars", "syntax", "cleanliness")
    found = []
    for number in chosen:
        document = reader.document(int(number))
        found.append({key: getattr(document, key) for key in keys})
    return found


def _duplicates(pool: Pool) -> dict[str, Any]:
    """The largest groups of copies: what was kept, how many copies it had, and some of them."""
    copies = np.flatnonzero(pool.twin >= 0)
    kept = pool.twin[copies]
    while (
        len(copies) and (again := pool.twin[kept] >= 0).any()
    ):  # what an exact copy resembles may itself be a near one
        kept = np.where(again, pool.twin[kept], kept)
    which, sizes = np.unique(kept, return_counts=True)
    largest = sorted(zip(-sizes, which, strict=True))[:CLUSTERS]
    reader = pool.reader()
    clusters = [
        {
            "kept": _name(reader.document(int(number))),
            "copies": -int(size),
            "examples": [_name(reader.document(int(copy))) for copy in copies[kept == number][:EXAMPLES]],
        }
        for size, number in largest
    ]
    return {"groups": len(which), "copies": len(copies), "largest": clusters}


def _decontamination(inputs: "Inputs", tally: Tally, folder: Path) -> dict[str, Any]:
    if inputs.benchmarks is None:
        return {}
    path = folder / "decontamination.jsonl"
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        for out, source in zip(tally.outs, tally.sources, strict=True):
            about = read_about(out)
            for hit in about["hits"] if about and source >= tally.earlier else ():
                file.write(json.dumps(hit, ensure_ascii=False) + "\n")
    return {
        "benchmarks": inputs.benchmarks.benchmarks,
        "hits": tally.hits,
        "by_benchmark": dict(tally.hit_benchmarks.most_common()),
        "list": file_entry(path, folder),
    }
