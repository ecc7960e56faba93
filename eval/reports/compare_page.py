"""The page about two runs: both scores, the difference with its error, and who solves which problem, side by side.

One file that needs no network, made as the page about one run is. Of a problem's samples it shows one of each run, the
one that scores most, the first of equals; report.html in either run's folder has all.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from mindgeex.common.browser import Record
from mindgeex.common.html import Section, write_page
from mindgeex.eval.reports.compare import ALL, Compared, Pair, compared, difference
from mindgeex.eval.reports.metrics import RESAMPLES
from mindgeex.eval.reports.page import sandbox_said
from mindgeex.eval.reports.report import circumstances, interval
from mindgeex.eval.reports.scores import tally
from mindgeex.eval.results import Row
from mindgeex.eval.runner import Run

METHODS = (
    "Each line compares the same problems. ± is the standard error over problems; brackets hold the 95 % bootstrap "
    f"interval, from {RESAMPLES:,} resamples of the problems (for the difference, of the pairs). p is how often runs "
    "that are alike differ as much or more: by McNemar's exact test where each problem is solved or not, else by a "
    "paired randomisation test of the problems' differences. It is not corrected for the number of lines looked at."
)
TRANSLATIONS = (
    f"'{ALL}' takes all problems for independent; where those of several languages are translations of each other, its "
    "intervals are too narrow."
)
CHANGES_SCORES = ("limits", "toolchains", "sandbox")
"""Settings that could change a score with the same model."""
ONLY_A, ONLY_B, BOTH_A, BOTH_B, BOTH, NEITHER = (
    "only A solves it", "only B solves it", "both, A more often", "both, B more often", "both alike", "neither",
)  # fmt: skip
MORE_A, MORE_B, EQUAL = "A scores more", "B scores more", "equal"
KINDS = (ONLY_A, ONLY_B, BOTH_A, BOTH_B, MORE_A, MORE_B, BOTH, NEITHER, EQUAL)
"""In the order in which problems are shown."""


def write(pair: Pair, path: Path) -> Path:
    """Writes the page and returns its path."""
    write_page(path, f"Two evaluations: {pair.first.settings['benchmark']}", sections(pair))
    return path


def sections(pair: Pair) -> list[Section]:
    """The page's sections, also for a larger report."""
    found = [_runs(pair), _difference(pair)]
    if len(pair.rules) > 1:
        found.append(_each_rules(pair))
    if pair.left_out:
        left_out = Section("Left out: scored in one run only")
        found.append(left_out.table(("problem", "reason"), list(pair.left_out.items())))
    return [*found, _who_solves(pair), _problems(pair)]


def _runs(pair: Pair) -> Section:
    section, runs = Section("The two runs"), (pair.first, pair.second)
    rows = [("folder", *(str(run.folder) for run in runs)), ("settings", *(circumstances(run) for run in runs))]
    rows += [(key.replace(".", ".\u200b"), *map(_setting, values)) for key, values in pair.differing.items()]
    section.table(("", "A", "B"), rows)
    if doubtful := sorted({key.partition(".")[0] for key in pair.differing} & {*CHANGES_SCORES}):
        section.warning(f"{', '.join(doubtful)}: not the same, so part of a difference may come from there.")
    return section


