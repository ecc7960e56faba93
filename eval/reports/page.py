"""The page about a run: scores, what was published, curves, verdicts, and every sample with what the sandbox said.

One file that needs no network. Each of its sections is also fit for a larger report.
Does not cover: two runs (compare.py).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mindgeex.common.browser import Record
from mindgeex.common.files import write_json
from mindgeex.common.html import Section, write_page
from mindgeex.eval.execution.verdict import Verdict
from mindgeex.eval.reports.published import KS, SOURCES, published
from mindgeex.eval.reports.report import circumstances, interval, known_defects, manifest, nothing_solved, percent
from mindgeex.eval.reports.scores import canonical_counts, curve, figures, groups, rules, tally, verdicts
from mindgeex.eval.results import Row
from mindgeex.eval.runner import Run

PASSED = "#2e7d4f"
FAILED = (
    "tab:orange",
    "tab:red",
    "tab:purple",
    "tab:brown",
    "tab:pink",
    "tab:gray",
    "tab:olive",
    "tab:cyan",
    "tab:blue",
)
"""Colours of verdicts; none of the others is green."""


def sections(run: Run) -> list[Section]:
    """The page's sections, also for a larger report."""
    found = [_summary(run)]
    if run.excluded:
        found.append(Section("Left out: why").table(("problem", "reason"), list(run.excluded.items())))
    if known := known_defects(run):
        found.append(Section("Known errors of the data").table(("problem", "what is wrong"), list(known.items())))
    if run.results:
        found += [_side_by_side(run), _curves(run), _published(run), _composition(run), _problems(run), _samples(run)]
    told, shown = manifest(run), ("scores", "excluded", "known_defects", "problems", "calibration", "stages")
    provenance = Section("What the numbers depend on")
    provenance.code(_yaml({key: value for key, value in told.items() if key not in shown}))
    provenance.details("CPU limits, from the canonical solutions", _yaml(told["calibration"]))
    provenance.details("Stages: seconds, machines, packages", _yaml(told["stages"]))
    found.append(provenance)
    return [section for section in found if section.blocks]


def write(run: Run) -> Path:
    """Writes score.json and report.html into the run's folder and returns the page's path."""
    write_json(run.folder / "score.json", manifest(run))
    page = run.folder / "report.html"
    write_page(page, f"Evaluation: {run.settings['benchmark']}", sections(run))
    return page


def _summary(run: Run) -> Section:
    section = Section("Scores" if run.results else "Canonical solutions")
    found = {group: figures(run, group) for group in groups(run)}
    names = list(dict.fromkeys(name for own in found.values() for name in own))
    rows: list[Sequence[object]] = []
    for group, own in found.items():
        good, total = canonical_counts(run, group)
        scored = [str(max(score.problems for score in own.values()))] if own else ["-"] if names else []
        shown = [interval(own[name]) if name in own else "-" for name in names]
        rows.append((group, f"{good}/{total}" if total else "-", *scored, *shown))
    head = ("", "canonical solutions pass", *(["problems scored"] if names else []), *(f"{name} (%)" for name in names))
    section.table(head, rows)
    if names:
        section.text(f"Mean ± standard error over the problems, and the 95 % bootstrap interval; {circumstances(run)}.")
    for group in found:
        if nothing := nothing_solved(run, group):
            section.warning(f"{group}: {nothing}")
    return section


def _side_by_side(run: Run) -> Section:
    """A table a figure, a column a post-processing."""
    section = Section("The same completions under each post-processing")
    if len(rules(run)) < 2:
        return section
    found = {(group, name): figures(run, group, name) for group in groups(run) for name in rules(run)}
    for figure in dict.fromkeys(figure for own in found.values() for figure in own):
        rows = [
            (group, *(interval(own[figure]) if figure in (own := found[group, name]) else "-" for name in rules(run)))
            for group in groups(run)
        ]
        section.table((f"{figure} (%)", *rules(run)), rows)
    return section


def _problems(run: Run) -> Section:
    """A line a problem, folded away: there may be thousands."""
    section = Section("Each problem")
    section.text("Sum of the samples' scores / number of samples, under each post-processing.")
    for group in groups(run):
        counted = {name: tally(run, name, group) for name in rules(run)}
        width = max(map(len, counted[rules(run)[0]]), default=0)
        head = f"{'':{width}}  " + "  ".join(f"{name:>10}" for name in counted)
        body = [
            f"{task:{width}}  "
            + "  ".join(f"{f'{counted[n][task][0]:.4g}/{counted[n][task][1]}':>10}" for n in counted)
            for task in counted[rules(run)[0]]
        ]
        section.details(f"{group}: {len(body)} problems", "\n".join([head, *body]))
    return section


