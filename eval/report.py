"""What a run scored: lines for the terminal, score.json with everything that could change the number, and a page.

Covers: pass@1, 10 and 100 (as far as there are samples) with standard errors, verdicts, excluded problems, each sample.
Does not cover: comparing runs.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindgeex.common.files import write_json
from mindgeex.common.html import Section, write_page
from mindgeex.common.versions import versions
from mindgeex.eval.metrics import Estimate, estimate
from mindgeex.eval.runner import Row, Run, passed
from mindgeex.eval.verdict import Verdict

KS = (1, 10, 100)
MOST_SAMPLES_SHOWN = 400
"""Samples shown in full on the page; all are in results.jsonl."""


def languages(run: Run) -> list[str]:
    """The languages of a run, in its order."""
    return list(dict.fromkeys(problem.language for problem in run.problems))


def canonical_counts(run: Run, language: str) -> tuple[int, int]:
    """How many canonical solutions of a language pass, of how many."""
    rows = [run.canonical[problem.task_id] for problem in run.problems if problem.language == language]
    return sum(map(passed, rows)), len(rows)


def scores(run: Run, language: str) -> dict[int, Estimate]:
    """pass@k for every k there are samples for; empty if the model was not asked in this language."""
    own = {problem.task_id for problem in run.problems if problem.language == language}
    samples: Counter[str] = Counter()
    correct: Counter[str] = Counter()
    for row in run.results:
        if row["task_id"] in own:
            samples[row["task_id"]] += 1
            correct[row["task_id"]] += passed(row)
    if not samples:
        return {}
    counts = [correct[task] for task in samples]
    return {k: estimate(list(samples.values()), counts, k) for k in KS if k <= min(samples.values())}


def lines(run: Run) -> list[str]:
    """The result in words, a few lines a language."""
    said = []
    for language in languages(run):
        good, total = canonical_counts(run, language)
        said.append(f"{language}: {good}/{total} canonical solutions pass")
        own = [problem.task_id for problem in run.problems if problem.language == language]
        reasons = [(task, run.excluded[task]) for task in own if task in run.excluded]
        said += [f"  left out: {task}: {reason}" for task, reason in reasons[:5]]
        said += [f"  left out: {len(reasons) - 5} more, all named in the report"] if len(reasons) > 5 else []
        said += [f"  {line}" for line in score_lines(run, language)]
    return said


def score_lines(run: Run, language: str) -> list[str]:
    """`pass@1 = 22.9 ± 3.3 (164 problems, n=20, T=0.2, prompts codegeex-v1)` and the like."""
    model: dict[str, Any] = run.settings["model"] or {}
    decoding = f", T={model['temperature']:g}" if isinstance(model.get("temperature"), (int, float)) else ""
    said = []
    for k, score in scores(run, language).items():
        about = f"{score.problems} problems, n={run.settings['num_samples']}{decoding}"
        about += f", prompts {run.settings['prompt_version']}"
        said.append(f"pass@{k} = {_percent(score)} ({about})")
        if k == 1 and score.mean == 0.0:
            said.append(f"0 of {score.problems} problems solved: {_why_nothing(run, language)}")
    return said


def manifest(run: Run) -> dict[str, Any]:
    """Everything that could change the number, and the number."""
    rows = [*run.canonical.values(), *run.results]
    return {
        **run.settings,
        "scores": {
            language: {
                "canonical": dict(zip(("passed", "of"), canonical_counts(run, language), strict=True)),
                **{f"pass@{k}": vars(score) for k, score in scores(run, language).items()},
                "verdicts": _verdicts(run, language),
            }
            for language in languages(run)
        },
        "excluded": run.excluded,
        "versions": versions(),
        "seconds": {
            "cpu": round(sum(row.get("cpu_s", 0.0) for row in rows), 1),
            "sandbox_wall": round(sum(row.get("wall_s", 0.0) for row in rows), 1),
        },
    }


def sections(run: Run) -> list[Section]:
    """The page's sections, also for a larger report."""
    found = [_summary(run)]
    if run.excluded:
        reasons = [(task, reason) for task, reason in run.excluded.items()]
        found.append(Section("Left out: their own solutions fail here").table(("problem", "reason"), reasons))
    if run.results:
        found += [_composition(run), _samples(run)]
    provenance = {key: value for key, value in manifest(run).items() if key not in ("scores", "excluded")}
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
    rows: list[Sequence[object]] = []
    for language in languages(run):
        good, total = canonical_counts(run, language)
        found = {k: _percent(score) for k, score in scores(run, language).items()}
        rows.append((language, f"{good}/{total}", *(found.get(k, "-") for k in KS)))
    section.table(("language", "canonical solutions pass", *(f"pass@{k} (%)" for k in KS)), rows)
    for language in languages(run):
        for line in score_lines(run, language):
            (section.warning if line.startswith("0 of") else section.text)(f"{language}: {line}")
    return section


