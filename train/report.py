"""Pages about training runs: the curves of one with what happened to it, or several in the same plots.

Covers: runs that are finished, running, stopped or crashed; what is missing is named. plots.py draws the curves.
"""

import datetime
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mindgeex.common.errors import UserError
from mindgeex.common.html import Section, readable
from mindgeex.data.mindrecord import Corpus
from mindgeex.model_zoo.config import load_model_config
from mindgeex.train import plots
from mindgeex.train.baselines import BASELINES_FILE, load_or_measure, read_baselines
from mindgeex.train.evaluation import ALL, heldout_sets
from mindgeex.train.runs import Run, checkpoint_bytes, differences, read_run
from mindgeex.train.samples import SAMPLES_FILE

MAX_EVENTS = 200
"""Rows of the table of events; the newest."""

MAX_SAMPLES = 10
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
    section = Section("Curves").figure(plots.compared(runs))
    section.text("Hours are those of training steps; evaluating, saving and waiting are not counted.")
    keys = {
        "state": "state",
        "step": "step",
        "tokens": "tokens",
        "loss": "training loss",
        "heldout_bits_per_byte": "held-out",
    }
    names, summaries = [run.name for run in runs], [run.summary() for run in runs]
    rows = [[name, *(_shown(summary[key]) for key in keys)] for name, summary in zip(names, summaries, strict=True)]
    figures = Section("Last figures").table(["run", *keys.values()], rows)
    if languages := sorted({language for summary in summaries for language in summary["heldout"]}):
        rows = [[name, *(_shown(summary["heldout"].get(name)) for summary in summaries)] for name in languages]
        figures.table(["held-out language", *names], rows)
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
    rows = [(name, readable(value)) for name, value in figures.items() if value is not None]
    section = Section("Training").table(("figure", "value"), rows)
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
    section, figure = Section("Training: curves"), plots.curves(run)
    return section.figure(figure) if figure else section.text("No step has been recorded yet.")


def _heldout(run: Run, baselines: dict[str, Any]) -> Section:
    section, sets = Section("Training: held-out text"), baselines.get("sets", {})
    languages = sorted({name for line in run.metrics for name in line.get("heldout") or {}})
    others = sorted({name for line in run.metrics for name in line.get("heldout_loss") or {}})
    curves = {ALL: run.curve("heldout_bits_per_byte")} | {name: run.curve("heldout", name) for name in languages}
    curves = {name: curve for name, curve in curves.items() if curve[0]}
    if not curves and not others:
        return section.text("Nothing has been measured yet.")
    if curves:
        section.figure(plots.heldout(run, curves, sets))
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
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d\u00a0%H:%M:%S")


def _shown(value: Any) -> Any:
    return "-" if value is None else value


def _warned(section: Section, missing: Sequence[str]) -> Section:
    for line in missing:
        section.warning(line)
    return section
