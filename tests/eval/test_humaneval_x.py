"""Reading problems, prompts, and what becomes of a completion."""

import gzip
import json
from pathlib import Path

import pytest

from mindgeex.common.errors import UserError
from mindgeex.data.languages import language_tag
from mindgeex.eval.benchmarks.humaneval_x import FILE_NAMES, HUMANEVAL_X, LANGUAGE_TAGS
from mindgeex.eval.benchmarks.source import SHIPPED
from mindgeex.eval.problem import Kept
from mindgeex.model_zoo.decoding.stops import end_of

load = HUMANEVAL_X.load

ROW = {
    "task_id": "Python/0",
    "prompt": "def f():\n",
    "declaration": "",
    "canonical_solution": "    pass\n",
    "test": "f()",
}


def first(language: str):
    return load([language]).problems[0]


def program(problem, body: str) -> tuple[str, str]:
    return HUMANEVAL_X.program(problem, Kept(problem.prompt, body))


def write(folder: Path, text: str, name: str = "humaneval_python.jsonl") -> Path:
    (folder / name).write_text(text)
    return folder


def test_the_shipped_problems_have_the_format_of_the_benchmark(reference_data):
    for name in FILE_NAMES.values():
        with gzip.open(reference_data / "benchmarks" / "humaneval-x" / f"humaneval_{name}.jsonl.gz", "rt") as file:
            published = json.loads(file.readline())
        own = [json.loads(line) for line in (SHIPPED / f"humaneval_{name}.jsonl").read_text().splitlines()]
        assert len(own) == 6
        for row in own:
            assert list(row) == list(published)
            assert row["task_id"].split("/")[0] == published["task_id"].split("/")[0]


def test_the_benchmark_is_read_compressed(reference_data):
    data = load(list(FILE_NAMES), reference_data / "benchmarks" / "humaneval-x")
    assert len(data.problems) == 6 * 164
    assert data.sha256["humaneval_python.jsonl.gz"].startswith("5752fb122efd")


def test_js_is_javascript_and_asked_for_twice_is_scored_once():
    assert load(["js"]).problems == load(["javascript"]).problems == load(["js", "javascript"]).problems


def test_a_task_id_of_two_languages_is_refused(tmp_path):
    write(tmp_path, json.dumps(ROW))
    write(tmp_path, json.dumps(ROW), "humaneval_cpp.jsonl")
    with pytest.raises(UserError, match="task id 'Python/0' occurs twice"):
        load(["python", "cpp"], tmp_path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{broken\n", "humaneval_python.jsonl, line 1: not valid JSON"),
        (json.dumps(ROW) + "\n[1]\n", "line 2: expected an object"),
        (json.dumps({**ROW, "test": None}) + "\n", "line 1: key 'test' is missing or not a text"),
        (json.dumps(ROW) + "\n\n" + json.dumps(ROW), "task id 'Python/0' occurs twice"),
        ("\n", "holds no problem"),
    ],
)
def test_a_file_that_is_no_benchmark_is_named_with_its_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load(["python"], write(tmp_path, text))


@pytest.mark.parametrize("damage", [lambda packed: packed[:-9], lambda packed: packed[:15] + b"\xff" * len(packed)])
def test_a_damaged_archive_is_named(tmp_path, damage):
    packed = gzip.compress(json.dumps(ROW).encode())
    (tmp_path / "humaneval_python.jsonl.gz").write_bytes(damage(packed))
    with pytest.raises(UserError, match="humaneval_python.jsonl.gz: cannot be read"):
        load(["python"], tmp_path)


