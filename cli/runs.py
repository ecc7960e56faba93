"""`mindgeex runs` and `mindgeex report`: what training runs there are, and pages about them."""

from pathlib import Path
from typing import Annotated

import tyro

WIDTH = 160
"""Columns of the table where there is no terminal."""


def runs(folder: Annotated[Path, tyro.conf.Positional] = Path("runs"), json: bool = False) -> None:
    """List the training runs below a folder: how far each is, its last figures, and whether it lives.

    Args:
        folder: where to look.
        json: print a JSON list instead of a table.
    """
    import time
    from json import dumps, loads

    from rich.console import Console
    from rich.table import Table

    from mindgeex.train.runs import duration, find_runs, read_run

    found = [
        read_run(path, path.relative_to(folder).as_posix() if path != folder else None) for path in find_runs(folder)
    ]
    rows = [run.summary() for run in found]
    if json:
        rows = loads(dumps(rows), parse_constant=lambda _: None)  # JSON has no NaN
        print(dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        print(f"{folder}: no runs")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "model", "step", "loss", "held-out", "tokens", "state", "age", "checkpoints"):
        table.add_column(heading, justify="left" if heading in ("run", "model", "state") else "right", overflow="fold")
    for row in rows:
        table.add_row(
            row["name"],
            row["model"],
            f"{row['step']:,}/{row['steps']:,}" if row["steps"] else f"{row['step']:,}",
            *(f"{row[key]:.3f}" if row[key] is not None else "-" for key in ("loss", "heldout_bits_per_byte")),
            f"{row['tokens']:,}" if row["tokens"] is not None else "-",
            row["state"],
            duration(time.time() - row["updated"]),
            f"{row['checkpoint_bytes'] / 1e6:,.1f} MB",
        )
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table, soft_wrap=False)
    for row in rows:
        if row["detail"]:
            console.print(f"{row['name']}: {row['state']}: {row['detail']}")
    console.print("held-out: bits per byte; age: since a run last said anything")


def report(
    run: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path | None = None,
    data: Path | None = None,
    ngram_rows: int = 0,
    samples: int = 0,
) -> None:
    """Write an HTML page about a run, or one that compares several, finished or not.

    Args:
        run: folders of runs.
        out: the page; report.html in the run's folder by default, or ./comparison.html.
        data: the run's corpus, to measure xz and the 5-gram model on its held-out text; kept in RUN/baselines.json.
        ngram_rows: rows of the corpus that the 5-gram model is trained on; 0: no such model.
        samples: languages of which the newest checkpoint continues the beginning of a held-out document.
    """
    from mindgeex.common.errors import UserError
    from mindgeex.common.html import write_page
    from mindgeex.data.mindrecord import Corpus
    from mindgeex.train import report as pages
    from mindgeex.train.runs import named
    from mindgeex.train.samples import write_samples

    for option, value in (("--ngram-rows", ngram_rows), ("--samples", samples)):
        if value < 0 or (value and data is None):
            raise UserError(f"{option} {value}: at least 0, and with --data CORPUS, of which they are")
    if data is not None:
        for folder in run:
            pages.measure_baselines(folder, data, ngram_rows)
            if samples:
                write_samples(folder, Corpus.open(data), samples)
    if len(run) == 1:
        path, title = out or run[0] / "report.html", f"Training run {run[0].resolve().name}"
        write_page(path, title, pages.sections(run[0]))
    else:
        path, title = out or Path("comparison.html"), f"{len(run)} training runs"
        write_page(path, title, pages.comparison(named(run)))
    print(f"report: {path}")