def _composition(run: Run) -> Section:
    from matplotlib.figure import Figure

    section = Section("Verdicts")
    names = [verdict.value for verdict in Verdict]
    counted = {language: _verdicts(run, language) for language in languages(run)}
    shown = [name for name in names if any(name in verdicts for verdicts in counted.values())]
    rows = [(language, *(verdicts.get(name, 0) for name in shown)) for language, verdicts in counted.items()]
    figure = Figure(figsize=(8, 0.8 + 0.4 * len(rows)))
    axes = figure.subplots()
    left = [0.0] * len(rows)
    for index, name in enumerate(shown):
        shares = [100 * verdicts.get(name, 0) / max(1, sum(verdicts.values())) for verdicts in counted.values()]
        color = "#2e7d4f" if name == Verdict.PASSED.value else f"C{(index + 1) % 10}"
        axes.barh(list(counted), shares, left=left, label=name, color=color)
        left = [start + share for start, share in zip(left, shares, strict=True)]
    axes.set_xlabel("% of samples")
    axes.invert_yaxis()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return section.figure(figure).table(("language", *shown), rows)


def _samples(run: Run) -> Section:
    section = Section("Samples")
    prompts = {problem.task_id: problem.prompt for problem in run.problems}
    if len(run.results) > MOST_SAMPLES_SHOWN:
        section.text(f"The first {MOST_SAMPLES_SHOWN} of {len(run.results)}; samples.jsonl and results.jsonl have all.")
    for row in run.results[:MOST_SAMPLES_SHOWN]:
        said = row["reason"] or "all tests passed"
        parts = {
            "prompt": prompts[row["task_id"]],
            "completion": row["completion"],
            "program (without its tests)": row["program"],
            "what the sandbox said": f"{said}\n{row['cpu_s']} s CPU, {row['wall_s']} s\n\n{row['output']}".rstrip(),
        }
        text = "\n\n".join(f"---- {name}\n{content}" for name, content in parts.items())
        section.details(f"{row['task_id']}, sample {row['sample']}: {row['verdict']}. {row['reason']}".strip(), text)
    return section


def _percent(score: Estimate) -> str:
    return f"{100 * score.mean:.1f} ± {100 * score.standard_error:.1f}"


def _own(run: Run, language: str) -> list[Row]:
    tasks = {problem.task_id for problem in run.problems if problem.language == language}
    return [row for row in run.results if row["task_id"] in tasks]


def _verdicts(run: Run, language: str) -> dict[str, int]:
    return dict(Counter(row["verdict"] for row in _own(run, language)).most_common())


def _why_nothing(run: Run, language: str) -> str:
    rows = _own(run, language)
    empty = sum(not row["completion"].strip() for row in rows)
    if empty == len(rows):
        return "the model wrote nothing, or left the function at once"
    ends = ", ".join(f"{count} x {name}" for name, count in _verdicts(run, language).items())
    return f"the model wrote no program that passes its tests ({ends})"
