"""First stage: each part of a source -> the documents that pass every rule, with what later stages ask about them.

A part's files lie in `read/`, named by its number: `.docs` (the documents as JSON lines in Zstandard frames, so that
one can be read without the others), `.npz` (a column a fact), `.bands` (MinHash band keys), and `.json`, which is
written last and makes the part done.

Covers: a document that raises or takes a parser down with it is dropped with its reason, and nothing else is.
Does not cover: a document that hangs outside the parser.
"""

import collections
import contextlib
import dataclasses
import json
import os
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.data.config import BuildConfig
from mindgeex.data.document import ZSTD_LEVEL, Document, Drop, to_line
from mindgeex.data.filters import first_reason
from mindgeex.data.sources import Source
from mindgeex.data.split import unit_hash
from mindgeex.data.stages import kept_by_worker

FRAME_BYTES = 1 << 18
"""JSON in a frame: what has to be decompressed to read one document."""

EXAMPLES = 3
"""Documents the manifest names for each reason to drop."""

DETAIL_CHARS = 200
"""Of an error's message."""

HISTOGRAM_BINS = 20

CONDEMNED_AFTER = 2
"""Workers that have to die on the same document before it is dropped: one may be anybody's."""

COLUMNS = {
    "language": np.int16,
    "num_bytes": np.int32,
    "stars": np.int64,
    "repo": np.int32,
    "licence": np.int32,
    "syntax": np.float32,
    "cleanliness": np.float32,
    "frame": np.int32,
}
"""What is kept of each document, beside its digest; `repo` and `licence` number names in the `.json` file."""


@dataclass(frozen=True)
class ReadTask:
    """One part for one worker."""

    out: Path
    """Its files without their suffixes."""

    source: Source
    part: Any
    config: BuildConfig
    languages: tuple[str, ...]
    """The keys that the column `language` numbers."""

    share: float
    """Share of the files to sample; 1 for all."""

    benchmarks: Path | None
    """The pickled index of decontamination.py."""

    earlier: bool = False
    """The documents are an earlier corpus's: only what finds duplicates is asked of them."""

    name: str = ""
    """What the user called the source."""

    attempt: int = 0


@dataclass
class Examined:
    """A document that passed, and what was found on the way."""

    document: Document
    digest: bytes
    bands: np.ndarray | None


def read_part(task: ReadTask) -> dict[str, Any]:
    """Reads one part, unless that is done.

    Returns:
        The contents of its `.json`.
    """
    if about := read_about(task.out):
        return about
    writer = _PartWriter(task)
    examiner = _Examiner(task, writer)

    def wanted(repo: str, path: str) -> bool:
        return task.share >= 1 or unit_hash(task.config.seed, "sample", repo, path) < task.share

    with _Crumbs(task) as crumbs:
        items = iter(task.source.read(task.part, wanted))
        number = 0
        while True:
            if crumbs.condemned(number, "reading"):
                where = f"{task.name}: document {number} of a part, and all behind it"
                writer.drop(Drop("reader_died", "", "", where))
                break
            crumbs.at(number, "reading")
            with writer.clock("read"):
                item = next(items, None)
            if item is None:
                break
            if isinstance(item, Document):
                writer.bytes_in += len(item.text.encode("utf-8"))
            if isinstance(item, Document) and crumbs.condemned(number, "examining"):
                item = Drop("parser_died", item.repo, item.path)
            if isinstance(item, Document):
                crumbs.at(number, "examining")
                result = examiner.examine(item)
                if isinstance(result, Examined):
                    writer.add(result)
                else:
                    item = result
            if isinstance(item, Drop):
                writer.drop(item)
            number += 1
        return writer.close(number)


def read_about(out: Path) -> dict[str, Any] | None:
    """What is known of a part that is done, or None: its `.json`, if the files beside it are as long as it says."""
    try:
        about: dict[str, Any] = json.loads(Path(f"{out}.json").read_bytes())
        sizes = {suffix: os.stat(f"{out}{suffix}").st_size for suffix in about["files"]}
    except (OSError, ValueError):
        return None
    return about if sizes == about["files"] else None


def band_keys_of(out: Path | str) -> np.ndarray:
    """Band keys of a part's documents, uint64 [BANDS, documents]; mapped, so what is not asked for is not read."""
    from mindgeex.data.dedup import BANDS

    return np.memmap(f"{out}.bands", np.uint64, "r").reshape(BANDS, -1)