def _composition(run: Run) -> Section:
    from matplotlib.figure import Figure

    section = Section("Verdicts")
    names = [verdict.value for verdict in Verdict]
    counted = {group: verdicts(run, group) for group in groups(run)}
    given = dict.fromkeys(name for own in counted.values() for name in own)
    shown = [*(name for name in names if name in given), *(name for name in given if name not in names)]
    rows = [(group, *(own.get(name, 0) for name in shown)) for group, own in counted.items()]
    figure = Figure(figsize=(8, 0.8 + 0.4 * len(rows)))
    axes = figure.subplots()
    left = [0.0] * len(rows)
    for index, name in enumerate(shown):
        shares = [100 * own.get(name, 0) / max(1, sum(own.values())) for own in counted.values()]
        color = PASSED if name == Verdict.PASSED.value else FAILED[index % len(FAILED)]
        axes.barh(list(counted), shares, left=left, label=name, color=color)
        left = [start + share for start, share in zip(left, shares, strict=True)]
    axes.set_xlabel("% of samples")
    axes.invert_yaxis()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return section.figure(figure).table(("", *shown), rows)


def _curves(run: Run) -> Section:
    """Pass@k over k, under each post-processing; what was published as crosses."""
    from matplotlib.figure import Figure

    section = Section("pass@k")
    shown = [group for group in groups(run) if curve(run, group, rules(run)[0])]
    if run.settings["measure"] != "pass@k" or run.settings["num_samples"] < 2 or not shown:
        return section
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.9 * lines), layout="constrained")
    every = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
    most = 1
    for axes, group in zip(every, shown, strict=False):
        for number, name in enumerate(rules(run)):  # the later ones thinner, for they may cover the earlier
            width = 1.2 + 1.1 * (len(rules(run)) - 1 - number)
            line = list(zip(*curve(run, group, name), strict=True))
            axes.plot(*line, label=name, marker=".", markersize=3 + width, linewidth=width)
            most = max(most, *line[0])
        for model, values in published(run.settings["benchmark"], group).items():
            ks = [int(figure_name.partition("@")[2]) for figure_name in values]
            mark = "x" if model == "CodeGeeX-13B" else "+"
            axes.plot(ks, list(values.values()), mark, color="black", label=f"{model} (published)")
            most = max(most, *ks)
        axes.set(title=group, xlabel="k", ylabel="pass@k (%)", xscale="log", ylim=(0, 103))
        axes.tick_params(labelbottom=True)
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= most]
    every[0].set_xticks(ticks, [str(k) for k in ticks])
    every[0].set_xticks([], minor=True)
    for axes in every[len(shown) :]:
        axes.set_visible(False)
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    return section.figure(figure)


def _published(run: Run) -> Section:
    section = Section("Beside published figures")
    rows = []
    for group in groups(run):
        for model, values in published(run.settings["benchmark"], group).items():
            rows.append((group, f"{model} (published)", *(f"{values[k]:.1f}" if k in values else "-" for k in KS)))
        own = figures(run, group)
        if rows and rows[-1][0] == group and own:
            rows.append((group, "this run", *(percent(own[k]) if k in own else "-" for k in KS)))
    if not rows:
        return section
    section.table(("", "model", *(f"{k} (%)" for k in KS)), rows)
    return section.text(
        f"Published: {SOURCES[run.settings['benchmark']]}, of the settings told there, not measured here. Figures are "
        f"comparable as far as prompts ({run.settings['prompt_version']}), post-processing (CodeGeeX's, as codegeex "
        "here), temperature and the number of samples are the same."
    )


def _samples(run: Run) -> Section:
    """Each sample, with what every post-processing made of it."""
    prompts = {problem.task_id: problem.asked for problem in run.problems}
    versions: dict[tuple[str, int], list[Row]] = {}
    for row in run.results:
        versions.setdefault((row["task_id"], row["sample"]), []).append(row)
    records = []
    for (task, number), rows in versions.items():
        parts = [("prompt", prompts[task]), ("completion", rows[0]["completion"])]
        for row in rows:
            same = [other["rules"] for other in rows if other["program"] == row["program"]]
            if row["program"] and same[0] == row["rules"]:
                parts.append((f"program, without its tests, as {', '.join(same)} {_has(same)} it", row["program"]))
                parts.append(("what the sandbox said", sandbox_said(row)))
        first = rows[0]
        title = f"{task}, sample {number}: {first['verdict']}. {first['reason'] or _worth(first)}".strip()
        records.append(Record(title, first["verdict"], tuple((part,) for part in parts)))
    where = "samples.jsonl and results.jsonl beside this page have all samples; showing them here takes JavaScript."
    return Section("Samples").records(records, where)


def sandbox_said(row: Row) -> str:
    """Verdict, reason, seconds and output of a sample's program."""
    said = row["reason"] or ("all tests passed" if row["score"] == 1.0 else f"score {row['score']:.3f}")
    return f"{row['verdict']}: {said}\n{row['cpu_s']} s CPU, {row['wall_s']} s\n\n{row['output']}".rstrip()


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _worth(row: Row) -> str:
    return "" if row["score"] in (0.0, 1.0) else f"Score {100 * row['score']:.1f}."


def _yaml(value: Any) -> str:
    return yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False, allow_unicode=True, width=110)
