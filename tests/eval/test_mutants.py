"""Mutants in six languages, and a scorer that tells good tests from useless ones."""

import json

import pytest

from mindgeex.eval import generations
from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.benchmarks.source import SHIPPED
from mindgeex.eval.benchmarks.testcases import TestGeneration, assertions
from mindgeex.eval.mutants import mutants
from mindgeex.eval.reports.scores import figures, tally
from mindgeex.eval.runner import run


def test_each_mistake_is_one_change():
    before, body = "def f(a, b):\n", "    if a < b and b:\n        return a + 1\n    return False\n"
    found = mutants(before, body, "python", most=100)
    for expected in (
        "    if a <= b and b:\n",
        "    if a > b and b:\n",
        "    if a < b or b:\n",
        "    if not (a < b and b):\n",
        "        return a - 1\n",
        "        return a + 2\n",
        "        return None\n",
        "    return True\n",
    ):
        assert sum(expected in mutant for mutant in found) >= 1, expected
    lines = body.splitlines()
    assert all(sum(a != b for a, b in zip(lines, m.splitlines(), strict=True)) == 1 for m in found)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("language", HUMANEVAL_X.languages)
def test_every_language_has_mutants_that_differ_from_the_solution(language):
    made = {}
    for problem in HUMANEVAL_X.load([language]).problems:
        made[problem.task_id] = mutants(problem.prompt, problem.canonical_solution, language)
        assert problem.canonical_solution not in made[problem.task_id]
    # Two of the six solutions in Rust are chains of calls, with nothing to change.
    assert sum(map(bool, made.values())) >= (4 if language == "rust" else 5), made


def test_types_and_pointers_are_left_alone():
    before, body = "int f(vector<int> a) {\n", "    int* p = &a[0];\n    map<int, vector<int>> m;\n    return *p;\n}\n"
    assert all("vector<int>>" in m and "int* p" in m for m in mutants(before, body, "cpp", most=100))


def test_few_mutants_are_spread_over_the_solution():
    body = "".join(f"    a = a + {number}\n" for number in range(20)) + "    return a\n"
    some = mutants("def f(a):\n", body, "python", most=4)
    changed = [
        next(n for n, (x, y) in enumerate(zip(body.split("\n"), m.split("\n"), strict=True)) if x != y) for m in some
    ]
    assert len(some) == 4 and changed[0] == 0 and changed[-1] == 20 and changed == sorted(changed)


@pytest.mark.parametrize(
    "text, kept",
    [
        ("assert f(1) == 2\nassert f(2) == 3\nx = 1\nassert f(3)", "assert f(1) == 2\nassert f(2) == 3\n"),
        ("assert f([\n    1,\n]) == 2\n\n# more\nassert f(2) ==", "assert f([\n    1,\n]) == 2\n\n# more\n"),
        ("assert f(1) == (", "\n"),
        ("assert\n", "\n"),
        ("assert f(1); import os", "\n"),
    ],
)
def test_only_whole_assertions_are_kept(text, kept):
    assert assertions(text).rstrip("\n") == kept.rstrip("\n")


MORE = [
    ("double", "def double(n):\n", "    return n + n\n", ["double(3) == 6", "double(-1) == -2", "double(0) == 0"]),
    (
        "clip",
        "def clip(n, top):\n",
        "    if n > top:\n        return top\n    return n\n",
        ["clip(3, 2) == 2", "clip(1, 2) == 1", "clip(2, 2) == 2", "clip(-1, 0) == -1"],
    ),
    (
        "count_even",
        "def count_even(numbers):\n",
        "    return sum(1 for n in numbers if n % 2 == 0)\n",
        ["count_even([1, 2, 4]) == 2", "count_even([]) == 0", "count_even([3, 5]) == 0", "count_even([6]) == 1"],
    ),
    (
        "last_index",
        "def last_index(items, wanted):\n",
        "    found = -1\n    for n, item in enumerate(items):\n        if item == wanted:\n            found = n\n"
        "    return found\n",
        ["last_index([1, 2, 1], 1) == 2", "last_index([], 1) == -1", "last_index([2], 1) == -1"],
    ),
]


@pytest.mark.toolchain
@pytest.mark.usefixtures("sandbox")
def test_for_ten_problems_good_tests_are_told_from_useless_ones(tmp_path):
    """Good: the problem's own assertions. Useless: true of any function. Wrong: false of the right one."""
    own = [json.loads(line) for line in (SHIPPED / "humaneval_python.jsonl").read_text().splitlines()]
    good = {}
    for row in own:
        name = row["test"].split("def check(")[1].split(")")[0]
        body = row["test"].split(":\n", 1)[1].split(f"\ncheck({name})")[0]
        good[row["task_id"]] = "\n".join(line.strip() for line in body.splitlines() if line.strip())
    for number, (name, prompt, solution, tests) in enumerate(MORE, start=len(own)):
        text = "\n".join(f"assert {test}" for test in tests)
        own.append(dict(own[0], task_id=f"Python/{number}", prompt=prompt, canonical_solution=solution, test=text))
        good[f"Python/{number}"] = text
        assert name in prompt
    (tmp_path / "humaneval_python.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    benchmark = TestGeneration()
    benchmark.most_mutants = 4
    data = benchmark.load(data=tmp_path)
    assert len(data.problems) == 10
    useless = " callable(print)\nassert 1 + 1 == 2\n"
    wrong = " False\n"
    lines = [
        {"task_id": problem.task_id, "generation": text}
        for problem in data.problems
        for text in (good[problem.task_id].removeprefix("assert"), useless)
    ] + [{"task_id": "Python/0", "generation": wrong}]
    (tmp_path / "tests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run(benchmark, data, tmp_path / "out", generations=generations.read(tmp_path / "tests.jsonl", data.problems))
    assert done.excluded == {}
    scores = {(row["task_id"], row["sample"]): row["score"] for row in done.results}
    assert [scores[p.task_id, 0] for p in data.problems] == [1.0] * 10
    assert [scores[p.task_id, 1] for p in data.problems] == [0.0] * 10
    assert scores["Python/0", 2] == 0.0
    assert figures(done, "python")["mutants caught"].mean == pytest.approx((9 / 2 + 1 / 3) / 10)
    assert tally(done, "assertions")["Python/0"] == (1.0, 3)
