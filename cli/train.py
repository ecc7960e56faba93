"""`mindgeex train`."""

import logging
from pathlib import Path


def train(
    data: Path, recipe: str = "codegeex_tiny", out: Path | None = None, resume: bool = False, set: tuple[str, ...] = ()
) -> None:  # noqa: A002
    """Train a model from a recipe on a corpus that `mindgeex data build` made.

    Writes checkpoints, metrics.jsonl, TensorBoard events and report.html below the run's folder.

    Args:
        data: folder of the corpus.
        recipe: name of a shipped recipe (codegeex_tiny, codegeex_13b), or path of a YAML file.
        out: folder of the run; runs/RECIPE by default.
        resume: go on from the last whole checkpoint in the run's folder.
        set: settings that differ from the recipe, such as schedule.peak=1e-3 steps=50.
    """
    from mindgeex.common.html import write_page
    from mindgeex.train.config import load_recipe
    from mindgeex.train.report import sections
    from mindgeex.train.trainer import train as run_training

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = load_recipe(recipe, set)
    folder = out or Path("runs") / Path(recipe).stem
    summary = run_training(config, data, folder, resume)
    write_page(folder / "report.html", f"Training run {folder.name}", sections(folder, summary))
    print(
        f"{summary.steps} steps, {summary.parameters:,} parameters, {summary.tokens_per_s:,.0f} tokens/s\n"
        f"held-out bits per byte: {summary.bits_per_byte_before:.3f} before, {summary.bits_per_byte_after:.3f} after; "
        f"xz -9 on the same text: {summary.xz_bits_per_byte:.3f}\n"
        f"checkpoint: {summary.checkpoint}\nreport: {folder / 'report.html'}"
    )
