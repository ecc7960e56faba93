"""Every benchmark: its prompts to the letter, and its own solutions through the sandbox.

tests/eval/golden/ holds the prompts for problems of our own, and SHA-256 of all prompts for the published data, which
the project does not contain. After a wanted change: UPDATE_GOLDEN=1 pytest tests/eval/test_benchmarks.py, and a new
`prompt_version`.
"""

import ast
import gzip
import hashlib
import json
import os
from pathlib import Path

import pytest

from mindgeex.common.errors import UserError
from mindgeex.eval.benchmarks import BENCHMARKS, benchmark
from mindgeex.eval.benchmarks.benchmark import Benchmark, Dataset
from mindgeex.eval.benchmarks.comments import first_comment
from mindgeex.eval.benchmarks.plus_inputs import python_inputs
from mindgeex.eval.benchmarks.translation import PAPER_PAIRS, RUST_PAIRS
from mindgeex.eval.postprocess import RULES
from mindgeex.eval.problem import Kept
from mindgeex.eval.reports.scores import figures, rules
from mindgeex.eval.runner import run
from mindgeex.model_zoo.decoding.stops import Stop, end_of

GOLDEN = Path(__file__).parent / "golden"
MBPP_ROW = {
    "task_id": 11,
    "text": "Write a function to double a number.",
    "code": "def half(n):\r\n  return n / 2\r\ndef double(n):\r\n  return n + n",
    "test_list": ["assert double(3) == 6", "assert double(0) == 0"],
    "test_setup_code": "",
    "challenge_test_list": [],
}
HUMANEVAL_ROW = {
    "task_id": "HumanEval/0",
    "prompt": 'from typing import List\n\n\ndef total(n: List[int]) -> int:\n    """ Add up.\n    """\n',
    "entry_point": "total",
    "canonical_solution": "    return sum(n)\n",
    "test": "\n\n\ndef check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n",
}
PLUS_ROW = HUMANEVAL_ROW | {"base_input": [[[1, 2]]], "plus_input": [[[]], [[0.1, 0.2]]], "atol": 0}
MBPP_PLUS_ROW = {
    "task_id": "Mbpp/2",
    "prompt": '"""\nFind the shared elements.\nassert set(similar_elements((3, 4), (4, 5))) == {4}\n"""\n',
    "entry_point": "similar_elements",
    "canonical_solution": "\ndef similar_elements(a, b):\n  return tuple(set(a) & set(b))\n",
    "base_input": [[[3, 4], [4, 5]]],
    "plus_input": [[[1, 2], [2, 1]]],
    "atol": 0,
}
CN_ROW = {
    "task_id": "Python/0",
    "prompt": 'def total(n):\n    """\n    把数加起来。\n    """',
    "canonical_solution": "    return sum(n)\n",
    "test": "\nassert total([1, 2]) == 3",
    "prompt_text": "Add up the numbers.",
    "prompt_text_chinese": "把数加起来。",
}
MBPP_CN_ROW = {
    "task_id": "Python/11",
    "prompt_text_chinese": "写一个函数，把数加倍。",
    "canonical_solution": MBPP_ROW["code"],
    "test_setup": "",
    "test": MBPP_ROW["test_list"],
    "challenge_test_list": ["assert double(-1) == -2"],
}
TRANSLATION_ROW = {
    "task_id": "Python/1",
    "prompt": "#include <bits/stdc++.h>\nusing namespace std;\n\nint twice(int n) {\n    return n + n;\n}",
    "canonical_solution": "def twice(n):\n    return n + n",
    "test": "assert twice(2) == 4",
    "func_title": "def twice(n): \r",
}
CODE_TO_TEXT_ROW = {
    "code": 'def twice(n):\n    """Doubles.\n\n    A number."""\n    return n + n',
    "docstring": "Doubles.\n\n    A number.",
    "docstring_tokens": ["Doubles", "."],
}
SMALL = {
    "humaneval": ("python", {"HumanEval.jsonl": HUMANEVAL_ROW}),
    "humaneval+": ("python", {"HumanEvalPlus-v0.jsonl": PLUS_ROW}),
    "mbpp": ("python", {"mbpp.jsonl": MBPP_ROW}),
    "mbpp+": ("python", {"MbppPlus.jsonl": MBPP_PLUS_ROW}),
    "humaneval-cn": ("python", {"code_completion/humaneval_python_cn.jsonl": CN_ROW}),
    "mbpp-cn": ("python", {"nl2code/mbpp_x.jsonl": MBPP_CN_ROW}),
    "codefuse-translation": ("cpp-python", {"code_trans/codeTrans_cpp_to_python.jsonl": TRANSLATION_ROW}),
    "code-to-text": ("python", {"python/test.jsonl": CODE_TO_TEXT_ROW}),
    "comment-generation": ("all", {"humaneval_python_cn.jsonl": CN_ROW}),
    "humaneval-x": ("all", {}),
    "humaneval-x-translation": ("all", {}),
    "test-generation": ("python", {}),
}
"""Benchmark -> languages, files of our own (none where problems ship with the project)."""
XLCOST = {
    "test-C++-Python-tok.cpp": "int twice ( int n ) { NEW_LINE return n + n ; NEW_LINE }",
    "test-C++-Python-tok.py": "def twice ( n ) : NEW_LINE INDENT return n + n NEW_LINE DEDENT",
}


