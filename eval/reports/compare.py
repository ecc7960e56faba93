"""Two runs of one benchmark, compared problem by problem: what changed, and whether it could be chance.

Covers: runs whose problems, prompts and data are the same; the mean score of each problem's samples, under every
post-processing both have. Does not cover: pass@k for k > 1; more than two runs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.common.files import read_json
from mindgeex.eval.reports.metrics import Comparison, compare
from mindgeex.eval.reports.scores import means

SAME = ("benchmark", "measure", "prompt_version")
"""What has to be equal, or the figures mean different things."""
TOLD = ("data", "limits", "toolchains", "num_samples", "seed", "model")
"""What may differ, and is said to."""


@dataclass(frozen=True)
class Compared:
    """Two runs under one post-processing."""

    rules: str
    measure: str
    first: float
    second: float
    comparison: Comparison
    better: tuple[str, ...]
    """Problems on which the second scores more."""
    worse: tuple[str, ...]
    left_out: int
    """Problems that only one of the two has."""


def compare_runs(first: Path, second: Path) -> tuple[list[Compared], list[str]]:
    """Compares two folders of `mindgeex eval run`.

    Returns:
        A result for each post-processing, and what differs between the runs, a line each.

    Raises:
        UserError: a folder holds no scored run, or the runs are not of the same benchmark and prompts.
    """
    before, after = _score(first), _score(second)
    for key in SAME:
        if before[key] != after[key]:
            raise UserError(
                f"{first} and {second} are not comparable: their {key} is {before[key]!r} and {after[key]!r}"
            )
    found = []
    for name in before["problems"]:
        if name not in after["problems"]:
            continue
        one, other = means(before["problems"][name]), means(after["problems"][name])
        common = [task for task in one if task in other]
        if not common:
            raise UserError(f"{first} and {second} have no problem in common: compare runs in the same languages")
        pairs = [one[task] for task in common], [other[task] for task in common]
        result = compare(*pairs)
        found.append(
            Compared(
                rules=name,
                measure="pass@1" if before["measure"] == "pass@k" else before["measure"],
                first=sum(pairs[0]) / len(common),
                second=sum(pairs[1]) / len(common),
                comparison=result,
                better=tuple(task for task in common if other[task] > one[task]),
                worse=tuple(task for task in common if other[task] < one[task]),
                left_out=len(one.keys() ^ other.keys()),
            )
        )
    if not found:
        raise UserError(f"{first} and {second} share no post-processing: run both with the same --rules")
    differing = [f"{key}: {before[key]} and {after[key]}" for key in TOLD if before[key] != after[key]]
    return found, differing


def lines(found: list[Compared]) -> list[str]:
    """`pass@1, kept by codegeex: 20.1 -> 23.8 (+3.7 ± 1.5 [0.8, 6.7], p = 0.021; 9 better, 3 worse of 164)`."""
    said = []
    for one in found:
        result = one.comparison
        said.append(
            f"{one.measure}, kept by {one.rules}: {100 * one.first:.1f} -> {100 * one.second:.1f} "
            f"({100 * result.difference:+.1f} ± {100 * result.standard_error:.1f} "
            f"[{100 * result.low:.1f}, {100 * result.high:.1f}], p = {result.p_value:.2g}; "
            f"{result.better} better, {result.worse} worse of {result.problems})"
        )
        if one.left_out:
            said.append(f"  {one.left_out} problems were scored in one run only and are left out")
        for word, tasks in (("better", one.better), ("worse", one.worse)):
            if tasks:
                more = f" and {len(tasks) - 10} more" if len(tasks) > 10 else ""
                said.append(f"  {word}: {', '.join(tasks[:10])}{more}")
    return said


def _score(folder: Path) -> dict[str, Any]:
    path = folder / "score.json"
    if not path.is_file():
        raise UserError(f"{folder}: holds no score.json: give the --out folder of a finished `mindgeex eval run`")
    score = read_json(path)
    if not isinstance(score, dict) or not {*SAME, *TOLD, "problems"} <= score.keys():
        raise UserError(f"{path}: not the score of a run: score it again with `mindgeex eval run`")
    if not score["problems"]:
        raise UserError(f"{path}: nothing was scored in this run, only canonical solutions")
    return score
