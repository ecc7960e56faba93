"""Two runs, compared problem by problem: the figures, what is refused, and the page."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mindgeex.common.errors import UserError
from mindgeex.eval import generations
from mindgeex.eval.benchmarks.code_to_text import CODE_TO_TEXT
from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.reports import compare_page
from mindgeex.eval.reports.compare import compared, lines, pair
from mindgeex.eval.reports.metrics import MCNEMAR, SIGNS
from mindgeex.eval.runner import run
from tests.eval.completers import Recital
from tests.eval.reports.test_report import packed

NOTHING = "    return None\n"
pytestmark = [pytest.mark.toolchain, pytest.mark.usefixtures("sandbox")]


def scored(folder: Path, unsolved: dict[str, list[str]], num_samples: int = 1, languages: tuple[str, ...] = ()) -> Path:
    rules = ("codegeex", "raw") if languages else ("codegeex",)
    dataset = HUMANEVAL_X.load(languages)
    run(HUMANEVAL_X, dataset, folder, completer=Recital(unsolved), rules=rules, seed=1, num_samples=num_samples)
    return folder


def failing(*numbers: int) -> dict[str, list[str]]:
    return {f"Python/{number}": [NOTHING] for number in numbers}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return scored(folder / "a", failing(0, 1, 2, 3)), scored(folder / "b", failing(0, 5))


@pytest.fixture
def altered(runs, tmp_path) -> Callable[..., Path]:
    """A copy of the second run with other settings or rows."""

    def alter(settings: dict[str, Any] | None = None, **files: Callable[[list[dict[str, Any]]], Any]) -> Path:
        folder = tmp_path / f"altered{len(list(tmp_path.iterdir()))}"
        shutil.copytree(runs[1], folder)
        path = folder / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | (settings or {})))
        for name, change in files.items():
            path = folder / f"{name}.jsonl"
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            path.write_text("".join(json.dumps(row) + "\n" for row in change(rows)))
        return folder

    return alter


def test_what_changed_and_whether_it_could_be_chance_is_said(runs):
    both = pair(*runs)
    [(figure, found)] = compared(both, "python", "codegeex").items()
    assert (figure, found.first.mean, found.second.mean) == ("pass@1", pytest.approx(2 / 6), pytest.approx(4 / 6))
    assert found.better == ("Python/1", "Python/2", "Python/3") and found.worse == ("Python/5",)
    # Of the 16 ways to sign four equal differences, ten have a sum of at least 2.
    assert (found.change.p_value, found.change.method) == (10 / 16, MCNEMAR)
    assert both.differing == {} and both.left_out == {}
    first, *rest = lines(both)
    assert first.startswith("pass@1, kept by codegeex: 33.3 -> 66.7 (+33.3 ± ")
    assert first.endswith("p = 0.62, McNemar; 3 better, 1 worse of 6)")
    assert rest == ["  better: Python/1, Python/2, Python/3", "  worse: Python/5"]


def test_runs_that_cannot_be_compared_are_refused_with_what_differs_and_a_remedy(runs, altered, tmp_path):
    first, _ = runs
    canonical = tmp_path / "canonical"
    run(HUMANEVAL_X, HUMANEVAL_X.load(), canonical)
    other_data = {"source": "elsewhere", "sha256": {"humaneval_python.jsonl": "0123"}}
    for second, message in (
        (tmp_path, "holds no run.json"),
        (canonical, "nothing was scored in this run, only canonical solutions"),
        (altered({"prompt_version": "other"}), "not comparable: their prompt_version is 'codegeex-v1' and 'other'"),
        (altered({"measure": "BLEU"}), "their measure is 'pass@k' and 'BLEU'"),
        (altered(problems=lambda rows: rows[:4]), r"lacks 2 problems of the other \(Python/4, Python/5\)"),
        (altered({"data": other_data}), r"same --data; the SHA-256 of humaneval_python.jsonl is '\w{64}' and '0123'"),
        (altered({"num_samples": 2}), "same --num-samples; it is 1 and 2"),
        (altered(samples=lambda rows: rows[:4]), "not finished"),
    ):
        with pytest.raises(UserError, match=message):
            pair(first, second)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match="not the settings of a run"):
        pair(first, tmp_path)
    other_rules = tmp_path / "raw"
    run(HUMANEVAL_X, HUMANEVAL_X.load(), other_rules, completer=Recital(), rules=("raw",), seed=1)
    with pytest.raises(UserError, match="share no post-processing"):
        pair(first, other_rules)


def test_other_settings_and_problems_that_one_machine_could_not_score_are_said(runs, altered, tmp_path):
    def broken(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        failed = {"verdict": "exception", "reason": "NameError"}
        return [row | failed if row["task_id"] == "Python/3" else row for row in rows]

    limits = json.loads((runs[1] / "run.json").read_text())["limits"]
    both = pair(runs[0], altered({"seed": 2, "limits": limits | {"cpu_s": 3}}, canonical=broken))
    assert both.left_out == {"Python/3": "exception: NameError"}
    first, *_, left_out, seed, cpu_s = lines(both)
    assert first.endswith("2 better, 1 worse of 5)")
    assert left_out == "left out, scored in one run only: Python/3"
    assert (seed, cpu_s) == ("differs: seed: 1 and 2", f"differs: limits.cpu_s: {limits['cpu_s']} and 3")
    shown = compare_page.write(both, tmp_path / "page.html").read_text()
    assert "limits: not the same, so part of a difference may come from there." in shown
    assert re.search(r"Left out: scored in one run only.*Python/3.*exception: NameError", shown, re.DOTALL)


def test_the_page_shows_who_solves_what_with_both_completions_side_by_side(runs, tmp_path):
    shown = compare_page.write(pair(*runs), tmp_path / "page.html").read_text()
    assert not re.search(r"(?:src|href)=[\"'](?!#)", shown) and shown.count("<svg") == 1
    assert "<td>0.62 (McNemar)</td>" in shown and "<td>33.3 ± 21.1 [0.0,\u00a066.7]</td>" in shown
    content = packed(shown)
    titles = [record["title"] for record in content["records"]]
    assert titles[0] == "Python/5: only A solves it (A 1 of 1, B 0 of 1)"
    assert titles[1:4] == [f"Python/{number}: only B solves it (A 0 of 1, B 1 of 1)" for number in (1, 2, 3)]
    assert titles[4:] == [
        "Python/4: both alike (A 1 of 1, B 1 of 1)", "Python/0: neither (A 0 of 1, B 0 of 1)",
    ]  # fmt: skip
    [[prompt], completions, said] = content["records"][0]["rows"]
    assert prompt[0] == "prompt" and [name for name, _ in completions] == [
        "A: completion, sample 0", "B: completion, sample 0",
    ]  # fmt: skip
    assert content["texts"][completions[1][1]] == NOTHING
    assert content["texts"][said[0][1]].startswith("passed: all tests passed")
    assert content["texts"][said[1][1]].startswith("wrong answer: AssertionError")


def test_several_samples_languages_and_rules_each_have_their_lines(tmp_path):
    """Half of A's samples of a problem pass, so it is not McNemar's test; pass@10 is compared, too."""
    own = {problem.task_id: problem.canonical_solution for problem in HUMANEVAL_X.load().problems}
    sometimes = {"Python/0": [NOTHING, own["Python/0"]], "Python/1": [NOTHING]}
    first = scored(tmp_path / "a", sometimes, num_samples=10, languages=("python", "js"))
    second = scored(tmp_path / "b", {}, num_samples=10, languages=("python", "js"))
    both = pair(first, second)
    assert both.groups == ["python", "javascript", "all"] and both.rules == ("codegeex", "raw")
    found = compared(both, "all", "codegeex")
    assert list(found) == ["pass@1", "pass@10"]
    assert (found["pass@1"].change.method, found["pass@10"].change.method) == (SIGNS, MCNEMAR)
    assert found["pass@1"].change.difference == pytest.approx(1.5 / 12)
    assert found["pass@1"].change.p_value == pytest.approx(2 / 4, abs=0.02)  # of four ways to sign two, two are as far
    said = lines(both)
    assert [line.partition(" (")[0] for line in said[:4]] == [
        "pass@1, kept by codegeex: 87.5 -> 100.0", "  python: 75.0 -> 100.0", "  javascript: 100.0 -> 100.0",
        "  better: Python/0, Python/1",
    ]  # fmt: skip
    shown = compare_page.write(both, tmp_path / "page.html").read_text()
    assert "its intervals are too narrow" in shown
    records = packed(shown)["records"]
    assert records[0]["title"] == "Python/1: only B solves it (A 0 of 10, B 10 of 10)"
    assert records[1]["title"] == "Python/0: both, B more often (A 5 of 10, B 10 of 10)"
    assert records[1]["rows"][1][0][0] == "A: completion, sample 1"  # the first that passes


def test_texts_are_compared_by_their_scores(tmp_path):
    (tmp_path / "python").mkdir()
    rows = [
        {
            "code": f'def f(n):\n    """Adds {n} to it."""\n    return n + {n}',
            "docstring": f"Adds {n} to it.",
            "docstring_tokens": ["Adds", str(n), "to", "it", "."],
        }
        for n in range(3)
    ]
    (tmp_path / "python" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = CODE_TO_TEXT.load(("python",), tmp_path)
    folders = []
    for name, texts in (
        ("a", ["Adds 0 to it .", "What", "Adds 2 to it ."]),
        ("b", ["Adds 0 to it .", "Adds 1 to it .", "No"]),
    ):
        file, folder = tmp_path / f"{name}.jsonl", tmp_path / name
        answers = [
            {"task_id": problem.task_id, "generation": text}
            for problem, text in zip(dataset.problems, texts, strict=True)
        ]
        file.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
        run(CODE_TO_TEXT, dataset, folder, generations=generations.read(file, dataset.problems))
        folders.append(folder)
    shown = compare_page.write(pair(*folders), tmp_path / "page.html").read_text()
    assert "Who scores more" in shown and "BLEU (%)" in shown
    content = packed(shown)
    assert [record["kind"] for record in content["records"]] == ["A scores more", "B scores more", "equal"]
    [_, _, [[heading, worth], _]] = content["records"][0]["rows"]
    assert (heading, content["texts"][worth]) == ("A: worth", "100.0 of 100")
