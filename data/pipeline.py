"""Raw code to a corpus: sources -> rules -> duplicates -> split -> documents -> tokens -> rows -> MindRecord.

Everything is written below `<out>.partial`, and that folder is renamed when all of it is there; a build that was killed
goes on with what it finds there, if nothing that decides the corpus has changed. What is written depends on the
sources' names and content and on the configuration alone: not on the engine, the number of workers, the clock, or the
folders above the sources.

Covers: kill -9 at any moment, a full disk, a worker or a document that fails.
Does not cover: sources that change while they are read.
"""

import contextlib
import hashlib
import json
import logging
import pickle
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.common.files import LOCK, PARTIAL, disk_errors, publish_folder, read_json, sole_writer, target, write_json
from mindgeex.common.grammars import grammar_packages
from mindgeex.common.html import write_page
from mindgeex.common.progress import progress
from mindgeex.common.versions import versions
from mindgeex.data.config import BuildConfig
from mindgeex.data.decontaminate import load_benchmarks
from mindgeex.data.engines import Engine, EngineConfig, open_engine
from mindgeex.data.fim import check_tokens
from mindgeex.data.languages import canonical
from mindgeex.data.manifest import Tally, make_manifest, why_empty
from mindgeex.data.mindrecord import Corpus, is_corpus
from mindgeex.data.report import sections
from mindgeex.data.sources import Source, open_source
from mindgeex.data.sources.corpus import CorpusSource
from mindgeex.data.stages import forget, run_stage
from mindgeex.data.stages.deduplicate import deduplicate
from mindgeex.data.stages.documents import split_documents, write_documents
from mindgeex.data.stages.pool import load_pool
from mindgeex.data.stages.read import ReadTask, read_part
from mindgeex.data.stages.rows import make_tokenizer, write_all_tokens, write_rows
from mindgeex.data.tokenizers import check_vocab_size, load_tokenizer

logger = logging.getLogger(__name__)

LAYOUT = 2
"""Of the files in `<out>.partial/work`; a build goes on only with files of its own layout."""


@dataclass(frozen=True)
class Built:
    """What `build` did."""

    folder: Path
    manifest: dict[str, Any]
    seconds: dict[str, float]
    """Wall time by stage; empty if the corpus was there already."""

    cpu_seconds: dict[str, float] = field(default_factory=dict)
    """Processor time of the steps of the first stage, over all workers."""

    note: str = ""
    """What the user should know about a corpus that was there already."""


@dataclass(frozen=True)
class Inputs:
    """Everything outside the corpus's folder that decides it, opened and listed."""

    sources: list[Source]
    """Earlier corpora first."""

    names: list[str]
    """What the user called them."""

    parts: list[list[Any]]
    """Of each source."""

    earlier: int
    """So many of the first sources are earlier corpora."""

    benchmarks: Any
    """The index of decontamination.py, or None."""

    identity: dict[str, Any]
    """The configuration, and fingerprints of what it names."""

    @property
    def github(self) -> set[int]:
        """Sources whose repositories must not be in a source before them."""
        return {number for number, name in enumerate(self.names) if name.startswith("github:")}


def build(
    config: BuildConfig,
    out: Path,
    engine: EngineConfig = EngineConfig(),  # noqa: B008 (frozen)
    overwrite: bool = False,
) -> Built:
    """Makes a corpus, goes on with one that was begun, or finds that it is there already.

    Args:
        config: what to build.
        out: the corpus's folder.
        engine: who does the work.
        overwrite: replace a corpus made from another configuration, or build the same one again.

    Raises:
        UserError: a bad source or tokenizer, nothing left after filtering, a folder in the way, a full disk.
    """
    out = target(Path(out)).absolute()  # a worker may have another working directory
    with disk_errors(out):
        if out.exists() and not is_corpus(out) and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out}: is there and is not a corpus: choose another folder for --out")
    there = None if overwrite or not is_corpus(out) else _existing(config, out)
    inputs = _open_inputs(config)
    if there is not None:
        with contextlib.suppress(OSError):  # of a build that was killed after its last step but one
            (out / LOCK).unlink()
        return Built(out, there, {}, note=_changed(inputs, there))
    partial = out.with_name(out.name + PARTIAL)
    steps = _Build(config, inputs, partial)
    with disk_errors(out), sole_writer(partial):
        try:
            if (manifest := steps.finished()) is None:
                steps.prepare()
                manifest = steps.run(engine)
            shutil.rmtree(steps.work, ignore_errors=True)
            publish_folder(partial, out)  # with the lock in it: nobody else may take what is half renamed
            (out / LOCK).unlink(missing_ok=True)
        finally:
            forget()
            if partial.is_dir() and all(entry.name == LOCK for entry in partial.iterdir()):
                shutil.rmtree(partial)
    return Built(out, manifest, steps.seconds, steps.cpu_seconds)


