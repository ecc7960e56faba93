"""Pages about training runs: the curves of one with what happened to it, or several in the same plots.

Covers: runs that are finished, running, stopped or crashed; what is missing is named. A page's size does not grow with
the run's length: of long curves the least and the greatest value of each of MAX_POINTS spans is drawn.
Does not cover: curves of single workers.
"""

import datetime
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from mindgeex.common.errors import UserError
from mindgeex.common.html import Section
from mindgeex.data.mindrecord import Corpus
from mindgeex.model_zoo.config import load_model_config
from mindgeex.train.baselines import BASELINES_FILE, load_or_measure, read_baselines
from mindgeex.train.evaluation import ALL, heldout_sets
from mindgeex.train.runs import Run, checkpoint_bytes, differences, read_run
from mindgeex.train.samples import SAMPLES_FILE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS = 600
MAX_EVENTS = 200
"""Rows of the table of events; the newest."""

MAX_SAMPLES = 10
SMOOTHED_SHARE = 0.02
SMOOTHED_STEPS = 8
"""A smoothed value remembers about so large a share of the curve, and at least so many of its points."""

MARKS = {
    "resumed": "tab:blue", "stopped": "tab:blue", "skipped": "tab:orange", "rolled_back": "tab:red", "failed": "black",
    "overflow": "lightgray", "spike": "tab:orange",
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

NOTE = (
    "Bits per byte does not depend on the tokenizer. xz sees the whole text before it reports its figure and may refer "
    "back to all of it; the model and the 5-gram model have only read other repositories, and look back over a window, "
    "or over four tokens."
)


def sections(run_folder: Path) -> list[Section]:
    """What to show of one run, in whatever state.

    Raises:
        UserError: the folder holds nothing of a run.
    """
    run, baselines = read_run(run_folder), read_baselines(run_folder)
    parts = [_overview(run, baselines), _curves(run), _heldout(run, baselines)]
    parts += [part for part in (_samples(run_folder), _events(run)) if part.blocks]
    return [*parts, Section("Training: settings").code(yaml.safe_dump(run.config, sort_keys=False))]


def comparison(runs: Sequence[Run]) -> list[Section]:
    """What to show of several runs: curves in the same plots, figures, and the settings in which they differ."""
    section = Section("Curves").figure(_compared(runs))
    section.text("Hours are those of training steps; evaluating, saving and waiting are not counted.")
    keys = {
        "state": "state",
        "step": "step",
        "tokens": "tokens",
        "loss": "training loss",
        "heldout_bits_per_byte": "held-out",
    }
    summaries = [run.summary() for run in runs]
    languages = sorted({language for summary in summaries for language in summary["heldout"]})
    rows = [
        [
            run.name,
            *(_shown(summary[key]) for key in keys),
            *(_shown(summary["heldout"].get(name)) for name in languages),
        ]
        for run, summary in zip(runs, summaries, strict=True)
    ]
    figures = Section("Last figures").table(["run", *keys.values(), *languages], rows)
    figures.text("The loss is in nats per token, held-out figures and those of languages are bits per byte.")
    corpora = {str(run.config.get("data")) for run in runs}
    if len(corpora) > 1:
        figures.warning("The runs were not fed the same: their held-out texts differ, and so may the figures' meaning.")
    different = Section("Differences of the settings")
    if found := differences(runs):
        different.table(["key", *(run.name for run in runs)], [[key, *map(_shown, of)] for key, of in found.items()])
    else:
        different.text("There are none.")
    missing = [line for run in runs for line in run.missing]
    return [_warned(section, missing), figures, different]


def measure_baselines(run_folder: Path, corpus_folder: Path, ngram_rows: int) -> dict[str, Any]:
    """Measures xz, and with `ngram_rows` the 5-gram model, on the rows that the run is scored on.

    Raises:
        UserError: the run was not fed from this corpus, or one of the two is not there.
    """
    config, corpus = read_run(run_folder).config, Corpus.open(corpus_folder)
    if config.get("data") != corpus.fingerprint:
        raise UserError(f"{corpus_folder}: another corpus than that of {run_folder}: give --data the run's own")
    cadence = config.get("cadence", {})
    sets = heldout_sets(corpus, cadence.get("heldout_rows", 64), cadence.get("heldout_rows_per_language", 16))
    return load_or_measure(run_folder, corpus, sets, ngram_rows)


def _overview(run: Run, baselines: dict[str, Any]) -> Section:
    of_all, (_, heldout) = baselines.get("sets", {}).get(ALL, {}), run.curve("heldout_bits_per_byte")
    speeds = run.curve("tokens_per_s")[1]
    hours = run.hours()
    figures: dict[str, Any] = {
        "state": run.state.name + (f": {run.state.detail}" if run.state.detail else ""),
        "model": run.model,
        "parameters": _parameters(run),
        "steps": f"{run.step:,} of {run.steps:,}" if run.steps else run.step,
        "tokens": run.summary()["tokens"],
        "hours of training": max(hours.values(), default=0.0) or None,
        "training loss at the end (nats per token)": run.last("loss"),
        "held-out bits per byte before": heldout[0] if heldout else None,
        "held-out bits per byte after": heldout[-1] if len(heldout) > 1 else None,
        "xz -9 on the same text (bits per byte)": of_all.get("xz"),
        "5-gram model on the same text (bits per byte)": of_all.get("ngram"),
        "held-out text (bytes)": of_all.get("bytes"),
        "tokens per second (median)": float(np.median(speeds)) if speeds else None,
        "MFU (median)": float(np.median(mfu)) if (mfu := run.curve("mfu")[1]) else None,
        "checkpoints (MB)": checkpoint_bytes(run.folder) / 1e6,
    }
    section = Section("Training").table(("figure", "value"), [row for row in figures.items() if row[1] is not None])
    missing = list(run.missing)
    if not baselines:
        missing.append(
            f"{run.folder / BASELINES_FILE}: not there, so no xz and no 5-gram model: `mindgeex report --data`"
        )
    return _warned(section, missing)


def _parameters(run: Run) -> int | None:
    try:
        return load_model_config(str(run.config.get("model"))).parameters
    except UserError:  # a file that is no more
        return None


def _curves(run: Run) -> Section:
    from matplotlib.figure import Figure

    panels = [panel for panel in PANELS if run.curve(panel[0])[0]]
    section = Section("Training: curves")
    if not panels:
        return section.text("No step has been recorded yet.")
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(10, 2.9 * rows), layout="constrained")
    all_axes = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes, (name, title, unit, scale) in zip(all_axes, panels, strict=False):
        steps, values = (np.array(of, float) for of in run.curve(name))
        is_smoothed = name == "loss" and len(values) > 20
        axes.plot(*thinned(steps, values), linewidth=0.8, alpha=0.4 if is_smoothed else 1, label="each step")
        if is_smoothed:
            axes.plot(*thinned(steps, smoothed(values)), linewidth=1.4, color="tab:blue", label="smoothed")
        axes.set(xlabel="step", ylabel=unit, title=title, yscale=scale if (values > 0).any() else "linear")
        _mark(axes, run, with_label=name == "loss")
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    all_axes[0].legend(fontsize=8)
    return section.figure(figure)