class _Examiner:
    """The rules in order: names and sizes, the licence, secrets, syntax, benchmarks; then digest and band keys."""

    def __init__(self, task: ReadTask, writer: "_PartWriter"):
        config = task.config
        self.earlier = task.earlier
        self.config, self.writer = config, writer
        self.filters = [*config.rules.filters(), *config.licences.filters()]
        self.index = load_index(task.benchmarks) if task.benchmarks else None

    def examine(self, document: Document) -> Examined | Drop:
        from mindgeex.common.grammars import ParseTimeout

        try:
            return self._examine(document)
        except UserError:
            raise
        except ParseTimeout as error:
            return Drop("parse_timeout", document.repo, document.path, str(error)[:DETAIL_CHARS])
        except Exception as error:  # whatever a document does to a library must not cost the other documents
            return Drop("failed", document.repo, document.path, f"{type(error).__name__}: {error}"[:DETAIL_CHARS])

    def _examine(self, document: Document) -> Examined | Drop:
        from mindgeex.data.dedup import band_keys, digest

        clock = self.writer.clock
        if not self.earlier:
            result = self._checked(document)
            if isinstance(result, Drop):
                return result
            document = result
        with clock("digests"):
            found = digest(document.text)
            bands = band_keys(document.text) if self.config.dedup.near else None
        return Examined(document, found, bands)

    def _checked(self, document: Document) -> Document | Drop:
        from mindgeex.common.grammars import parse
        from mindgeex.data.licences import effective_licence
        from mindgeex.data.redact import redact

        config, writer = self.config, self.writer
        with writer.clock("rules"):
            document = dataclasses.replace(document, licence=effective_licence(document))
            if reason := first_reason(document, self.filters):
                return Drop(reason, document.repo, document.path)
        with writer.clock("redaction"):
            text, redacted = redact(document.text, config.redact)
        parsed = None
        if config.analysis.enabled or self.index:
            with writer.clock("parsing"):
                parsed = parse(text, document.language)
        if config.analysis.enabled and parsed is not None:
            from mindgeex.data.analysis import analyse

            with writer.clock("analysis"):
                analysis = analyse(parsed)
            writer.score(document.language, analysis.syntax, analysis.cleanliness)
            if reason := config.analysis.reason(analysis):
                scores = f"syntax {analysis.syntax:.2f}, cleanliness {analysis.cleanliness:.2f}"
                return Drop(reason, document.repo, document.path, scores)
            document = dataclasses.replace(
                document, syntax=round(analysis.syntax, 4), cleanliness=round(analysis.cleanliness, 4)
            )
        if self.index:
            with writer.clock("decontamination"):
                hits = self.index.hits(text, parsed)
            if hits:
                writer.hit(document, hits)
                return Drop("contaminated", document.repo, document.path, f"{hits[0].kind} of {hits[0].problem}")
        writer.redacted(redacted)
        return dataclasses.replace(document, text=text)


@kept_by_worker
def load_index(path: Path) -> Any:
    """The index of benchmarks that the build made; read once a worker."""
    with path.open("rb") as file:
        return pickle.load(file)