def _setting(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _difference(pair: Pair) -> Section:
    section = Section(f"Scores and their difference, kept by {pair.rules[0]}")
    found = {group: compared(pair, group, pair.rules[0]) for group in pair.groups}
    _tables(section, found).text(METHODS)
    return section.text(TRANSLATIONS) if ALL in found else section


def _each_rules(pair: Pair) -> Section:
    """Of all rows together."""
    section = Section("The same completions under each post-processing")
    return _tables(section, {name: compared(pair, pair.groups[-1], name) for name in pair.rules})


def _tables(section: Section, found: Mapping[str, Mapping[str, Compared]]) -> Section:
    """A picture of the differences, and a table for each figure."""
    names = list(dict.fromkeys(figure for own in found.values() for figure in own))
    if names:
        section.figure(_forest(names[0], {label: own[names[0]] for label, own in found.items() if names[0] in own}))
    for figure in names:
        rows = [
            (
                label,
                one.change.problems,
                interval(one.first),
                interval(one.second),
                difference(one.change).replace(", ", ",\u00a0"),
                f"{one.change.p_value:.2g} ({one.change.method})",
                one.change.better,
                one.change.worse,
            )
            for label, own in found.items()
            if (one := own.get(figure))
        ]
        section.table((f"{figure} (%)", "problems", "A", "B", "B - A", "p", "B better", "A better"), rows)
    return section


def _forest(figure_name: str, found: Mapping[str, Compared]) -> object:
    """Differences with their intervals, a line each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.9 + 0.3 * len(found)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="gray", linewidth=0.8)
    for place, one in enumerate(found.values()):
        change = one.change
        color = "#2e7d4f" if change.low > 0 else "tab:red" if change.high < 0 else "black"
        axes.plot([100 * change.low, 100 * change.high], [place, place], color=color, linewidth=1.6)
        axes.plot([100 * change.difference], [place], "o", color=color, markersize=5)
    axes.set(yticks=range(len(found)), yticklabels=list(found), ylim=(len(found) - 0.5, -0.5))
    axes.set_xlabel(f"{figure_name} of B minus that of A (%), with the 95 % interval")
    return figure


def _who_solves(pair: Pair) -> Section:
    is_solving = pair.first.settings["measure"] == "pass@k"
    found = {group: Counter(_kinds(pair, group).values()) for group in pair.groups}
    shown = [kind for kind in KINDS if found[pair.groups[-1]][kind] or (is_solving and kind in (ONLY_A, ONLY_B))]
    section = Section("Who solves what" if is_solving else "Who scores more")
    section.table(("problems", *shown), [(group, *(counts[k] for k in shown)) for group, counts in found.items()])
    return section.text("A run solves a problem if one of its samples passes.") if is_solving else section


def _kinds(pair: Pair, group: str) -> dict[str, str]:
    """Task id -> one of KINDS, for the problems that both runs scored."""
    first, second = (tally(run, pair.rules[0], None if group == ALL else group) for run in (pair.first, pair.second))
    return {task: _kind(pair, first[task], second[task]) for task in first if task in second}


def _kind(pair: Pair, *tallies: tuple[float, int]) -> str:
    a, b = (total / count if count else 0.0 for total, count in tallies)
    if pair.first.settings["measure"] != "pass@k":
        return MORE_A if a > b else MORE_B if b > a else EQUAL
    if a and b:
        return BOTH_A if a > b else BOTH_B if b > a else BOTH
    return ONLY_A if a else ONLY_B if b else NEITHER


def _problems(pair: Pair) -> Section:
    """Those that one run solves come first."""
    runs = {"A": _samples(pair.first, pair.rules[0]), "B": _samples(pair.second, pair.rules[0])}
    prompts = {problem.task_id: problem.asked for problem in pair.first.problems}
    records = []
    for task, kind in _kinds(pair, pair.groups[-1]).items():
        own = {name: samples.get(task, []) for name, samples in runs.items()}
        scores = ", ".join(f"{name} {_worth(pair, samples)}" for name, samples in own.items())
        columns = [_shown(name, samples) for name, samples in own.items()]
        rows = ((("prompt", prompts[task]),), *zip(*columns, strict=True))
        records.append(Record(f"{task}: {kind} ({scores})", kind, rows))
    records.sort(key=lambda record: KINDS.index(record.kind))
    where = "results.jsonl in the folders of the runs has all samples; showing them here takes JavaScript."
    return Section("Each problem, both completions").records(records, where)


def _samples(run: Run, name: str) -> dict[str, list[Row]]:
    """Task id -> its samples under a post-processing."""
    found: dict[str, list[Row]] = {}
    for row in run.results:
        if row["rules"] == name:
            found.setdefault(row["task_id"], []).append(row)
    return found


def _worth(pair: Pair, samples: list[Row]) -> str:
    total = sum(row["score"] for row in samples)
    if pair.first.settings["measure"] == "pass@k":
        return f"{total:.0f} of {len(samples)}"
    return f"{100 * total / len(samples):.1f}" if samples else "0.0"


def _shown(name: str, samples: list[Row]) -> tuple[tuple[str, str], tuple[str, str]]:
    """Headings and texts of the sample to look at: what was completed, and what became of it."""
    if not samples:
        return (f"{name}: no completion", ""), (f"{name}: nothing was executed", "")
    row = max(samples, key=lambda one: one["score"])
    completion = (f"{name}: completion, sample {row['sample']}", row["completion"])
    if row["verdict"] == "compared":
        return completion, (f"{name}: worth", f"{100 * row['score']:.1f} of 100")
    return completion, (f"{name}: what the sandbox said", sandbox_said(row))
