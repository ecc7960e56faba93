"""Last stages: the tokenizer, the documents' tokens, the mixture, and rows in MindRecord shards.

Which tokens stand in which row is planned from the documents' lengths alone, so every shard is a task of its own.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mindgeex.common.files import atomic_folder
from mindgeex.common.progress import progress
from mindgeex.data.config import BuildConfig
from mindgeex.data.document import Document, read_shard
from mindgeex.data.engines import Engine
from mindgeex.data.fim import FimRules, encode_document
from mindgeex.data.languages import language_tag
from mindgeex.data.mixture import choose
from mindgeex.data.packing import ShardPlan, fill, plan_packed, plan_windows
from mindgeex.data.shards import write_shard
from mindgeex.data.stages import kept_by_worker, run_stage
from mindgeex.data.stages.documents import SplitDocuments
from mindgeex.data.stages.pool import Pool
from mindgeex.data.tokenizers import load_tokenizer, train_tokenizer
from mindgeex.data.tokenizers.texts import sample
from mindgeex.data.tokens import TokenStore, write_tokens

_loaded = kept_by_worker(load_tokenizer)


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
    tokens: Path
    """Folder of the split's tokens."""
    eod_id: int
    pad_id: int | None
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
        texts = (document.text for document in sample(documents(), share, config.seed))
        special = config.fim.tokens if config.fim.rate else ()
        train_tokenizer(texts, settings.vocab_size, out, kind=settings.kind, special=special)
    return out


def write_all_tokens(
    documents: SplitDocuments, tokenizer: Path, config: BuildConfig, engine: Engine, folder: Path
) -> None:
    """Tokenizes every shard of documents of a split into files below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [
        TokensTask(folder / f"{number:08d}.tokens", shard, tokenizer, config.fim, config.seed)
        for number, shard in enumerate(documents.shards)
    ]
    for _ in run_stage(engine, write_tokens_of, tasks, f"tokenize {folder.name} documents, shards", len(tasks)):
        pass


def write_tokens_of(task: TokensTask) -> None:
    """Tokenizes one shard of documents, unless that is done."""
    if task.out.exists():
        return
    tokenizer = _loaded(task.tokenizer)
    rules, seed = task.fim, str(task.seed)
    write_tokens(
        task.out,
        (
            encode_document(d.text, language_tag(d.language), tokenizer, rules, (seed, d.repo, d.path))
            for d in read_shard(task.shard)
        ),
    )


def write_rows(
    pool: Pool,
    documents: SplitDocuments,
    split: str,
    tokens: Path,
    eod_id: int,
    config: BuildConfig,
    engine: Engine,
    folder: Path,
    names: dict[str, Sequence[str]],
) -> SplitRows:
    """Plans and fills the rows of a split, in the shares of the mixture, and writes their shards.

    Args:
        pool: all documents.
        documents: those of the split.
        split: its name.
        tokens: folder of its tokens.
        eod_id: closes a document.
        config: of the build.
        engine: fills and writes.
        folder: the corpus's.
        names: what the columns of languages and sources number, by `mixture.by`.
    """
    lengths = open_store(tokens).lengths
    times = np.ones(len(lengths), np.int64)
    summary: dict[str, Any] = {}
    if split == "train" and config.mixture.weights:
        groups = {"language": pool.columns["language"], "source": pool.source}[config.mixture.by][documents.numbers]
        hashes = _order_hashes(pool.columns["digest"][documents.numbers, 0], config.seed)
        times, summary = choose(groups, names[config.mixture.by], lengths + 1, hashes, config.mixture)
    order = np.concatenate([np.flatnonzero(times > epoch) for epoch in range(times.max(initial=1))])
    settings = config.rows
    total = None
    if settings.packing == "packed":
        rows = -(-int((lengths[order] + 1).sum()) // (config.seq_length + 1))
        total = -(-rows // settings.rows_per_shard)
        plans = plan_packed(lengths[order], config.seq_length, settings.rows_per_shard)
    else:
        plans = plan_windows(lengths[order], config.seq_length, settings.rows_per_shard, settings.window_stride)
    (folder / "shards").mkdir(exist_ok=True)
    tasks = (
        ShardTask(folder / "shards", split, number, plan.renumbered(order), tokens, eod_id, settings.pad_id)
        for number, plan in enumerate(plans)
    )
    shards = list(run_stage(engine, write_one_shard, tasks, f"pack {split} rows, shards", total))
    return SplitRows(shards, lengths + 1, times, summary)


def write_one_shard(task: ShardTask) -> dict[str, Any]:
    """Writes one shard of rows, unless it is there.

    Returns:
        What the manifest says of it.
    """
    store = open_store(task.tokens)
    return write_shard(lambda: fill(task.plan, store, task.eod_id, task.pad_id), task.folder, task.split, task.number)


@kept_by_worker
def open_store(folder: Path) -> TokenStore:
    """The tokens of a split; opened once a worker."""
    return TokenStore(sorted(folder.glob("*.tokens")))


def _order_hashes(digests: np.ndarray, seed: int) -> np.ndarray:
    """float64 [documents] in [0, 1): which of a group's documents go first; by content and seed alone."""
    mixed = (digests ^ np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2**53
