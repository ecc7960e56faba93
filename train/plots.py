"""Pictures of training runs: the curves of one with marks where something happened, held-out text, several runs.

A picture's size does not grow with the run's length: of long curves the least and the greatest value of each of
MAX_POINTS spans is drawn. Does not cover: curves of single workers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mindgeex.train.evaluation import ALL
from mindgeex.train.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[Sequence[float], Sequence[float]]
"""Steps and values."""
MAX_POINTS = 600
MAX_MARKS = 200
"""Of each kind; the newest."""

SMOOTHED_SHARE = 0.02
SMOOTHED_STEPS = 8
"""A smoothed value remembers about so large a share of the curve, and at least so many of its points."""

MARKS = {
    "resumed": "tab:blue", "stopped": "tab:cyan", "skipped": "tab:orange", "rolled_back": "tab:red", "failed": "black",
    "overflow": "darkgray", "spike": "tab:purple",
}  # fmt: skip
"""Events that are marked on the curves, and their colours."""

PANELS = (
    ("loss", "training loss", "nats per token", "linear"),
    ("learning_rate", "learning rate", "", "linear"),
    ("grad_norm", "gradient norm before clipping", "", "log"),
    ("loss_scale", "loss scale", "", "log"),
    ("tokens_per_s", "tokens a second", "", "linear"),
    ("mfu", "model FLOPs, share of the peak", "", "linear"),
)
"""Figure of the metrics, title, unit, scale."""
NOISY = ("loss", "grad_norm", "tokens_per_s", "mfu")
"""Drawn faintly, and smoothed on top."""


def curves(run: Run) -> "Figure | None":
    """A panel for each figure that the run has recorded; None if it has recorded no step."""
    from matplotlib.figure import Figure

    panels = [panel for panel in PANELS if run.curve(panel[0])[0]]
    if not panels:
        return None
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(10, 2.9 * rows), layout="constrained")
    all_axes = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes, (name, title, unit, scale) in zip(all_axes, panels, strict=False):
        steps, values = (np.array(of, float) for of in run.curve(name))
        is_smoothed = name in NOISY and len(values) > 20
        axes.plot(*thinned(steps, values), linewidth=0.8, alpha=0.4 if is_smoothed else 1, label="each step")
        if is_smoothed:
            axes.plot(*thinned(steps, smoothed(values)), linewidth=1.4, color="tab:blue", label="smoothed")
        axes.set(xlabel="step", ylabel=unit, title=title, yscale=scale if (values > 0).any() else "linear")
        _mark(axes, run, with_label=name == "loss")
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    all_axes[0].legend(fontsize=8)
    return figure


def _mark(axes: "Axes", run: Run, with_label: bool) -> None:
    """Vertical lines where something happened."""
    for name, colour in MARKS.items():
        steps = sorted({event.get("step", 0) for event in run.events if event["event"] == name})
        for number, step in enumerate(steps[-MAX_MARKS:]):
            label = name.replace("_", " ") if with_label and number == 0 else None
            axes.axvline(step, color=colour, linewidth=0.8, linestyle=":", label=label)


def heldout(run: Run, found: Mapping[str, Curve], sets: Mapping[str, Any]) -> "Figure":
    """Bits per byte of each text by step, and the last ones beside what xz and a 5-gram model need.

    Args:
        run: the run.
        found: name of the text, ALL first -> its curve.
        sets: name of the text -> its baselines, as far as they are there.
    """
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, max(3.8, 1.4 + 0.26 * len(found))), layout="constrained")
    left, right = figure.subplots(1, 2)
    if len(found) > 10:
        left.set_prop_cycle(color=matplotlib.colormaps["tab20"].colors)  # type: ignore[attr-defined]
    for name, curve in found.items():
        style: dict[str, Any] = {"linewidth": 2, "color": "black", "zorder": 3} if name == ALL else {"linewidth": 0.9}
        left.plot(*curve, marker=".", label=name, **style)
    for key, label, line in (("xz", "xz -9", "--"), ("ngram", "5-gram model", ":")):
        if key in sets.get(ALL, {}):
            left.axhline(sets[ALL][key], linestyle=line, color="gray", label=f"{label}, {ALL}")
    left.set(xlabel="step", ylabel="bits per byte", title="by step", ylim=(0, None))
    _mark(left, run, with_label=False)
    names = list(found)
    bars = _last_and_baselines(found, sets)
    for place, (label, values) in enumerate(bars.items()):
        shift = (place - (len(bars) - 1) / 2) * 0.8 / len(bars)
        right.barh(np.arange(len(names)) + shift, values, height=0.75 / len(bars), label=label)
    right.set(xlabel="bits per byte", title="now", yticks=range(len(names)), yticklabels=names)
    right.invert_yaxis()
    for axes in (left, right):
        axes.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
    return figure


def _last_and_baselines(found: Mapping[str, Curve], sets: Mapping[str, Any]) -> dict[str, list[float]]:
    """What is drawn side by side: the model's last figures, then each baseline that any text has."""
    bars = {"model": [values[-1] for _, values in found.values()]}
    for key, label in (("xz", "xz -9"), ("ngram", "5-gram model")):
        values = [sets.get(name, {}).get(key, math.nan) for name in found]
        if not np.isnan(values).all():
            bars[label] = values
    return bars


