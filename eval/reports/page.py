"""The page about a run: scores, what was published, curves, verdicts, and every sample with what the sandbox said.

One file that needs no network. Each of its sections is also fit for a larger report.
Does not cover: two runs (compare.py).
"""

import json
from collections.abc import Sequence
from pathlib import Path

from mindgeex.common.browser import Record
from mindgeex.common.files import write_json
from mindgeex.common.html import Section, write_page
from mindgeex.eval.execution.verdict import Verdict
from mindgeex.eval.reports.metrics import Estimate
from mindgeex.eval.reports.published import KS, SOURCES, published
from mindgeex.eval.reports.report import known_defects, manifest, percent, score_lines
from mindgeex.eval.reports.scores import canonical_counts, curve, figures, groups, rules, tally, verdicts
from mindgeex.eval.results import Row
from mindgeex.eval.runner import Run


def sections(run: Run) -> list[Section]:
    """The page's sections, also for a larger report."""
    found = [_summary(run)]
    if run.excluded:
        found.append(Section("Left out: why").table(("problem", "reason"), list(run.excluded.items())))
    if known := known_defects(run):
        found.append(Section("Known errors of the data").table(("problem", "what is wrong"), list(known.items())))
    if run.results:
        found += [_side_by_side(run), _curves(run), _published(run), _composition(run), _problems(run), _samples(run)]
    provenance = {
        key: value
        for key, value in manifest(run).items()
        if key not in ("scores", "excluded", "known_defects", "problems")
    }
    rows = [(key, json.dumps(value, ensure_ascii=False)) for key, value in provenance.items()]
    found.append(Section("What the numbers depend on").table(("setting", "value"), rows))
    return [section for section in found if section.blocks]


def write(run: Run) -> Path:
    """Writes score.json and report.html into the run's folder and returns the page's path."""
    write_json(run.folder / "score.json", manifest(run))
    page = run.folder / "report.html"
    write_page(page, f"Evaluation: {run.settings['benchmark']}", sections(run))
    return page


def _summary(run: Run) -> Section:
    section = Section("Scores" if run.results else "Canonical solutions")
    names = list(dict.fromkeys(name for group in groups(run) for name in figures(run, group)))
    rows: list[Sequence[object]] = []
    for group in groups(run):
        good, total = canonical_counts(run, group)
        found = {name: f"{percent(score)} {_interval(score)}" for name, score in figures(run, group).items()}
        rows.append((group, f"{good}/{total}" if total else "-", *(found.get(name, "-") for name in names)))
    section.table(("", "canonical solutions pass", *(f"{name} (%)" for name in names)), rows)
    if names:
        section.text("Mean ± standard error over the problems, and the 95 % bootstrap interval.")
    for group in groups(run):
        for line in score_lines(run, group):
            (section.warning if line.startswith("0 of") else section.text)(f"{group}: {line}")
    return section


def _side_by_side(run: Run) -> Section:
    section = Section("The same completions under each post-processing")
    rows = [
        (group, name, *(f"{percent(score)} {_interval(score)}" for score in figures(run, group, name).values()))
        for group in groups(run)
        for name in rules(run)
    ]
    names = list(dict.fromkeys(name for group in groups(run) for name in figures(run, group)))
    return section.table(("", "post-processing", *(f"{name} (%)" for name in names)), rows)


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
        color = "#2e7d4f" if name == Verdict.PASSED.value else f"C{(index + 1) % 10}"
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
    every = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, group in zip(every, shown, strict=False):
        for name in rules(run):
            axes.plot(*zip(*curve(run, group, name), strict=True), label=name, marker=".", markersize=3)
        for model, values in published(run.settings["benchmark"], group).items():
            ks = [int(figure_name.partition("@")[2]) for figure_name in values]
            mark = "x" if model == "CodeGeeX-13B" else "+"
            axes.plot(ks, list(values.values()), mark, color="black", label=f"{model} (published)")
        axes.set(title=group, xlabel="k", ylabel="pass@k (%)", xscale="log", ylim=(0, 103))
    every[0].legend(fontsize=7)
    for axes in every[len(shown) :]:
        axes.set_visible(False)
    return section.figure(figure)


def _published(run: Run) -> Section:
    section = Section("Beside published figures")
    rows = []
    for group in groups(run):
        for model, values in published(run.settings["benchmark"], group).items():
            rows.append((group, f"{model} (published)", *(values.get(k, "-") for k in KS)))
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
                said = row["reason"] or ("all tests passed" if row["score"] == 1.0 else f"score {row['score']:.3f}")
                times = f"{row['verdict']}: {said}\n{row['cpu_s']} s CPU, {row['wall_s']} s"
                parts.append(("what the sandbox said", f"{times}\n\n{row['output']}".rstrip()))
        first = rows[0]
        title = f"{task}, sample {number}: {first['verdict']}. {first['reason'] or _worth(first)}".strip()
        records.append(Record(title, first["verdict"], tuple(parts)))
    where = "samples.jsonl and results.jsonl beside this page have all samples; showing them here takes JavaScript."
    return Section("Samples").records(records, where)


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _worth(row: Row) -> str:
    return "" if row["score"] in (0.0, 1.0) else f"Score {100 * row['score']:.1f}."


def _interval(score: Estimate) -> str:
    return f"[{100 * score.low:.1f}, {100 * score.high:.1f}]"
