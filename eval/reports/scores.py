"""From the rows of a run to figures: by row of the table (a language, a pair), by post-processing, by problem.

A problem that was left out because its own solution fails here counts nowhere; one without any generation counts as
unsolved.
"""

from collections import Counter

from mindgeex.eval.reports.metrics import Estimate, estimate, pass_at_k
from mindgeex.eval.results import Row, passed
from mindgeex.eval.runner import Run

KS = (1, 10, 100)
Tally = dict[str, tuple[float, int]]
"""Task id -> sum of its samples' scores, number of samples."""


def groups(run: Run) -> list[str]:
    """The rows of the tables, in the order of the problems."""
    return list(dict.fromkeys(problem.row for problem in run.problems))


def rules(run: Run) -> list[str]:
    """Names of the post-processing, the headline's first."""
    return list(run.settings["post_processing"])


def canonical_counts(run: Run, group: str) -> tuple[int, int]:
    """How many canonical solutions pass, of how many that there are."""
    own = [problem.task_id for problem in run.problems if problem.row == group]
    rows = [run.canonical[task] for task in own if task in run.canonical]
    return sum(map(passed, rows)), len(rows)


def tally(run: Run, name: str, group: str | None = None) -> Tally:
    """What every scored problem got under a post-processing.

    Args:
        run: the run.
        name: of the post-processing.
        group: only this row of the table.
    """
    scored = [problem for problem in run.problems if problem.task_id not in run.excluded]
    found = {problem.task_id: [0.0, 0] for problem in scored if group in (None, problem.row)}
    for row in run.results:
        if row["rules"] == name and row["task_id"] in found:
            found[row["task_id"]][0] += row["score"]
            found[row["task_id"]][1] += 1
    return {task: (total, int(count)) for task, (total, count) in found.items()}


def figures(run: Run, group: str, name: str | None = None) -> dict[str, Estimate]:
    """Means of `values`, with errors and intervals.

    Args:
        run: the run.
        group: the row of the table.
        name: of the post-processing; None for the headline's.
    """
    found = values(run, group, name or rules(run)[0])
    return {figure: estimate(list(of_problems.values())) for figure, of_problems in found.items()}


def values(run: Run, group: str | None, name: str) -> dict[str, dict[str, float]]:
    """`pass@1` and so on, as far as there are samples, or the benchmark's own measure; empty if nothing was scored.

    Args:
        run: the run.
        group: the row of the table; None for all.
        name: of the post-processing.

    Returns:
        Figure -> task id -> value, 0 to 1.
    """
    counted = tally(run, name, group)
    samples = [count for _, count in counted.values() if count]
    if not samples:
        return {}
    measure = run.settings["measure"]
    if measure != "pass@k":
        return {measure: {task: total / count if count else 0.0 for task, (total, count) in counted.items()}}
    return {
        f"pass@{k}": {task: pass_at_k(n, round(c), k) if n else 0.0 for task, (c, n) in counted.items()}
        for k in KS
        if k <= min(samples)
    }


def curve(run: Run, group: str, name: str, points: int = 25) -> list[tuple[int, float]]:
    """Pass@k in per cent for about so many k, from 1 to the fewest samples of a problem; evenly spaced on a log scale.

    Args:
        run: the run.
        group: the row of the table.
        name: of the post-processing.
        points: at the most.
    """
    counted = tally(run, name, group)
    most = min((count for _, count in counted.values() if count), default=0)
    ks = sorted({round(most ** (step / (points - 1))) for step in range(points)}) if most else []
    shares = {k: [pass_at_k(n, round(c), k) if n else 0.0 for c, n in counted.values()] for k in ks}
    return [(k, 100 * sum(own) / len(own)) for k, own in shares.items()]


def verdicts(run: Run, group: str) -> dict[str, int]:
    """How often each verdict was given under the headline's post-processing, the most frequent first."""
    return dict(Counter(row["verdict"] for row in headline_rows(run, group)).most_common())


def headline_rows(run: Run, group: str | None = None) -> list[Row]:
    """The samples under the headline's post-processing."""
    tasks = {problem.task_id for problem in run.problems if group in (None, problem.row)}
    return [row for row in run.results if row["task_id"] in tasks and row["rules"] == rules(run)[0]]