def is_executed(name: str) -> bool:
    return benchmark(name).measure == "pass@k"


def small(name: str, folder: Path) -> Dataset:
    """The benchmark's smallest data set, of our own."""
    if name == "xlcost-translation":
        pair = folder / "pair_data_tok_full" / "C++-Python"
        pair.mkdir(parents=True)
        for file, line in XLCOST.items():
            (pair / file).write_text(line + "\n")
        return benchmark(name).load(["cpp-python", "python-cpp"], folder)
    languages, files = SMALL[name]
    for file, row in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(row, ensure_ascii=False) + "\n")
    return benchmark(name).load([languages], folder if files else None)


def same_as_golden(name: str, found: dict[str, object]) -> None:
    """Equal to the file, which is written where UPDATE_GOLDEN is set."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert found == json.loads(path.read_text(encoding="utf-8"))


def prompts(one: Benchmark, data: Dataset, most: int) -> dict[str, object]:
    """The first prompts of each row of the table, with the version they belong to."""
    by_row: dict[str, list[str]] = {}
    for problem in data.problems:
        by_row.setdefault(problem.row, []).append(one.prompt(problem))
    return {"version": one.prompt_version, **{row: texts[:most] for row, texts in by_row.items()}}


def test_prompts_are_to_the_letter_what_they_were(tmp_path):
    found = {}
    for name in BENCHMARKS:
        (tmp_path / name).mkdir()
        found[name] = prompts(benchmark(name), small(name, tmp_path / name), 1)
    same_as_golden("prompts.json", found)


PUBLISHED = {
    "humaneval-x": "humaneval-x",
    "humaneval-x-translation": "humaneval-x",
    "humaneval+": "evalplus",
    "mbpp+": "evalplus",
    "humaneval-cn": "codefuse-eval",
    "mbpp-cn": "codefuse-eval",
    "codefuse-translation": "codefuse-eval",
    "comment-generation": "codefuse-eval",
    "test-generation": "humaneval-x",
}


def test_prompts_of_the_published_data_are_to_the_letter_what_they_were(reference_data):
    found: dict[str, object] = {}
    for name, folder in PUBLISHED.items():
        one = benchmark(name)
        data = one.load(["all"], reference_data / "benchmarks" / folder)
        whole = prompts(one, data, len(data.problems))
        found[name] = {
            row: texts
            if row == "version"
            else f"{len(texts)} prompts {hashlib.sha256(chr(0).join(texts).encode()).hexdigest()}"
            for row, texts in whole.items()
        }
    same_as_golden("published.json", found)


def test_translation_has_the_pairs_of_the_paper_and_those_with_rust():
    assert len(PAPER_PAIRS) == 20 and len(RUST_PAIRS) == 10
    assert len({*PAPER_PAIRS, *RUST_PAIRS}) == 30
    assert len(benchmark("humaneval-x-translation").load(["all"]).problems) == 30 * 6


@pytest.mark.toolchain
@pytest.mark.parametrize("name", [name for name, (_, files) in SMALL.items() if files and is_executed(name)])
def test_own_solutions_pass_and_doing_nothing_does_not(name, tmp_path, execute_program):
    one = benchmark(name)
    [problem] = small(name, tmp_path).problems
    assert execute_program(problem.language, *one.canonical(problem)).verdict.value == "passed"
    passing = {execute_program("python", *code).verdict.value for code in recited(one, problem)}
    assert passing == {"passed"}
    nothing = f"{problem.prompt or ''}    pass\n" if problem.prompt.startswith(("def", "from")) else "pass"
    assert execute_program("python", *one.program(problem, Kept("", nothing))).verdict.value != "passed"


def recited(one: Benchmark, problem) -> list[tuple[str, str]]:
    """The programs of a completion that is the problem's own solution, under each post-processing."""
    return [code for name in one.rules for code in one.programs(problem, problem.canonical_solution, name)]


