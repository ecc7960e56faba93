"""What a run scored: lines for the terminal, and score.json with everything that could change the number.

Covers: pass@1, 10 and 100 (as far as there are samples) or the benchmark's own measure, with standard errors and
bootstrap intervals; every post-processing side by side; each problem, verdicts, excluded problems. page.py has more.
Does not cover: two runs (compare.py).
"""

from typing import Any

from mindgeex.eval.benchmarks import benchmark as named
from mindgeex.eval.calibration import summary
from mindgeex.eval.folder import allowance, read_stages
from mindgeex.eval.reports.metrics import Estimate
from mindgeex.eval.reports.scores import (
    canonical_counts,
    figures,
    groups,
    headline_rows,
    rules,
    tally,
    values,
    verdicts,
)
from mindgeex.eval.results import Row, passed
from mindgeex.eval.runner import Run


def lines(run: Run) -> list[str]:
    """The result in words, a few lines a row of the table."""
    said = []
    for group in groups(run):
        good, total = canonical_counts(run, group)
        said.append(f"{group}: {good}/{total} canonical solutions pass" if total else f"{group}:")
        own = [problem.task_id for problem in run.problems if problem.row == group]
        said += [f"  known error of the data: {task}: {known}" for task, known in known_defects(run, group).items()]
        reasons = [(task, run.excluded[task]) for task in own if task in run.excluded]
        said += [f"  left out: {task}: {reason}" for task, reason in reasons[:5]]
        said += [f"  left out: {len(reasons) - 5} more, all named in the report"] if len(reasons) > 5 else []
        said += [f"  {line}" for line in score_lines(run, group)]
    return said


def score_lines(run: Run, group: str) -> list[str]:
    """`pass@1 = 22.9 ± 3.3 (164 problems, n=20, T=0.2, prompts codegeex-v1, kept by codegeex-v1)` and the like."""
    said = []
    for name, score in figures(run, group).items():
        said.append(f"{name} = {percent(score)} ({score.problems} problems, {circumstances(run)})")
        if len(rules(run)) > 1 and name in ("pass@1", run.settings["measure"]):
            every = {other: figures(run, group, other)[name] for other in rules(run)}
            said.append(f"{name} by post-processing: " + ", ".join(f"{o} {100 * e.mean:.1f}" for o, e in every.items()))
    if nothing := nothing_solved(run, group):
        said.append(nothing)
    return said


def circumstances(run: Run) -> str:
    """`n=20, T=0.2, prompts codegeex-v1, kept by codegeex-v1`."""
    model: dict[str, Any] = run.settings["model"] or {}
    decoding = f", T={model['temperature']:g}" if isinstance(model.get("temperature"), (int, float)) else ""
    kept = run.settings["post_processing"][rules(run)[0]]
    return f"n={run.settings['num_samples']}{decoding}, prompts {run.settings['prompt_version']}, kept by {kept}"


def nothing_solved(run: Run, group: str) -> str | None:
    """Why a row of the table has no pass at all; None if it has one, or no passes are counted."""
    solved = values(run, group, rules(run)[0]).get("pass@1")
    if solved is None or any(solved.values()):
        return None
    if all(not row["completion"].strip() for row in headline_rows(run, group)):
        why = "the model wrote nothing, or left the function at once"
    else:
        ends = ", ".join(f"{count} x {name}" for name, count in verdicts(run, group).items())
        why = f"the model wrote no program that passes its tests ({ends})"
    return f"0 of {len(solved)} problems solved: {why}"


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
        "known_defects": known_defects(run),
        "calibration": calibration(run),
        "stages": stages(run),
    }


def known_defects(run: Run, group: str | None = None) -> dict[str, str]:
    """Task id -> what is known to be wrong with it in the published data; of one row of the table, or all."""
    benchmark = named(run.settings["benchmark"])
    own = [problem for problem in run.problems if group in (None, problem.row)]
    return {problem.task_id: defect for problem in own if (defect := benchmark.known_defect(problem))}


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


def percent(score: Estimate) -> str:
    """`22.9 ± 3.3`."""
    return f"{100 * score.mean:.1f} ± {100 * score.standard_error:.1f}"


def interval(score: Estimate) -> str:
    """`22.9 ± 3.3 [16.5, 29.3]`, whose interval stays on a line."""
    return f"{percent(score)} [{100 * score.low:.1f},\u00a0{100 * score.high:.1f}]"