def compared(runs: Sequence[Run]) -> "Figure":
    """Loss and held-out bits per byte, by tokens and by hours; by steps where a run does not say how many tokens."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    grid = figure.subplots(2, 2)
    has_tokens = all(run.tokens(line) is not None for run in runs for line in run.metrics)
    for run in runs:
        tokens = {line["step"]: run.tokens(line) if has_tokens else line["step"] for line in run.metrics}
        hours = run.hours()
        for row, name in enumerate(("loss", "heldout_bits_per_byte")):
            steps, values = run.curve(name)
            shown = smoothed(np.array(values, float)) if name == "loss" else np.array(values, float)
            for axes, places in ((grid[row][0], tokens), (grid[row][1], hours)):
                at = np.array([places[step] for step in steps], float)
                axes.plot(*thinned(at, shown), label=run.name, linewidth=1.2, marker="." if row else None)
    titles = ("training loss, smoothed (nats per token)", "held-out text (bits per byte)")
    for row, column in np.ndindex(2, 2):
        unit = "hours of training" if column else "tokens" if has_tokens else "steps"
        grid[row][column].set(xlabel=unit, title=titles[row])
    grid[0][0].legend(fontsize=8)
    return figure


def smoothed(values: np.ndarray) -> np.ndarray:
    """The exponential moving average, free of the start's bias; what is not finite is passed over."""
    keep = 1 - 1 / max(SMOOTHED_STEPS, SMOOTHED_SHARE * len(values))
    total = weight = 0.0
    result = np.empty(len(values))
    for place, value in enumerate(values.tolist()):
        if math.isfinite(value):
            total, weight = keep * total + value, keep * weight + 1
        result[place] = total / weight if weight else math.nan
    return result


def thinned(at: np.ndarray, values: np.ndarray, limit: int = MAX_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """The same curve to the eye in at most 2 * limit points: of each span of places the least and greatest value."""
    if len(values) <= 2 * limit:
        return at, values
    bounds = np.linspace(0, len(values), limit + 1).astype(int)
    low, high = np.where(np.isnan(values), np.inf, values), np.where(np.isnan(values), -np.inf, values)
    spans = list(zip(bounds[:-1], bounds[1:], strict=True))
    picks: list[Callable[[int, int], int]] = [
        lambda a, b: a + int(low[a:b].argmin()),
        lambda a, b: a + int(high[a:b].argmax()),
    ]
    kept = np.unique([pick(begin, end) for begin, end in spans for pick in picks])
    return at[kept], values[kept]