@pytest.mark.toolchain
@pytest.mark.parametrize(
    "solution, verdict",
    [
        ("    return sum(n) + 1e-9\n", "passed"),  # floats within the tolerance, where floats are expected
        ("    return sum(n) + 1e-3\n", "wrong answer"),
        ("    return 3\n", "wrong answer"),  # right on the base input alone
        ("    n.append(0)\n    return sum(n)\n", "passed"),  # each call has arguments of its own
        ("    raise KeyError\n", "exception"),
    ],
)
def test_plus_compares_with_the_canonical_solution(solution, verdict, tmp_path, execute_program):
    row = PLUS_ROW | {"base_input": [[[0.5, 2.5]]], "plus_input": [[[0.1, 0.2]], [[float("inf")]]]}
    (tmp_path / "HumanEvalPlus.jsonl").write_text(json.dumps(row))
    one = benchmark("humaneval+")
    [problem] = one.load([], tmp_path).problems
    assert execute_program("python", *one.programs(problem, solution, "raw")[0]).verdict.value == verdict


@pytest.mark.parametrize(
    "task, arguments, expected",
    [
        ("Mbpp/2", [[1], [2]], [(1,), (2,)]),
        ("Mbpp/63", [[[1, 2]]], [[(1, 2)]]),
        ("Mbpp/75", [[[1]], 3], [[(1,)], 3]),
        ("Mbpp/106", [[1], [2]], [[1], (2,)]),
        ("Mbpp/115", [[[1], []]], [[{1}, {}]]),
        ("Mbpp/124", ["1", "2j"], [1.0, 2j]),
        ("Mbpp/252", ["(3+4j)"], [3 + 4j]),
        ("Mbpp/259", [[[1], [2]], [[3]]], [((1,), (2,)), ((3,),)]),
        ("Mbpp/278", [[1, [2]]], [(1, (2,))]),
        ("Mbpp/307", [[1], 2, 3], [(1,), 2, 3]),
        ("Mbpp/580", [[1, [2, [3]]]], ((1, (2, (3,))),)),
        ("Mbpp/722", [{"a": [1]}, 2], [{"a": (1,)}, 2]),
        ("Mbpp/3", [[1]], [[1]]),
        ("HumanEval/2", [[1]], [[1]]),
    ],
)
def test_inputs_get_the_types_that_json_has_not(task, arguments, expected):
    assert python_inputs(task, [arguments]) == [expected]


def test_the_inputs_of_mbpp_plus_have_the_types_of_its_assertions(reference_data):
    """Which tasks need tuples and sets is a table; the data's own assertions, which are Python, say the same.

    Except where the two differ in more than types (87, 301), or EvalPlus itself took lists for tuples or complex
    numbers for whole ones.
    """
    differing, compared = set(), 0
    [path] = (reference_data / "benchmarks" / "evalplus").glob("MbppPlus*")
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        row = json.loads(line)
        calls = [node for node in ast.walk(ast.parse(row["assertion"])) if isinstance(node, ast.Call)]
        own = [call for call in calls if getattr(call.func, "id", "") == row["entry_point"]]
        own.sort(key=lambda call: (call.lineno, call.col_offset))
        inputs = python_inputs(row["task_id"], row["base_input"])
        for call, values in zip(own, inputs, strict=False):  # two tasks assert less than they have inputs
            try:
                said = [ast.literal_eval(argument) for argument in call.args]
            except ValueError:
                continue
            compared += 1
            differing |= {row["task_id"]} if shape(said) != shape(list(values)) else set()
    assert compared > 1150
    assert differing == {f"Mbpp/{number}" for number in DIFFERING}


DIFFERING = (87, 98, 104, 140, 145, 252, 301, 596)


def shape(value: object) -> object:
    """The value with the types of its parts; whole numbers and floats are alike."""
    if isinstance(value, (list, tuple)):
        return type(value).__name__, *map(shape, value)
    return float(value) if isinstance(value, (int, float)) else repr(value)


@pytest.mark.toolchain
def test_a_sample_of_published_solutions_passes(reference_data, execute_program):
    """Of each set in Python every 60th; whole sets are checked by `mindgeex eval run NAME --canonical`."""
    for name in ("humaneval+", "mbpp+", "humaneval-cn", "mbpp-cn"):
        one = benchmark(name)
        for problem in one.load([], reference_data / "benchmarks" / PUBLISHED[name]).problems[::60]:
            outcome = execute_program("python", *one.canonical(problem))
            assert outcome.verdict.value == "passed", (name, problem.task_id, outcome)


class Reciting:
    """Answers a text benchmark with the references, but for the first."""

    def __init__(self, one: Benchmark, data: Dataset):
        self.description: dict[str, object] = {"checkpoint": "recital"}
        self.answers = {one.prompt(problem): problem.canonical_solution for problem in data.problems}

    def complete(self, prompt: str, *, num_samples: int, seed: int, stop: Stop) -> list[str]:
        return [self.answers[prompt]] * num_samples


