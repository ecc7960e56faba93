"""Last stages: the tokenizer, the documents' tokens, the mixture, and rows in MindRecord shards.

Which tokens stand in which row is planned from the documents' lengths alone, so every shard is a task of its own.
"""

import collections
import functools
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mindgeex.common.files import atomic_folder
from mindgeex.common.progress import progress
from mindgeex.data.config import BuildConfig
from mindgeex.data.document import Document, read_shard
from mindgeex.data.engines import Engine
from mindgeex.data.fim import FimRules
from mindgeex.data.languages import language_tag
from mindgeex.data.mixture import choose
from mindgeex.data.packing import ShardPlan, fill, plan_packed, plan_windows
from mindgeex.data.split import unit_hash
from mindgeex.data.stages import run_stage
from mindgeex.data.stages.documents import SplitDocuments
from mindgeex.data.stages.pool import Pool
from mindgeex.data.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from mindgeex.data.tokens import TokenStore, write_tokens

_loaded = functools.lru_cache(maxsize=1)(load_tokenizer)


@dataclass(frozen=True)
class TokensTask:
    """One shard of documents for one worker."""

    out: Path
    shard: Path
    tokenizer: Path
    fim: FimRules
    seed: int
    attempt: int = 0


@dataclass(frozen=True)
class ShardTask:
    """One shard of rows for one worker."""

    folder: Path
    split: str
    number: int
    plan: ShardPlan
    tokens: tuple[Path, ...]
    eod_id: int
    pad_id: int | None
    seq_length: int
    attempt: int = 0


@dataclass(frozen=True)
class SplitRows:
    """The rows of a split."""

    shards: list[dict[str, Any]]
    """What the manifest says of each shard."""

    lengths: np.ndarray
    """int64 [documents], tokens with EOD."""

    times: np.ndarray
    """int64 [documents], how often the mixture takes each."""

    mixture: dict[str, Any] = field(default_factory=dict)
    """What `mixture.choose` says: wanted and reached."""


def make_tokenizer(config: BuildConfig, folder: Path, train: Sequence[Path], train_bytes: int) -> Path:
    """Copies the given tokenizer, or trains one, into `folder`/tokenizer, unless it is there."""
    out = folder / "tokenizer"
    if out.is_dir():
        return out
    settings = config.tokenizer
    if settings.path is not None:
        tokenizer = load_tokenizer(Path(settings.path))
        with atomic_folder(out) as partial:
            for name in tokenizer.files():
                shutil.copyfile(Path(settings.path) / name, partial / name)
        return out
    with progress("train the tokenizer, shards", len(train)) as bar:

        def documents() -> Iterator[Document]:
            for path in train:
                yield from read_shard(path)
                bar.advance()

        share = settings.sample_bytes / max(1, train_bytes)
        texts = training_texts(documents(), share, config.seed)
        special = config.fim.tokens if config.fim.rate else ()
        train_tokenizer(texts, settings.vocab_size, out, kind=settings.kind, special=special)
    return out


def training_texts(documents: Iterable[Document], share: float, seed: int) -> Iterator[str]:
    """What a tokenizer learns from: a sample of the documents, by a hash of their names, without tags."""
    for document in documents:
        if share >= 1 or unit_hash(seed, "tokenizer", document.repo, document.path) < share:
            yield document.text


def write_all_tokens(
    documents: SplitDocuments, split: str, tokenizer: Path, config: BuildConfig, engine: Engine, work: Path
) -> tuple[Path, ...]:
    """Tokenizes every shard of documents of a split."""
    work.mkdir(parents=True, exist_ok=True)
    tasks = [
        TokensTask(work / f"{split}-{number:05d}.npy", shard, tokenizer, config.fim, config.seed)
        for number, shard in enumerate(documents.shards)
    ]
    for _ in run_stage(engine, write_tokens_of, tasks, f"tokenize {split} documents, shards"):
        pass
    return tuple(task.out for task in tasks)


def write_tokens_of(task: TokensTask) -> None:
    """Tokenizes one shard of documents, unless that is done."""
    if task.out.exists():
        return
    tokenizer = _loaded(task.tokenizer)
    write_tokens(task.out, (document_tokens(document, tokenizer, task) for document in read_shard(task.shard)))


def tagged(document: Document) -> str:
    """The text a model sees: CodeGeeX's tag line, then the file."""
    tag = language_tag(document.language)
    return f"{tag}\n{document.text}" if tag else document.text


def document_tokens(document: Document, tokenizer: Tokenizer, task: TokensTask) -> np.ndarray:
    """The document's ids without EOD, int32: tag line and text, or the three pieces of fill-in-the-middle."""
    from mindgeex.data.fim import apply

    if task.fim.rate:
        key = (str(task.seed), document.repo, document.path)
        return np.array(apply(document.text, language_tag(document.language), tokenizer, task.fim, key), np.int32)
    return tokenizer.encode_array(tagged(document), eod_in_text=False)


def write_rows(
    pool: Pool,
    documents: SplitDocuments,
    split: str,
    tokens: tuple[Path, ...],
    eod_id: int,
    config: BuildConfig,
    engine: Engine,
    folder: Path,
    source_names: Sequence[str],
    languages: Sequence[str],
) -> SplitRows:
    """Plans and fills the rows of a split, in the shares of the mixture, and writes their shards."""
    lengths = TokenStore(tokens).lengths if tokens else np.zeros(0, np.int64)
    times, summary = np.ones(len(lengths), np.int64), {}
    if split == "train" and config.mixture.weights:
        by_language = config.mixture.by == "language"
        groups = pool.columns["language"] if by_language else pool.source
        names = languages if by_language else source_names
        hashes = _order_hashes(pool, documents.numbers, config.seed)
        times, summary = choose(groups[documents.numbers], names, lengths + 1, hashes, config.mixture)
    order = np.concatenate([np.flatnonzero(times > epoch) for epoch in range(int(times.max(initial=0)))] or [times])
    settings = config.rows
    if settings.packing == "packed":
        plans = plan_packed(lengths[order], config.seq_length, settings.rows_per_shard)
    else:
        plans = plan_windows(lengths[order], config.seq_length, settings.rows_per_shard, settings.window_stride)
    (folder / "shards").mkdir(exist_ok=True)
    tasks = [
        ShardTask(
            folder / "shards", split, number, plan.renumbered(order), tokens, eod_id, settings.pad_id, config.seq_length
        )
        for number, plan in enumerate(plans)
    ]
    shards = list(run_stage(engine, write_one_shard, tasks, f"pack {split} rows, shards"))
    return SplitRows(shards, lengths + 1, times, summary)