def _open_inputs(config: BuildConfig) -> Inputs:
    if not config.sources:
        raise UserError("no source: name at least one, such as --source local:PATH, or `sources:` in the recipe")
    keys = [canonical(key) for key in config.languages]
    corpora = list(map(_earlier, config.earlier))
    sources = corpora + [open_source(spec, frozenset(keys), config.repositories) for spec in config.sources]
    names = [f"corpus:{folder}" for folder in config.earlier] + list(config.sources)
    fingerprints: dict[str, Any] = {}
    if config.tokenizer.path is not None:
        tokenizer = load_tokenizer(Path(config.tokenizer.path))
        check_tokens(tokenizer, config.fim)
        fingerprints["tokenizer"] = tokenizer.fingerprint
    else:
        check_vocab_size(
            config.tokenizer.vocab_size, config.tokenizer.kind, config.fim.tokens if config.fim.rate else ()
        )
    known = set(keys if config.mixture.by == "language" else config.sources) | {"*"}
    for name in config.mixture.weights:
        if name not in known:
            what = "language" if config.mixture.by == "language" else "source"
            raise UserError(f"mixture.weights.{name}: no such {what} in this recipe; known: {', '.join(sorted(known))}")
    benchmarks = None
    if config.decontamination.benchmarks:
        folders = [Path(folder) for folder in config.decontamination.benchmarks]
        benchmarks = load_benchmarks(folders, config.decontamination)
        fingerprints["benchmarks"] = benchmarks.fingerprint
    parts = []
    for source, name in zip(sources, names, strict=True):
        with progress(f"list {name}, parts") as bar:
            listed = []
            for part in source.parts():
                listed.append(part)
                bar.advance()
            parts.append(listed)
        digest = hashlib.sha256()
        for part in parts[-1]:
            digest.update(f"{part!r}\n".encode("utf-8", "surrogatepass"))
        fingerprints[name] = digest.hexdigest()
    identity = {"layout": LAYOUT, "config": config.identity(), "fingerprints": fingerprints}
    identity["versions"] = versions(grammar_packages())
    return Inputs(sources, names, parts, len(corpora), benchmarks, identity)


def _earlier(folder: str) -> Source:
    try:
        return CorpusSource(folder)
    except UserError as error:
        raise UserError(f"earlier={error}: name the folders of corpora that were built before") from None


def _existing(config: BuildConfig, out: Path) -> dict[str, Any]:
    """The manifest of the corpus that is there, which must be of the same configuration."""
    manifest = Corpus.open(out).manifest
    different = next(_differences(config.identity(), manifest.get("config", {})), None)
    if different:
        key, new, old = different
        raise UserError(
            f"{out}: a corpus built with {key}={old} is there, wanted {key}={new}: "
            "choose another --out, or replace it with --overwrite"
        )
    return manifest


def _changed(inputs: Inputs, manifest: dict[str, Any]) -> str:
    """What is no longer as it was for the corpus that is there."""
    before = manifest.get("fingerprints", {})
    changed = [name for name, value in inputs.identity["fingerprints"].items() if before.get(name) != value]
    return f"{', '.join(changed)} changed since it was built" if changed else ""