@pytest.mark.parametrize("name", ["code-to-text", "comment-generation", "xlcost-translation"])
def test_texts_are_compared_without_a_sandbox(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    (tmp_path / "data").mkdir()
    one, data = benchmark(name), small(name, tmp_path / "data")
    with pytest.raises(UserError, match="compares texts, so it has no solutions to check"):
        run(one, data, tmp_path / "none")
    done = run(one, data, tmp_path / "out", completer=Reciting(one, data))
    assert rules(done) == list(one.rules)
    assert figures(done, data.problems[0].row)["BLEU"].mean == pytest.approx(1.0)
    assert done.excluded == {} and done.canonical == {}
    assert one.score(data.problems[0], "something else", []) < 0.2


def test_of_an_answer_the_first_comment_counts():
    assert first_comment('def f():\n    """Add up\n    numbers."""\n    # no\n') == "Add up numbers."
    assert first_comment("x = 1\n# Add up\n  # numbers.\ny = 2 # no") == "Add up numbers."
    assert first_comment("It adds up\nnumbers.\n\nMore.") == "It adds up numbers."
    assert first_comment("") == ""


def test_a_docstring_is_taken_out_of_the_prompt_in_any_quotes():
    one = benchmark("code-to-text")
    for quote in ('"""', "'''", '"', "'"):
        code = f"def f(n):\n    {quote}Doubles.{quote}\n    return n"
        row = {"code": code, "docstring": "Doubles.", "docstring_tokens": ["Doubles", "."]}
        found = prompts_of(one, row)
        assert found.startswith("def f(n):") and "Doubles" not in found
        assert found.endswith('\n    return n\n""" The goal of this function is to:\n')


def prompts_of(one: Benchmark, row: dict[str, object]) -> str:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "python").mkdir()
        (Path(folder) / "python" / "test.jsonl").write_text(json.dumps(row))
        return one.prompt(one.load([], folder).problems[0])


@pytest.mark.parametrize(
    "name, text, kept",
    [
        ("mbpp", "def f():\n    return 1\nassert f()", "def f():\n    return 1"),
        ("humaneval", "    return 1\n\nprint(2)", "    return 1\n"),
        ("humaneval+", "    return 1\nimport os", "    return 1"),
        ("humaneval-cn", "\n    return 1\nx", "\n    return 1\n"),
        ("test-generation", " f(1) == 2\nassert f(2)\ndef g", " f(1) == 2\nassert f(2)"),
        ("code-to-text", 'Doubles.\n"""', "Doubles.\n"),
    ],
)
def test_when_generation_stops(name, text, kept, tmp_path):
    one = benchmark(name)
    problem = small(name, tmp_path).problems[0]
    assert text[: end_of(one.stop(problem), text)] == kept


def test_the_same_data_is_read_as_parquet_json_and_packed(tmp_path):
    import pyarrow
    from pyarrow import parquet

    one = benchmark("mbpp")
    (tmp_path / "full").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist([MBPP_ROW]), tmp_path / "full" / "test-00000-of-00001.parquet")
    first = one.load([], tmp_path)
    (tmp_path / "mbpp.jsonl.gz").write_bytes(gzip.compress(json.dumps(MBPP_ROW).encode()))
    second = one.load([], tmp_path)
    assert first.problems == second.problems
    assert list(first.sha256) == ["full/test-00000-of-00001.parquet"]
    assert list(second.sha256) == ["mbpp.jsonl.gz"]


@pytest.mark.parametrize(
    "name, languages, data, message",
    [
        ("nothing", [], None, "unknown benchmark 'nothing'"),
        ("humanevalx", [], None, "did you mean 'humaneval-x'"),
        ("mbpp", [], None, "no data ships with the project: --data FOLDER with one of mbpp.jsonl.gz.*--data hub"),
        ("xlcost-translation", [], "hub", "this benchmark is on no hub"),
        ("mbpp", ["go"], None, "unknown language 'go'"),
        ("humaneval-x-translation", ["python-pyhton"], None, "unknown pair 'python-pyhton'"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(name, languages, data, message):
    with pytest.raises(UserError, match=message):
        benchmark(name).load(languages, data)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"task_id": "x"}, "line 1: key 'task_id' is missing or not a number"),
        ({"test_list": "assert"}, "line 1: key 'test_list' is missing or not a list of texts"),
        ({"task_id": 7}, "holds no task from 11 to 510"),
    ],
)
def test_a_row_that_is_none_is_named(change, message, tmp_path):
    (tmp_path / "mbpp.jsonl").write_text(json.dumps(MBPP_ROW | change))
    with pytest.raises(UserError, match=message):
        benchmark("mbpp").load([], tmp_path)


def test_every_post_processing_of_a_benchmark_has_a_version():
    for name in BENCHMARKS:
        one = benchmark(name)
        assert one.rules and all(one.rules_version(rule).startswith(f"{rule}-v") for rule in one.rules)
        assert set(one.rules) <= RULES.keys() or one.measure != "pass@k"
        assert set(one.default_languages) <= set(one.languages)
