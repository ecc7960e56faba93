"""What came out of a run, from its folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindgeex.train.baselines import load_or_measure
from mindgeex.train.callbacks.metrics import METRICS_FILE, read_metrics
from mindgeex.train.checkpointing import checkpoint_path
from mindgeex.train.evaluation import ALL
from mindgeex.train.feed import CorpusFeed
from mindgeex.train.run_data import RunData


@dataclass(frozen=True)
class Summary:
    """The figures of a run that has ended, or was stopped."""

    checkpoint: Path
    parameters: int
    steps: int
    loss: float | None
    """Of the last step that was logged, nats per token; None if none was."""
    tokens_per_s: float | None
    """Median over the steps that were logged."""
    bits_per_byte_before: float | None = None
    """Of held-out text; None if the data hold none."""
    bits_per_byte_after: float | None = None
    xz_bits_per_byte: float | None = None
    """What `xz -9` reaches on the bytes that the held-out figures are about."""
    heldout_bytes: int = 0
    task_losses_before: dict[str, float] | None = None
    """Held-out nats per answer token of each task, of a fine-tuning run."""
    task_losses_after: dict[str, float] | None = None
    evaluated: int = 0
    """The step that the later held-out figures are of; a run that is stopped is not evaluated there."""

    def lines(self) -> list[str]:
        """For the end of a run, on a terminal."""
        pace = f", {self.tokens_per_s:,.0f} tokens/s" if self.tokens_per_s is not None else ""
        lines = [f"{self.steps} steps, {self.parameters:,} parameters{pace}"]
        later = "after" if self.evaluated == self.steps else f"at step {self.evaluated}"
        if self.bits_per_byte_before is not None:
            lines.append(
                f"held-out bits per byte: {self.bits_per_byte_before:.3f} before, "
                f"{self.bits_per_byte_after:.3f} {later}; "
                f"xz -9 on the same text: {self.xz_bits_per_byte:.3f}"
            )
        if self.task_losses_before and self.task_losses_after:
            for name, before in self.task_losses_before.items():
                after = self.task_losses_after.get(name, before)
                lines.append(
                    f"held-out loss of {name}: {before:.3f} before, {after:.3f} {later} (nats per answer token)"
                )
        return [*lines, f"checkpoint: {self.checkpoint}"]


def summarise(run_folder: Path, data: RunData, steps: int) -> Summary:
    """The figures after so many steps, from metrics.jsonl and baselines.json, which is measured if it is not there."""
    lines = read_metrics(run_folder / METRICS_FILE)
    logged = [line for line in lines if "loss" in line]
    rates = sorted(line["tokens_per_s"] for line in logged)

    def first_and_last(key: str) -> tuple[Any, Any]:
        values = [line[key] for line in lines if key in line]
        return (values[0], values[-1]) if values else (None, None)

    corpus = data.feed.corpus if isinstance(data.feed, CorpusFeed) else None
    about = load_or_measure(run_folder, corpus, data.heldout)["sets"][ALL] if corpus is not None else {}
    return Summary(
        checkpoint_path(run_folder / "checkpoints", steps),
        data.model.parameters,
        steps,
        logged[-1]["loss"] if logged else None,
        rates[len(rates) // 2] if rates else None,
        *first_and_last("heldout_bits_per_byte"),
        about.get("xz"),
        about.get("bytes", 0),
        *first_and_last("heldout_loss"),
        max((line["step"] for line in lines if "heldout_bits_per_byte" in line or "heldout_loss" in line), default=0),
    )
