"""`mindgeex data build`: raw code to a corpus."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mindgeex.data.filters import Rules
from mindgeex.data.languages import DEFAULT_LANGUAGES


def build(
    source: Annotated[tuple[str, ...], tyro.conf.UseAppendAction],
    out: Path,
    seq_length: int = 256,
    tokenizer: Path | None = None,
    vocab_size: int = 4096,
    tokenizer_bytes: int = 16_000_000,
    languages: tuple[str, ...] = DEFAULT_LANGUAGES,
    rules: Rules = Rules(),  # noqa: B008 (frozen)
    heldout_share: float = 0.05,
    packing: Literal["packed", "windows"] = "packed",
    window_stride: int = 200,
    max_bytes: int | None = None,
    seed: int = 1,
    workers: int = 1,
    rows_per_shard: int = 1 << 16,
    overwrite: bool = False,
) -> None:
    """Turn raw code into MindRecord shards with a manifest.

    Filters by CodeGeeX's rules, drops exact duplicates, holds out whole repositories, tokenizes and packs. A corpus
    that is there already, from the same options, is left as it is.

    Args:
        source: Where the code is, `local:PATH`; may be given several times.
        out: Folder of the corpus.
        seq_length: Tokens of input a row. CodeGeeX: 2048.
        tokenizer: Folder with vocab.json and merges.txt. Without it, one is trained on the corpus.
        vocab_size: Size of the tokenizer to train.
        tokenizer_bytes: Train it on about so many bytes.
        languages: Keys of the languages to keep.
        rules: Thresholds of the filters.
        heldout_share: Share of the repositories to hold out.
        packing: `packed`: documents one behind the other; `windows`: one a row, padded, as CodeGeeX was trained.
        window_stride: Tokens from one window to the next.
        max_bytes: Read about so many bytes: a sample of the files by a hash of their names.
        seed: Of the split and the sample.
        workers: Processes. The result does not depend on it.
        rows_per_shard: Rows in a MindRecord shard.
        overwrite: Replace a corpus that is there.
    """
    from mindgeex.data import pipeline
    from mindgeex.data.config import BuildConfig

    config = BuildConfig(
        sources=source,
        seq_length=seq_length,
        tokenizer=None if tokenizer is None else str(tokenizer),
        vocab_size=vocab_size,
        tokenizer_bytes=tokenizer_bytes,
        languages=languages,
        rules=rules,
        heldout_share=heldout_share,
        packing=packing,
        window_stride=window_stride,
        max_bytes=max_bytes,
        seed=seed,
        workers=workers,
        rows_per_shard=rows_per_shard,
    )
    show(pipeline.build(config, out, overwrite))


def show(built: object) -> None:
    """Prints the summary of a `pipeline.Built`."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    result = dataclasses.asdict(built)  # type: ignore[call-overload]
    manifest, seconds = result["manifest"], result["seconds"]
    console = Console()
    table = Table("language", title=escape(str(result["folder"])))
    for heading in ("train files", "train MB", "held-out files", "held-out MB", "tokens"):
        table.add_column(heading, justify="right")
    train, heldout = (manifest["splits"][split]["languages"] for split in ("train", "heldout"))
    none = {"documents": 0, "bytes": 0, "tokens": 0}
    rows = {key: (train.get(key, none), heldout.get(key, none)) for key in {*train, *heldout}}
    for key, (a, b) in sorted(rows.items(), key=lambda item: -item[1][0]["bytes"] - item[1][1]["bytes"]):
        cells = (a["documents"], a["bytes"] / 1e6, b["documents"], b["bytes"] / 1e6, a["tokens"] + b["tokens"])
        table.add_row(key, *(f"{cell:,.2f}" if isinstance(cell, float) else f"{cell:,}" for cell in cells))
    console.print(table)
    documents = manifest["documents"]
    drops = ", ".join(f"{reason} {count:,}" for reason, count in documents["dropped"].items())
    console.print(
        f"{documents['in']:,} files in, {documents['kept']:,} kept, dropped: {drops or 'none'}", highlight=False
    )
    tokenizer, splits = manifest["tokenizer"], manifest["splits"]
    console.print(
        f"{splits['train']['rows']:,} train rows, {splits['heldout']['rows']:,} held-out rows of "
        f"{manifest['config']['seq_length']} tokens; "
        f"{tokenizer['vocab_size']:,} ids, {tokenizer['bytes_per_token']:.2f} bytes a token",
        highlight=False,
    )
    stages = ", ".join(f"{stage} {value:.1f} s" for stage, value in seconds.items())
    console.print(stages or "already built from these options; --overwrite builds it again", highlight=False)
