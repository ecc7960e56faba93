"""Two runs, compared problem by problem."""

import json
from pathlib import Path

import pytest

from mindgeex.common.errors import UserError
from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.reports import page
from mindgeex.eval.reports.compare import compare_runs, lines
from mindgeex.eval.runner import run
from tests.eval.completers import Recital

NOTHING = ["    return None\n"]


def scored(folder: Path, unsolved: list[int], rules: tuple[str, ...] = ("codegeex",)) -> Path:
    completer = Recital({f"Python/{number}": NOTHING for number in unsolved})
    page.write(run(HUMANEVAL_X, HUMANEVAL_X.load(), folder, completer=completer, rules=rules, seed=1))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory, sandbox) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return scored(folder / "a", [0, 1, 2, 3]), scored(folder / "b", [0, 5])


@pytest.mark.toolchain
def test_what_changed_and_whether_it_could_be_chance_is_said(runs):
    [found], differing = compare_runs(*runs)
    assert (found.first, found.second) == (pytest.approx(2 / 6), pytest.approx(4 / 6))
    assert found.better == ("Python/1", "Python/2", "Python/3") and found.worse == ("Python/5",)
    # Of the 16 ways to sign four equal differences, ten have a sum of at least 2.
    assert found.comparison.p_value == pytest.approx(10 / 16, abs=0.02)
    assert differing == []
    first, *rest = lines([found])
    assert first.startswith("pass@1, kept by codegeex: 33.3 -> 66.7 (+33.3 ± ")
    assert "p = 0.6" in first and first.endswith("3 better, 1 worse of 6)")
    assert rest == ["  better: Python/1, Python/2, Python/3", "  worse: Python/5"]


@pytest.mark.toolchain
def test_runs_that_cannot_be_compared_are_refused(runs, tmp_path):
    first, _ = runs
    with pytest.raises(UserError, match="holds no score.json"):
        compare_runs(first, tmp_path)
    score = json.loads((first / "score.json").read_text())
    for change, message in (
        ({"prompt_version": "other"}, "not comparable: their prompt_version is 'codegeex-v1' and 'other'"),
        ({"problems": {}}, "nothing was scored"),
        ({"problems": {"raw": score["problems"]["codegeex"]}}, "share no post-processing"),
        ({"problems": {"codegeex": {"Go/0": [1.0, 1]}}}, "no problem in common"),
    ):
        (tmp_path / "score.json").write_text(json.dumps(score | change))
        with pytest.raises(UserError, match=message):
            compare_runs(first, tmp_path)
    (tmp_path / "score.json").write_text("[]")
    with pytest.raises(UserError, match="not the score of a run"):
        compare_runs(first, tmp_path)


@pytest.mark.toolchain
def test_other_seeds_and_missing_problems_are_said(runs, tmp_path):
    first, _ = runs
    score = json.loads((first / "score.json").read_text())
    del score["problems"]["codegeex"]["Python/0"]
    (tmp_path / "score.json").write_text(json.dumps(score | {"seed": 2}))
    [found], differing = compare_runs(first, tmp_path)
    assert found.left_out == 1
    assert "1 problems were scored in one run only" in lines([found])[1]
    assert differing == ["seed: 1 and 2"]
