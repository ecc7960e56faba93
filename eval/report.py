"""What a run scored: lines for the terminal, score.json with everything that could change the number, and a page.

Covers: pass@1, 10 and 100 (as far as there are samples) or the benchmark's own measure, with standard errors and
bootstrap intervals; every post-processing side by side; each problem, verdicts, excluded problems, each sample.
Does not cover: two runs (compare.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindgeex.common.files import write_json
from mindgeex.common.html import Section, write_page
from mindgeex.common.versions import versions
from mindgeex.eval.calibration import summary
from mindgeex.eval.folder import allowance, read_stages
from mindgeex.eval.metrics import Estimate
from mindgeex.eval.results import Row, passed
from mindgeex.eval.runner import Run
from mindgeex.eval.scores import canonical_counts, figures, groups, headline_rows, rules, tally, verdicts
from mindgeex.eval.verdict import Verdict

MOST_SAMPLES_SHOWN = 400
"""Samples shown in full on the page; all are in results.jsonl."""


def lines(run: Run) -> list[str]:
    """The result in words, a few lines a row of the table."""
    said = []
    for group in groups(run):
        good, total = canonical_counts(run, group)
        said.append(f"{group}: {good}/{total} canonical solutions pass" if total else f"{group}:")
        own = [problem.task_id for problem in run.problems if problem.row == group]
        reasons = [(task, run.excluded[task]) for task in own if task in run.excluded]
        said += [f"  left out: {task}: {reason}" for task, reason in reasons[:5]]
        said += [f"  left out: {len(reasons) - 5} more, all named in the report"] if len(reasons) > 5 else []
        said += [f"  {line}" for line in score_lines(run, group)]
    return said


def score_lines(run: Run, group: str) -> list[str]:
    """`pass@1 = 22.9 ± 3.3 (164 problems, n=20, T=0.2, prompts codegeex-v1, kept by codegeex-v1)` and the like."""
    model: dict[str, Any] = run.settings["model"] or {}
    decoding = f", T={model['temperature']:g}" if isinstance(model.get("temperature"), (int, float)) else ""
    said = []
    for name, score in figures(run, group).items():
        about = f"{score.problems} problems, n={run.settings['num_samples']}{decoding}"
        about += f", prompts {run.settings['prompt_version']}, kept by {run.settings['post_processing'][rules(run)[0]]}"
        said.append(f"{name} = {_percent(score)} ({about})")
        if len(rules(run)) > 1 and name in ("pass@1", run.settings["measure"]):
            every = {other: figures(run, group, other)[name] for other in rules(run)}
            said.append(f"{name} by post-processing: " + ", ".join(f"{o} {100 * e.mean:.1f}" for o, e in every.items()))
        if name == "pass@1" and score.mean == 0.0:
            said.append(f"0 of {score.problems} problems solved: {_why_nothing(run, group)}")
    return said


def manifest(run: Run) -> dict[str, Any]:
    """Everything that could change the number, the number, and what every problem got."""
    return {
        **run.settings,
        "scores": {
            group: {
                "canonical": dict(zip(("passed", "of"), canonical_counts(run, group), strict=True)),
                **{
                    name: {figure: vars(score) for figure, score in figures(run, group, name).items()}
                    for name in rules(run)
                },
                "verdicts": verdicts(run, group),
            }
            for group in groups(run)
        },
        "problems": {name: tally(run, name) for name in rules(run)} if run.results else {},
        "excluded": run.excluded,
        "calibration": calibration(run),
        "stages": stages(run),
        "versions": versions(),
    }


def calibration(run: Run) -> dict[str, Any]:
    """Language -> CPU time of its canonical solutions here, and the limits that follow from it."""
    limits = allowance(run.settings)
    rows: dict[str, list[Row]] = {}
    for problem in run.problems:
        if (row := run.canonical.get(problem.task_id)) and passed(row):
            rows.setdefault(problem.language, []).append(row)
    return {language: summary(own, limits) for language, own in rows.items()}


def stages(run: Run) -> dict[str, Any]:
    """Stage -> wall seconds, machines, and CPU seconds of compilers and programs, equal programs counted once."""
    found = read_stages(run.folder)
    for name, rows in (("canonical solutions", run.canonical.values()), ("executing", run.results)):
        executed = {(row["task_id"], row["program_sha256"]): row["cpu_s"] for row in rows if "program_sha256" in row}
        if name in found:
            found[name] |= {"programs": len(executed), "cpu_s": round(sum(executed.values()), 1)}
    return found


def sections(run: Run) -> list[Section]:
    """The page's sections, also for a larger report."""
    found = [_summary(run)]
    if run.excluded:
        reasons = [(task, reason) for task, reason in run.excluded.items()]
        found.append(Section("Left out: their own solutions fail here").table(("problem", "reason"), reasons))
    if run.results:
        found += [_side_by_side(run), _composition(run), _problems(run), _samples(run)]
    provenance = {key: value for key, value in manifest(run).items() if key not in ("scores", "excluded", "problems")}
    rows = [(key, value) for key, value in provenance.items()]
    found.append(Section("What the numbers depend on").table(("setting", "value"), rows))
    return found


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
        found = {name: f"{_percent(score)} {_interval(score)}" for name, score in figures(run, group).items()}
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
        (group, name, *(f"{_percent(score)} {_interval(score)}" for score in figures(run, group, name).values()))
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


def _samples(run: Run) -> Section:
    section = Section("Samples")
    prompts = {problem.task_id: problem.asked for problem in run.problems}
    rows = headline_rows(run)
    if len(rows) > MOST_SAMPLES_SHOWN:
        section.text(f"The first {MOST_SAMPLES_SHOWN} of {len(rows)}; samples.jsonl and results.jsonl have all.")
    for row in rows[:MOST_SAMPLES_SHOWN]:
        said = row["reason"] or ("all tests passed" if row["score"] == 1.0 else f"score {row['score']:.3f}")
        parts = {"prompt": prompts[row["task_id"]], "completion": row["completion"]}
        if row["program"]:
            parts["program (without its tests)"] = row["program"]
            parts["what the sandbox said"] = (
                f"{said}\n{row['cpu_s']} s CPU, {row['wall_s']} s\n\n{row['output']}".rstrip()
            )
        text = "\n\n".join(f"---- {name}\n{content}" for name, content in parts.items())
        title = f"{row['task_id']}, sample {row['sample']}: {row['verdict']}. {row['reason'] or _worth(row)}"
        section.details(title.strip(), text)
    return section


def _worth(row: Row) -> str:
    return "" if row["score"] in (0.0, 1.0) else f"Score {100 * row['score']:.1f}."


def _percent(score: Estimate) -> str:
    return f"{100 * score.mean:.1f} ± {100 * score.standard_error:.1f}"


def _interval(score: Estimate) -> str:
    return f"[{100 * score.low:.1f}, {100 * score.high:.1f}]"


def _why_nothing(run: Run, group: str) -> str:
    rows = headline_rows(run, group)
    if all(not row["completion"].strip() for row in rows):
        return "the model wrote nothing, or left the function at once"
    ends = ", ".join(f"{count} x {name}" for name, count in verdicts(run, group).items())
    return f"the model wrote no program that passes its tests ({ends})"
