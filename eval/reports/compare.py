"""Two runs of one benchmark, compared problem by problem: what changed, and whether it could be chance.

Covers: runs of the same problems, data, prompts and number of samples, whatever their models and seeds; every figure,
row of the table and post-processing that both have. A problem that only one of the two could score is named and left
out of both. Does not cover: more than two runs; correction for looking at many rows; that the problems of several
languages may be translations of each other, for which the intervals of all rows together are too narrow.
compare_page.py has the page.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.eval.reports.metrics import Comparison, Estimate, compare, estimate
from mindgeex.eval.reports.scores import groups, rules, values
from mindgeex.eval.runner import Run, read

SAME = ("benchmark", "measure", "prompt_version")
"""Settings that have to be equal, or the figures mean different things; so have problems, data and samples."""
TOLD = ("model", "seed", "limits", "toolchains", "sandbox", "post_processing")
"""Settings that may differ, and are said to."""
ALL = "all"
"""Name of the rows of a table taken together."""
MOST_NAMED = 10


@dataclass(frozen=True)
class Pair:
    """Two runs that may be compared."""

    first: Run
    second: Run
    rules: tuple[str, ...]
    """Post-processing that both have, the first one's headline before the others."""
    left_out: dict[str, str]
    """Task id -> why only one of the two scored it."""
    differing: dict[str, tuple[object, object]]
    """Setting -> its value in either, where they differ."""

    @property
    def groups(self) -> list[str]:
        """Rows of the tables; all of them together last, where there are several."""
        found = groups(self.first)
        return [*found, ALL] if len(found) > 1 else found


@dataclass(frozen=True)
class Compared:
    """One figure of two runs, over the same problems."""

    first: Estimate
    second: Estimate
    change: Comparison
    better: tuple[str, ...]
    """Problems on which the second scores more."""
    worse: tuple[str, ...]


def pair(first: Path, second: Path) -> Pair:
    """Two folders of `mindgeex eval run`.

    Raises:
        UserError: a folder holds no finished and scored run, or the two are not of the same benchmark, prompts,
            problems, data and number of samples.
    """
    runs = one, other = read(first), read(second)
    for run in runs:
        if run.settings["model"] is None:
            raise UserError(f"{run.folder}: nothing was scored in this run, only canonical solutions")
    for key in SAME:
        _same(runs, f"their {key} is", *(run.settings[key] for run in runs))
    tasks = [{problem.task_id for problem in run.problems} for run in runs]
    for run, missing in zip(runs, (tasks[1] - tasks[0], tasks[0] - tasks[1]), strict=True):
        if missing:
            raise UserError(
                f"{first} and {second} are not comparable: {run.folder} lacks {len(missing)} problems of the other "
                f"({_named(sorted(missing), 3)}): run both with the same --languages and --data"
            )
    hashes = [run.settings["data"]["sha256"] for run in runs]
    for name in sorted(hashes[0].keys() | hashes[1].keys()):
        _same(runs, f"run both on the same --data; the SHA-256 of {name} is", *(own.get(name) for own in hashes))
    _same(runs, "run both with the same --num-samples; it is", *(run.settings["num_samples"] for run in runs))
    shared = tuple(name for name in rules(one) if name in rules(other))
    if not shared:
        raise UserError(f"{first} and {second} share no post-processing: run both with the same --rules")
    excluded = one.excluded | other.excluded
    if not tasks[0] - excluded.keys():
        raise UserError(f"{first} and {second} have no scored problem in common: see their report.html for the reasons")
    left_out = {task: excluded[task] for task in one.excluded.keys() ^ other.excluded.keys()}
    told, told_of_other = ({key: run.settings[key] for key in TOLD} for run in runs)
    return Pair(one, other, shared, left_out, dict(differences(told, told_of_other)))


def compared(pair: Pair, group: str, name: str) -> dict[str, Compared]:
    """Figure -> what both reached, for a row of the tables under a post-processing; empty if nothing was scored."""
    first, second = (values(run, None if group == ALL else group, name) for run in (pair.first, pair.second))
    found = {}
    for figure in first:
        tasks = [task for task in first[figure] if task in second.get(figure, ())]
        if not tasks:
            continue
        one, other = ([of[figure][task] for task in tasks] for of in (first, second))
        found[figure] = Compared(
            first=estimate(one),
            second=estimate(other),
            change=compare(one, other),
            better=tuple(task for task, a, b in zip(tasks, one, other, strict=True) if b > a),
            worse=tuple(task for task, a, b in zip(tasks, one, other, strict=True) if b < a),
        )
    return found


def lines(pair: Pair) -> list[str]:
    """The comparison in words.

    `pass@1, kept by codegeex: 20.1 -> 23.8 (+3.7 ± 1.5 [0.8, 6.7], p = 0.021, McNemar; 9 better, 3 worse of 164)`; each
    row of the tables under the first post-processing, all together under the others.
    """
    said = []
    for name in pair.rules:
        *parts, whole = pair.groups
        found = compared(pair, whole, name)
        for number, (figure, one) in enumerate(found.items()):
            said.append(f"{figure}, kept by {name}: {_line(one)}")
            for group in parts if name == pair.rules[0] else ():
                if figure in (own := compared(pair, group, name)):
                    said.append(f"  {group}: {_line(own[figure])}")
            for word, tasks in (("better", one.better), ("worse", one.worse)):
                if tasks and number == 0:
                    said.append(f"  {word}: {_named(tasks, MOST_NAMED)}")
    if pair.left_out:
        said.append(f"left out, scored in one run only: {_named(sorted(pair.left_out), MOST_NAMED)}")
    return said + [f"differs: {key}: {one} and {other}" for key, (one, other) in pair.differing.items()]


def differences(first: Any, second: Any, key: str = "") -> Iterator[tuple[str, tuple[object, object]]]:
    """`limits.cpu_s` and the like, with both values, where two trees of settings differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        for name in [*first, *(name for name in second if name not in first)]:
            yield from differences(first.get(name), second.get(name), f"{key}.{name}" if key else name)
    elif first != second:
        yield key, (first, second)


def _same(runs: tuple[Run, Run], what: str, first: object, second: object) -> None:
    if first != second:
        folders = " and ".join(str(run.folder) for run in runs)
        raise UserError(f"{folders} are not comparable: {what} {first!r} and {second!r}")


def _line(one: Compared) -> str:
    change = one.change
    return (
        f"{100 * one.first.mean:.1f} -> {100 * one.second.mean:.1f} ({difference(change)}, p = {change.p_value:.2g}, "
        f"{change.method}; {change.better} better, {change.worse} worse of {change.problems})"
    )


def difference(change: Comparison) -> str:
    """`+3.7 ± 1.5 [0.8, 6.7]`."""
    return (
        f"{round(100 * change.difference, 1) + 0.0:+.1f} ± {100 * change.standard_error:.1f} "
        f"[{100 * change.low:.1f}, {100 * change.high:.1f}]"
    )


def _named(tasks: Collection[str], most: int) -> str:
    more = f" and {len(tasks) - most} more" if len(tasks) > most else ""
    return ", ".join(list(tasks)[:most]) + more
