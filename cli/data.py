"""`mindgeex data ...`: raw code to a corpus, and what is in one."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from mindgeex.data.pipeline import Built


def build(
    out: Path,
    recipe: Annotated[str, tyro.conf.Positional] = "small",
    source: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    set: tuple[str, ...] = (),  # noqa: A002
    workers: int | None = None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    overwrite: bool = False,
) -> None:
    """Turn raw code into MindRecord shards with a manifest and a report.

    Reads the sources, applies the recipe's rules, drops copies and what benchmarks contain, holds out whole
    repositories, tokenizes and packs. Killed, the same command goes on; a corpus that is there already, from the same
    settings, is left as it is.

    Args:
        out: folder of the corpus.
        recipe: name of a shipped recipe (small, codegeex, codefuse, permissive), or path of a YAML file.
        source: KIND:PATH, where KIND is local, archives, pile, codeparrot, jsonl, github or corpus; may be given
            several times; replaces the recipe's.
        set: settings that differ from the recipe, such as seq_length=2048 tokenizer.path=FOLDER; `data recipe`
            prints all there are.
        workers: processes; all cores by default. The corpus does not depend on it.
        engine: local: this machine; ray: a Ray cluster whose nodes share OUT and the sources.
        address: of a running Ray cluster, such as auto; without it, one is started here.
        overwrite: replace a corpus that is there.
    """
    import dataclasses
    import logging
    import signal

    from mindgeex.data import pipeline
    from mindgeex.data.config import load_recipe
    from mindgeex.data.engines import EngineConfig

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    signal.signal(signal.SIGTERM, _end)
    config = load_recipe(recipe, set)
    if source:
        config = dataclasses.replace(config, sources=source)
    if workers is None:
        workers = 0 if address else len(os.sched_getaffinity(0))
    show(pipeline.build(config, out, EngineConfig(engine, workers, address), overwrite))


def _end(number: int, frame: object) -> None:
    """SIGTERM: the workers end, too, and the same command goes on later."""
    print("mindgeex: terminated", file=sys.stderr)
    raise SystemExit(128 + number)


def recipe(name: Annotated[str, tyro.conf.Positional] = "small", set: tuple[str, ...] = ()) -> None:  # noqa: A002
    """Print every setting of a recipe as YAML, to be changed and given to `mindgeex data build`.

    Args:
        name: of a shipped recipe, or path of a YAML file.
        set: settings that differ from it.
    """
    import yaml

    from mindgeex.common.config import as_tree
    from mindgeex.data.config import load_recipe

    print(yaml.safe_dump(as_tree(load_recipe(name, set)), sort_keys=False, allow_unicode=True, width=120), end="")


def show(built: "Built") -> None:
    """Prints what a build made, and how long it took."""
    from rich.console import Console
    from rich.table import Table

    from mindgeex.data.summary import render

    console = Console()
    for item in render(built.manifest):
        console.print(item, highlight=False)
    if not built.seconds:
        console.print(
            f"already built from these settings{built.note and ', but '}{built.note}; --overwrite builds anew",
            markup=False,
        )
        return
    num_bytes = built.manifest["documents"]["bytes_in"]
    if built.cpu_seconds:
        table = Table("step", title="reading, by step")
        for heading in ("s of processor time", "MB/s per core"):
            table.add_column(heading, justify="right")
        for step, seconds in sorted(built.cpu_seconds.items(), key=lambda item: -item[1]):
            table.add_row(step, f"{seconds:.1f}", f"{num_bytes / 1e6 / max(seconds, 1e-9):,.1f}")
        console.print(table)
    total = sum(built.seconds.values())
    stages = ", ".join(f"{stage} {value:.1f} s" for stage, value in built.seconds.items())
    console.print(f"{stages}; {num_bytes / 1e6 / max(total, 1e-9):.2f} MB/s of text in all", highlight=False)
    console.print(f"report: {built.folder / 'report.html'}", highlight=False, markup=False, soft_wrap=True)


def stats(corpus: Annotated[Path, tyro.conf.Positional]) -> None:
    """Print what is in a corpus: languages, drops, duplicates, tokens.

    Args:
        corpus: its folder.
    """
    from rich.console import Console

    from mindgeex.data.mindrecord import Corpus
    from mindgeex.data.summary import render

    for item in render(Corpus.open(corpus).manifest):
        Console().print(item, highlight=False)


def inspect(
    corpus: Annotated[Path, tyro.conf.Positional],
    rows: int = 3,
    start: int = 0,
    split: Literal["train", "heldout"] = "train",
    shuffle: bool = False,
    seed: int = 1,
    ids: bool = False,
) -> None:
    """Print rows of a corpus as text, as a model sees them.

    Args:
        corpus: its folder.
        rows: how many.
        start: how many rows of the order to pass over.
        split: train or heldout.
        shuffle: in the order of a training run instead of the shards'.
        seed: of that order.
        ids: print the token ids, too.
    """
    import itertools

    from rich.console import Console

    from mindgeex.common.errors import UserError
    from mindgeex.data.mindrecord import Corpus

    if rows < 1 or start < 0:
        raise UserError(f"--rows {rows} --start {start}: at least one row, and a start of at least 0")
    opened = Corpus.open(corpus)
    tokenizer, total = opened.tokenizer(), opened.num_rows(split)
    if start >= total:
        raise UserError(f"--start {start}: split {split!r} of {corpus} has {total} rows: start below that")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    batches = opened.batches(split, 1, seed, start_row=start, shuffle=shuffle, epochs=None if shuffle else 1)
    for number, (row,) in enumerate(itertools.islice(batches, min(rows, total - start)), start):
        real = int((row != opened.eod_id).sum())
        console.rule(f"{split} row {number} of {total}: {real} of {len(row)} tokens are not {tokenizer.eod_id} (EOD)")
        console.print(tokenizer.decode(row.tolist()))
        if ids:
            console.print(" ".join(map(str, row.tolist())))


def verify(corpus: Annotated[Path, tyro.conf.Positional]) -> int:
    """Check every file of a corpus against its manifest, and read every row.

    Args:
        corpus: its folder.
    """
    from mindgeex.data.mindrecord import verify as problems_of

    count = 0
    for problem in problems_of(corpus):
        print(problem)
        count += 1
    print(f"{corpus}: {count} problem{'s' * (count != 1)}" if count else f"{corpus}: as it was built")
    return 1 if count else 0


def merge(corpora: Annotated[tuple[Path, ...], tyro.conf.Positional], out: Path) -> None:
    """Make one corpus of several that have the same tokenizer and row length.

    Args:
        corpora: their folders, in the order of their rows.
        out: folder of the new one; files are hard-linked where the disk allows it.
    """
    from rich.console import Console

    from mindgeex.data.merge import merge as merge_corpora
    from mindgeex.data.summary import render

    manifest = merge_corpora(corpora, out)
    for item in render(manifest):
        Console().print(item, highlight=False)