def _mark(axes: "Axes", run: Run, with_label: bool) -> None:
    """Vertical lines where something happened."""
    for name, colour in MARKS.items():
        steps = sorted({event.get("step", 0) for event in run.events if event["event"] == name})
        for number, step in enumerate(steps[-MAX_EVENTS:]):
            label = name.replace("_", " ") if with_label and number == 0 else None
            axes.axvline(step, color=colour, linewidth=0.8, linestyle=":", label=label)


def _heldout(run: Run, baselines: dict[str, Any]) -> Section:
    from matplotlib.figure import Figure

    section, sets = Section("Training: held-out text"), baselines.get("sets", {})
    languages = sorted({name for line in run.metrics for name in line.get("heldout") or {}})
    others = sorted({name for line in run.metrics for name in line.get("heldout_loss") or {}})
    curves = {ALL: run.curve("heldout_bits_per_byte")} | {name: run.curve("heldout", name) for name in languages}
    curves = {name: curve for name, curve in curves.items() if curve[0]}
    if not curves and not others:
        return section.text("Nothing has been measured yet.")
    if curves:
        figure = Figure(figsize=(10, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, curve in curves.items():
            left.plot(*curve, marker=".", linewidth=2 if name == ALL else 0.9, label=name)
        for key, label, style in (("xz", "xz -9", "--"), ("ngram", "5-gram model", ":")):
            if key in sets.get(ALL, {}):
                left.axhline(sets[ALL][key], linestyle=style, color="gray", label=f"{label}, {ALL}")
        left.set(xlabel="step", ylabel="bits per byte", title="by step", ylim=(0, None))
        left.legend(fontsize=7, ncols=2)
        _mark(left, run, with_label=False)
        names = list(curves)
        for place, (label, values) in enumerate(_last_and_baselines(curves, sets).items()):
            right.barh(np.arange(len(names)) + 0.27 * (place - 1), values, height=0.25, label=label)
        right.set(xlabel="bits per byte", title="now", yticks=range(len(names)), yticklabels=names)
        right.invert_yaxis()
        right.legend(fontsize=7)
        section.figure(figure)
        rows = [
            [
                name,
                _shown(of.get("bytes")),
                steps[0],
                values[0],
                steps[-1],
                values[-1],
                _shown(of.get("xz")),
                _shown(of.get("ngram")),
            ]
            for name, (steps, values) in curves.items()
            for of in [sets.get(name, {})]
        ]
        header = ("text", "bytes", "step", "first", "step", "last", "xz -9", "5-gram model")
        section.table(header, rows).text(f"Bits per byte, on the same bytes in each line. {NOTE}")
    if others:
        found = {name: run.curve("heldout_loss", name) for name in others}
        rows = [[name, steps[0], values[0], steps[-1], values[-1]] for name, (steps, values) in found.items()]
        section.table(("held-out set", "step", "first", "step", "last (nats per token)"), rows)
    if tokens := baselines.get("ngram_tokens"):
        section.text(f"The 5-gram model (modified Kneser-Ney) was trained on {tokens:,} tokens of the train split.")
    return section


def _last_and_baselines(curves: dict[str, Any], sets: dict[str, Any]) -> dict[str, list[float]]:
    """What is drawn side by side: the model's last figures, then each baseline that any text has."""
    bars = {"model": [values[-1] for _, values in curves.values()]}
    for key, label in (("xz", "xz -9"), ("ngram", "5-gram model")):
        values = [sets.get(name, {}).get(key, math.nan) for name in curves]
        if not np.isnan(values).all():
            bars[label] = values
    return bars


def _samples(run_folder: Path) -> Section:
    """The newest lines of samples.jsonl: `step`, `prompt` and `text`, what the model made of it."""
    section, path = Section("Training: samples"), run_folder / SAMPLES_FILE
    samples = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            samples.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    for sample in samples[-MAX_SAMPLES:]:
        section.text(f"Step {sample.get('step', '?')}; the prompt ends at the bar.")
        section.code(f"{sample.get('prompt', '')}\u2502{sample.get('text', '')}")
    return section


def _events(run: Run) -> Section:
    section = Section("Training: what happened")
    if not run.events:
        return section
    counts = Counter(event["event"].replace("_", " ") for event in run.events)
    section.text(", ".join(f"{name}: {count}" for name, count in counts.most_common()) + ".")
    telling = [event for event in run.events if event["event"] != "checkpoint"][-MAX_EVENTS:]
    rows = [
        [
            _time(event.get("time")),
            event.get("step", ""),
            event["event"].replace("_", " "),
            event.get("detail", ""),
            event.get("rank", 0),
        ]
        for event in telling
    ]
    return section.table(("UTC", "step", "event", "detail", "rank"), rows)


def _time(seconds: Any) -> str:
    if not isinstance(seconds, (int, float)):
        return "?"
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _compared(runs: Sequence[Run]) -> "Figure":
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


def _shown(value: Any) -> Any:
    return "-" if value is None else value


def _warned(section: Section, missing: Sequence[str]) -> Section:
    for line in missing:
        section.warning(line)
    return section
