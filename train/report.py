"""The report of a training run: the loss curve, the held-out curve beside xz, and the figures of the summary."""

from pathlib import Path

from mindgeex.common.html import Section
from mindgeex.train.callbacks.metrics import METRICS_FILE, read_metrics
from mindgeex.train.trainer import Summary


def sections(run_folder: Path, summary: Summary) -> list[Section]:
    """What to show of a finished run."""
    from matplotlib.figure import Figure

    lines = read_metrics(run_folder / METRICS_FILE)
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    heldout = [(line["step"], line["heldout_bits_per_byte"]) for line in lines if "heldout_bits_per_byte" in line]
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*losses, strict=True), linewidth=1)
    left.set(xlabel="step", ylabel="nats per token", title="training loss")
    right.plot(*zip(*heldout, strict=True), marker="o", label="model")
    right.axhline(summary.xz_bits_per_byte, linestyle="--", color="gray", label="xz -9 on the same text")
    right.set(xlabel="step", ylabel="bits per byte", title="held-out text", ylim=(0, None))
    right.legend()

    section = Section("Training").figure(figure)
    section.table(
        ("figure", "value"),
        [
            ("parameters", summary.parameters),
            ("steps", summary.steps),
            ("training loss at the end (nats per token)", summary.loss),
            ("held-out bits per byte before", summary.bits_per_byte_before),
            ("held-out bits per byte after", summary.bits_per_byte_after),
            ("xz -9 on the same text (bits per byte)", summary.xz_bits_per_byte),
            ("held-out text (bytes)", summary.heldout_bytes),
            ("tokens per second (median)", summary.tokens_per_s),
            ("checkpoint", str(summary.checkpoint)),
        ],
    )
    section.text(
        "Bits per byte does not depend on the tokenizer. xz sees the whole text before it reports its figure and may "
        "refer back to all of it; the model has only read other repositories and sees one window at a time."
    )
    return [section]