class _PartWriter:
    """Collects what `read_part` finds and writes a part's files."""

    def __init__(self, task: ReadTask):
        import zstandard

        self.out = task.out
        self.languages = {key: number for number, key in enumerate(task.languages)}
        self.earlier = task.earlier
        self.columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.digests: list[bytes] = []
        self.bands: list[np.ndarray] = []
        self.names: dict[str, dict[str, int]] = {"repo": {}, "licence": {}}
        self.dropped: collections.Counter[str] = collections.Counter()
        self.examples: dict[str, list[dict[str, str]]] = {}
        self.redactions: collections.Counter[str] = collections.Counter()
        self.hits: list[dict[str, str]] = []
        self.scores: dict[str, dict[str, list[int]]] = {}
        self.seconds: collections.defaultdict[str, float] = collections.defaultdict(float)
        self.bytes_in = 0
        task.out.parent.mkdir(parents=True, exist_ok=True)
        self._file = Path(f"{task.out}.docs").open("wb")  # noqa: SIM115 (closed by `close`)
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        self._frame: list[bytes] = []
        self._frame_bytes = 0
        self._offsets = [0]

    @contextlib.contextmanager
    def clock(self, step: str) -> Iterator[None]:
        """Adds the block's processor time to a step's."""
        started = time.process_time()
        yield
        self.seconds[step] += time.process_time() - started

    def add(self, examined: Examined) -> None:
        document = examined.document
        with self.clock("write"):
            num_bytes = len(document.text.encode("utf-8"))
            values = {
                "language": self.languages.get(document.language, -1),  # an earlier corpus may have others
                "num_bytes": num_bytes,
                "stars": -1 if document.stars is None else document.stars,
                "repo": self._name("repo", document.repo),
                "licence": self._name("licence", document.licence or ""),
                "syntax": np.nan if document.syntax is None else document.syntax,
                "cleanliness": np.nan if document.cleanliness is None else document.cleanliness,
                "frame": len(self._offsets) - 1,
            }
            for name, value in values.items():
                self.columns[name].append(value)
            self.digests.append(examined.digest)
            if examined.bands is not None:
                self.bands.append(examined.bands)
            self._frame.append(to_line(document))
            self._frame_bytes += len(self._frame[-1])
            if self._frame_bytes >= FRAME_BYTES:
                self._flush()

    def drop(self, drop: Drop) -> None:
        self.dropped[drop.reason] += 1
        examples = self.examples.setdefault(drop.reason, [])
        if len(examples) < EXAMPLES:
            examples.append({"repo": drop.repo, "path": drop.path, "detail": drop.detail})

    def redacted(self, kinds: dict[str, int]) -> None:
        self.redactions.update(kinds)
        self.redactions["documents"] += bool(kinds)

    def score(self, language: str, syntax: float, cleanliness: float) -> None:
        histograms = self.scores.setdefault(
            language, {"syntax": [0] * HISTOGRAM_BINS, "cleanliness": [0] * HISTOGRAM_BINS}
        )
        for name, value in (("syntax", syntax), ("cleanliness", cleanliness)):
            histograms[name][min(HISTOGRAM_BINS - 1, int(value * HISTOGRAM_BINS))] += 1

    def hit(self, document: Document, hits: list[Any]) -> None:
        name = {"repo": document.repo, "path": document.path}
        self.hits += [{**name, **dataclasses.asdict(hit)} for hit in hits]

    def close(self, num_in: int) -> dict[str, Any]:
        """Writes the files, the `.json` last.

        Returns:
            What the `.json` holds.
        """
        from mindgeex.data.dedup import BANDS

        if self._frame:
            self._flush()
        self._file.close()
        columns = {name: np.array(self.columns[name], kind) for name, kind in COLUMNS.items()}
        digests = np.frombuffer(b"".join(self.digests), np.uint64).reshape(-1, 2)
        bands = np.stack(self.bands, axis=1) if self.bands else np.zeros((BANDS, 0), np.uint64)
        Path(f"{self.out}.bands").write_bytes(bands.tobytes())
        np.savez(f"{self.out}.npz", digest=digests, offsets=np.array(self._offsets, np.int64), **columns)
        about = {
            "files": {suffix: os.stat(f"{self.out}{suffix}").st_size for suffix in (".docs", ".npz", ".bands")},
            "in": num_in,
            "bytes_in": self.bytes_in,
            "kept": len(self.digests),
            "dropped": dict(self.dropped),
            "examples": self.examples,
            "redacted": dict(self.redactions),
            "hits": self.hits,
            "scores": self.scores,
            "repo": list(self.names["repo"]),
            "licence": list(self.names["licence"]),
            "seconds": dict(self.seconds),
        }
        partial = Path(f"{self.out}.json.partial")
        partial.write_text(json.dumps(about), encoding="utf-8")
        os.replace(partial, f"{self.out}.json")
        return about

    def _name(self, column: str, name: str) -> int:
        return self.names[column].setdefault(name, len(self.names[column]))

    def _flush(self) -> None:
        self._file.write(self._compressor.compress(b"".join(self._frame)))
        self._offsets.append(self._file.tell())
        self._frame, self._frame_bytes = [], 0


class _Crumbs:
    """Where in its part a worker stands, on disk, so that the one after it knows what the first one died of."""

    def __init__(self, task: ReadTask):
        self._at, self._deaths = Path(f"{task.out}.at"), Path(f"{task.out}.deaths")
        places = self._deaths.read_text().splitlines() if task.attempt and self._deaths.exists() else []
        if task.attempt and self._at.exists():
            places.append(self._at.read_text().strip())
        self._deaths.parent.mkdir(parents=True, exist_ok=True)
        self._deaths.write_text("\n".join(places))
        self._counts = collections.Counter(places)

    def __enter__(self) -> "_Crumbs":
        self._descriptor = os.open(self._at, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)
        self._at.unlink(missing_ok=True)
        self._deaths.unlink(missing_ok=True)

    def at(self, number: int, step: str) -> None:
        """Writes where we stand."""
        os.pwrite(self._descriptor, f"{number} {step}".ljust(40).encode(), 0)

    def condemned(self, number: int, step: str) -> bool:
        """Whether enough workers died here."""
        return self._counts[f"{number} {step}"] >= CONDEMNED_AFTER