def test_a_missing_folder_file_or_language_is_named(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        load(["python"], tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds none of humaneval_go.jsonl.gz, humaneval_go.jsonl"):
        load(["go"], tmp_path)
    with pytest.raises(UserError, match="unknown language 'pyton'; did you mean 'python'"):
        load(["pyton"])
    assert load([]) == load(["python"])


def test_a_prompt_is_the_tag_and_the_published_text(reference_data):
    problem = load(["python"], reference_data / "benchmarks" / "humaneval-x").problems[2]
    assert HUMANEVAL_X.prompt(problem).startswith(
        "# language: Python\n\n\ndef truncate_number(number: float) -> float:\n"
    )
    assert HUMANEVAL_X.prompt(problem).endswith('    0.5\n    """\n')
    rust = load(["rust"], reference_data / "benchmarks" / "humaneval-x").problems[2]
    assert HUMANEVAL_X.prompt(rust).startswith("// language: Rust\n\nuse std::")
    assert HUMANEVAL_X.prompt(rust).rstrip().endswith("*/")


def test_the_tags_are_those_of_the_training_data():
    assert {key: language_tag(key) for key in LANGUAGE_TAGS} == LANGUAGE_TAGS


@pytest.mark.parametrize(
    "language, text, done",
    [
        ("python", "    return 1", False),
        ("python", "    return 1\n\n    # more\n", False),
        ("python", "    return 1\ndef g", True),
        ("python", "    return 1\nx", True),
        ("python", "x", True),
        ("cpp", "    if (a) { b(); }\n", False),
        ("cpp", "    return 1;\n}", True),
        ("java", "        return 1;\n    }", True),
        ("javascript", "  return {}\n", False),
        ("go", "    return 1\n}", True),
        ("rust", "    1\n}", True),
    ],
)
def test_when_generation_stops(language, text, done):
    assert (end_of(HUMANEVAL_X.stop(first(language)), text) is not None) is done


def test_a_program_is_imports_prompt_and_solution():
    solution, tests = program(first("python"), "    return 1\n\n")
    assert solution.endswith('    """\n    return 1\n')
    assert "check(highest_level)" in tests
    assert solution.startswith("import math\nimport re\nimport sys\n")


def test_numpy_is_imported_where_it_is_named():
    assert "import numpy" not in program(first("python"), "    return 1\n")[0]
    assert "import numpy as np\n" in program(first("python"), "    return np.max(changes)\n")[0]


def test_cpp_gets_the_headers_its_prompt_lacks():
    solution, _ = program(first("cpp"), "}\n")
    assert solution.count("#include<vector>") == 1
    assert "#include<cstring>\n" in solution


def test_go_imports_the_packages_that_code_uses_and_comments_do_not():
    def imports(body: str) -> str:
        return program(first("go"), body)[0].split("// A tank")[0]

    assert '"sort"' in imports("    sort.Ints(changes)\n    return 0\n}\n")
    assert '"time"' not in imports("    // the time. of day, \n    /* sort.Ints */\n    return 0\n}\n")
    assert '"math"' not in imports('    _ = "math.Max" + `strings.Repeat`\n    return 0\n}\n')
    assert '"fmt"' in imports('    _ = \'"\'\n    fmt.Println("x") // "\n    return 0\n}\n')
    twice = program(load(["go"]).problems[1], "    return strings.ToUpper(word)\n}\n")[0]
    assert twice.count('"strings"') == 1


def test_a_library_that_is_not_installed_is_named_with_what_brings_it(reference_data, monkeypatch, tmp_path):
    data = reference_data / "benchmarks" / "humaneval-x"
    monkeypatch.setattr("mindgeex.eval.languages.crates.REGISTRY", tmp_path)
    assert HUMANEVAL_X.obstacle(load(["rust"], data).problems[0]) == (
        "toolchain missing: the crate regex, the crate md5: apt-get install librust-regex-dev; "
        "apt-get install librust-md5-dev"
    )
    monkeypatch.setattr("mindgeex.eval.languages.javascript.package", lambda: None)
    assert HUMANEVAL_X.obstacle(load(["javascript"], data).problems[162]) == (
        "toolchain missing: js-md5: npm install --global js-md5"
    )
    monkeypatch.setattr("mindgeex.eval.languages.cpp.includes", lambda header: False)
    found = [HUMANEVAL_X.obstacle(problem) for problem in load(["cpp"], data).problems]
    assert {number: text for number, text in enumerate(found) if text} == {
        22: "toolchain missing: Boost: apt-get install libboost-dev",
        137: "toolchain missing: Boost: apt-get install libboost-dev",
        162: "toolchain missing: OpenSSL: apt-get install libssl-dev",
    }


def test_problems_of_our_own_need_no_library():
    assert [HUMANEVAL_X.obstacle(problem) for problem in load(list(FILE_NAMES)).problems] == [None] * 36
