"""What each rule set keeps of a completion, and that the choice decides the score."""

import pytest

from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.postprocess import RULES
from mindgeex.eval.problem import Kept, Problem
from mindgeex.eval.reports.scores import figures
from mindgeex.eval.runner import run
from tests.eval.completers import Recital


def first(language: str) -> Problem:
    return HUMANEVAL_X.load([language]).problems[0]


def kept(rules: str, language: str, completion: str) -> str:
    return RULES[rules].keep(first(language), completion).code


@pytest.mark.parametrize(
    "language, completion, expected",
    [
        ("python", "    return 1\n\ndef g():\n    pass\n", "    return 1\n"),
        # Cut at the last mark, as published, and then at the line in column 0.
        ("python", "    a\ndef g():\n    b\ndef h():\n    c", "    a\n"),
        ("python", "    a\nprint(f())\nassert f()\n# end", "    a"),
        ("python", "    return 1\n", "    return 1\n"),
        ("python", "def f():\n    return 1\n", ""),
        ("cpp", "    return 1;\n}\nint main(", "    return 1;\n}"),
        ("cpp", "    no brace", "    no brace"),
        ("java", "        return 1;\n    }", "        return 1;\n    }\n}"),
        ("java", "        return 1;\n    }\n}", "        return 1;\n    }\n}"),
        ("java", "        x();\n    }\n    public static void main(String[] a) { }\n}", "        x();\n    }\n    }"),
        ("javascript", "  return 1\n}\n\nf(2)", "  return 1\n}"),
        ("go", "    return 1\n}\n\n// next\nfunc g() {}", "    return 1\n}"),
        ("go", "    return 1\n}\n\nfunc main() {\n}\n", "    return 1\n}"),
        ("rust", "    1\n}\n\nfn main() {", "    1\n}"),
    ],
)
def test_codegeex_cuts_as_published(language, completion, expected):
    assert kept("codegeex", language, completion) == expected


def test_raw_keeps_everything():
    problem = first("python")
    assert RULES["raw"].keep(problem, "x\ny") == Kept(problem.prompt, "x\ny")


@pytest.mark.parametrize(
    "completion, code, alone",
    [
        ("    return 1\nprint(f())", "    return 1", False),
        ("\n    return 1\n", "\n    return 1\n", False),
        ("def f(x):\n    return 1\n\nprint(f(2))\n    y", "def f(x):\n    return 1\n\n    y", True),
        ("import os\ndef f(x):\n    return 1", "def f(x):\n    return 1", True),
        ("async def f(x):\n    return 1", "def f(x):\n    return 1", True),
        ("class A:\n    pass", "class A:\n    pass", False),
        ("# calls def f\n    return 1", "def f\n    return 1", True),
    ],
)
def test_codefuse_drops_lines_in_column_0_and_lets_a_function_stand_alone(completion, code, alone):
    found = RULES["codefuse"].keep(first("python"), completion)
    assert found.code == code
    assert found.before == ("" if alone else first("python").prompt)
    assert found.imports == "codefuse"


def test_codefuse_leaves_other_languages_alone():
    assert kept("codefuse", "cpp", "    return 1;\n}\nint main() {}") == "    return 1;\n}\nint main() {}"


@pytest.mark.parametrize(
    "language, completion, expected",
    [
        ("python", "    return 1\n\nprint(2)\n", "    return 1"),
        ("python", "    def g():\n        return 1\n    return g()\n\n# end\nassert f()\n", None),
        ("python", "```python\n    return 1\n```\nThat is it.", "    return 1"),
        ("python", "    return 1\n```\nThat is it.", "    return 1"),
        ("python", "Here:\n```\n    return 1\n```\n", "    return 1"),
        ("cpp", "    if (a) { b(); }\n    return 1;\n}\nint main() { }\n", "    if (a) { b(); }\n    return 1;\n}"),
        ("cpp", '    string s = "}";\n    return 1;\n}\nint x;', '    string s = "}";\n    return 1;\n}'),
        ("java", "        return 1;\n    }\n    int g() { return 2; }\n}", "        return 1;\n    }\n}"),
        ("javascript", "  return changes.map((x) => { return x })\n}\nconsole.log(1)", None),
        ("go", "    return 1\n}\n\nfunc main() {\n}\n", "    return 1\n}"),
        ("rust", "    1\n}\n\nfn main() {\n}\n", "    1\n}"),
    ],
)
def test_sanitize_ends_where_the_function_ends(language, completion, expected):
    if expected is None:
        expected = completion[: completion.index("\n\n# end" if language == "python" else "\nconsole")]
    found = RULES["sanitize"].keep(first(language), completion)
    assert found == Kept(first(language).prompt, expected)


ANEW = {
    "python": "import os\n\ndef highest_level(changes):\n{body}\nprint(highest_level([1]))\n",
    "cpp": "int helper() { return 1; }\nint highest_level(vector<int> changes) {\n{body}\nint main() { return 0; }\n",
    "java": "```java\nimport java.util.*;\n\npublic class Solution {\n    public int highestLevel("
    "List<Integer> changes) {\n{body}\n```\nDone.",
    "javascript": "const highestLevel = (changes) => {\n{body}\nhighestLevel([1])\n",
    "go": 'package main\n\nimport (\n    "fmt"\n)\n\nfunc HighestLevel(changes []int) int {\n{body}\n'
    "func main() { fmt.Println(1) }\n",
    "rust": "fn highest_level(changes: Vec<i64>) -> i64 {\n{body}\nfn main() { }\n",
}


@pytest.mark.toolchain
@pytest.mark.parametrize("language", ANEW)
def test_a_function_written_anew_passes_sanitized(language, execute_program):
    problem = first(language)
    completion = ANEW[language].replace("{body}", problem.canonical_solution)
    code = HUMANEVAL_X.program(problem, RULES["sanitize"].keep(problem, completion))
    outcome = execute_program(language, *code)
    assert outcome.verdict.value == "passed", (outcome, code[0])


@pytest.mark.toolchain
@pytest.mark.parametrize("language", ANEW)
def test_a_continued_function_is_the_canonical_program_under_every_rule_set(language, execute_program):
    """So it is executed once; but for CodeFuse's longer list of imports in Python."""
    problem = first(language)
    programs = {HUMANEVAL_X.programs(problem, problem.canonical_solution, name)[0] for name in RULES}
    others = programs - {HUMANEVAL_X.canonical(problem)}
    assert len(programs) == len(others) + 1
    assert len(others) == (1 if language == "python" else 0)
    for code in others:
        assert execute_program(language, *code).verdict.value == "passed", code[0]


def test_a_bomb_for_the_parser_is_cut_by_the_stop_rule():
    assert kept("sanitize", "java", "a<" * 5000 + "}\n}\n more") == "a<" * 5000 + "}"


@pytest.mark.toolchain
@pytest.mark.usefixtures("sandbox")
def test_the_same_completions_score_all_or_nothing_by_the_rules_that_cut_them(tmp_path):
    """As CodeFuse-13B's: whole functions that begin in column 0, with a call below them."""
    problems = HUMANEVAL_X.load().problems
    whole = {p.task_id: [f"{p.prompt}{p.canonical_solution}\nprint('done')\n"] for p in problems}
    done = run(HUMANEVAL_X, HUMANEVAL_X.load(), tmp_path, completer=Recital(whole))
    found = {name: figures(done, "python", name)["pass@1"].mean for name in RULES}
    assert found == {"codegeex": 0.0, "raw": 1.0, "codefuse": 1.0, "sanitize": 1.0}