def _differences(wanted: Any, there: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Key, value wanted and value there, of each leaf that differs."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        for key in wanted:
            yield from _differences(wanted[key], there.get(key), f"{prefix}{key}.")
    elif wanted != there:
        yield prefix.rstrip("."), wanted, there


class _Build:
    """One build, stage by stage, in `<out>.partial`; what is not for the corpus lies below `work`."""

    def __init__(self, config: BuildConfig, inputs: Inputs, folder: Path):
        self.config, self.inputs, self.folder = config, inputs, folder
        self.work = folder / "work"
        self.languages = tuple(sorted({canonical(key) for key in config.languages}))
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    def finished(self) -> dict[str, Any] | None:
        """The manifest, if a build from the same inputs was killed after writing it."""
        try:
            manifest: dict[str, Any] = read_json(self.folder / "manifest.json")
        except UserError:
            return None
        identity = _as_json(self.inputs.identity)
        return manifest if all(manifest.get(key) == value for key, value in identity.items()) else None

    def prepare(self) -> None:
        """Empties the folder, unless what is there is of a build from the same inputs."""
        identity = _as_json(self.inputs.identity)
        try:
            before = read_json(self.work / "build.json")
        except UserError:
            before = None
        if identity != before:
            if before and (different := next(_differences(identity, before), None)):
                key, new, old = different
                logger.info("%s: begun with %s=%s, now %s: begins anew", self.folder, key, old, new)
            self._empty()
            self.work.mkdir()
            write_json(self.work / "build.json", self.inputs.identity)

    def run(self, engine_config: EngineConfig) -> dict[str, Any]:
        """All stages.

        Returns:
            The manifest.
        """
        config, earlier = self.config, self.inputs.earlier
        with open_engine(engine_config) as engine:
            with self._stage("read and filter"):
                tally = self._read(engine)
                pool = load_pool(tally.outs, tally.sources)
            with self._stage("deduplicate"):
                deduplicate(pool, config, engine, self.work / "near", earlier, self.inputs.github)
            splits = split_documents(pool, config, earlier)
            if not any(len(numbers) for numbers in splits.values()):
                self._empty()
                raise UserError(why_empty(tally, pool, config))
            with self._stage("write documents"):
                documents = write_documents(pool, splits, self.folder, config, engine)
            with self._stage("tokenizer"):
                train_bytes = int(pool.columns["num_bytes"][splits["train"]].sum())
                tokenizer = make_tokenizer(config, self.folder, documents["train"].shards, train_bytes)
            with self._stage("tokenize"):
                for split, written in documents.items():
                    write_all_tokens(written, tokenizer, config, engine, self.work / split)
            with self._stage("pack rows"):
                eod_id = load_tokenizer(tokenizer).eod_id
                names = {"language": self.languages, "source": self.inputs.names}
                rows = {
                    split: write_rows(
                        pool, written, split, self.work / split, eod_id, config, engine, self.folder, names
                    )
                    for split, written in documents.items()
                }
        self.cpu_seconds = dict(tally.cpu_seconds)
        with self._stage("manifest"):
            manifest = make_manifest(self.inputs, self.languages, tally, pool, documents, rows, self.folder)
            write_page(self.folder / "report.html", "Corpus", sections(manifest))
            write_json(self.folder / "manifest.json", manifest)
        return manifest

    def _empty(self) -> None:
        for first in (self.folder / "manifest.json", self.work / "build.json"):
            first.unlink(missing_ok=True)  # killed half-way, what is left must not look like a build
        for entry in self.folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK:
                entry.unlink()

    def _read(self, engine: Engine) -> Tally:
        total = sum(part.num_bytes for parts in self.inputs.parts[self.inputs.earlier :] for part in parts)
        share = 1.0 if self.config.max_bytes is None else self.config.max_bytes / max(1, total)
        index = None
        if self.inputs.benchmarks is not None:
            index = self.work / "benchmarks.pickle"
            index.write_bytes(pickle.dumps(self.inputs.benchmarks))
        tasks: list[ReadTask] = []
        sources: list[int] = []
        for number, (source, parts) in enumerate(zip(self.inputs.sources, self.inputs.parts, strict=True)):
            earlier = number < self.inputs.earlier
            for part in parts:
                out = self.work / "read" / f"{len(tasks):08d}"
                share_here = 1.0 if earlier else share
                name = self.inputs.names[number]
                tasks.append(ReadTask(out, source, part, self.config, self.languages, share_here, index, earlier, name))
                sources.append(number)
        tally = Tally([task.out for task in tasks], sources, self.inputs.earlier)
        sizes = [task.part.num_bytes / 1e6 for task in tasks]
        title = "read and filter, MB"
        results = run_stage(engine, read_part, tasks, title, sum(sizes), sizes.__getitem__, tally.note)
        for number, about in enumerate(results):
            tally.add(sources[number], about)
        return tally

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 2)


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))
