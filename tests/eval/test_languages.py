"""Six languages, each for real: right solutions pass, wrong ones do not (those that cheat: test_hostile.py)."""

import functools
import os
import shutil

import pytest

from mindgeex.common.errors import UserError
from mindgeex.common.prepared import build, prepared
from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.execution.job import Limits
from mindgeex.eval.execution.verdict import Verdict, execute
from mindgeex.eval.languages import LANGUAGES
from mindgeex.eval.languages.cpp import HEADERS, begins_with_headers
from mindgeex.eval.languages.go import needs_testing
from mindgeex.eval.languages.rust import uses_crates
from mindgeex.eval.problem import Kept

pytestmark = pytest.mark.toolchain

WRONG = {
    "python": '    return ""\n',
    "cpp": '    return "";\n}\n',
    "java": '        return "";\n    }\n}',
    "javascript": '  return ""\n}\n',
    "go": '    _ = strings.Repeat\n    return ""\n}\n',
    "rust": "    String::new()\n}\n",
}
RAISES = {
    "python": '    raise ValueError("no idea")\n',
    "cpp": "    throw 1;\n}\n",
    "java": '        throw new IllegalStateException("no idea");\n    }\n}',
    "javascript": '  throw new TypeError("no idea")\n}\n',
    "go": '    _ = strings.Repeat\n    panic("no idea")\n}\n',
    "rust": '    panic!("no idea")\n}\n',
}
BROKEN = {
    "python": "    return ((\n",
    "cpp": "    return nothing;\n}\n",
    "java": "        return nothing;\n    }\n}",
    "javascript": "  return ((\n}\n",
    "go": "    return nothing\n}\n",
    "rust": "    nothing\n}\n",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_canonical_solution_passes(execute_program, language):
    outcome = execute_program.problem(language)
    assert (outcome.verdict, outcome.reason) == (Verdict.PASSED, "")
    assert outcome.cpu_s > 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_wrong_solution_is_a_wrong_answer(execute_program, language):
    outcome = execute_program.problem(language, WRONG[language])
    assert outcome.verdict == Verdict.WRONG, outcome
    assert outcome.reason


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_solution_that_raises_is_an_exception(execute_program, language):
    outcome = execute_program.problem(language, RAISES[language])
    assert outcome.verdict == Verdict.EXCEPTION, outcome
    assert "no idea" in outcome.reason or (language == "cpp" and "terminate called" in outcome.reason)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_solution_that_is_no_code_fails_with_the_compilers_words(execute_program, language):
    outcome = execute_program.problem(language, BROKEN[language])
    interpreted = language in ("python", "javascript")
    assert outcome.verdict == (Verdict.EXCEPTION if interpreted else Verdict.COMPILE), outcome
    assert "SyntaxError" in outcome.reason if interpreted else "nothing" in outcome.output


def test_the_script_that_knows_the_secret_is_gone_when_the_program_runs(execute_program):
    program = "import os\nassert sorted(os.listdir('.')) == ['program.py'], os.listdir('.')"
    assert execute_program("python", program, "").verdict == Verdict.PASSED


def test_javascript_may_write_without_failing(execute_program):
    body = """  console.log("thinking"); console.error("really")
  return word.split("").map((letter, i) => letter.repeat(i + 1)).join("")
}
"""
    assert execute_program.problem("javascript", body).verdict == Verdict.PASSED


def test_a_function_called_write_in_cpp_is_no_obstacle(execute_program):
    solution = HUMANEVAL_X.load(["cpp"]).problems[1]
    before = "int write(int a, int b) { return a + b; }\n"
    assert execute_program.problem("cpp", solution.canonical_solution, before=before).verdict == Verdict.PASSED


@pytest.mark.parametrize(
    "language, tests, reason",
    [
        ("go", "", "the problem has no test function"),
        ("rust", "mod tests { }", "not every test of the problem can be called"),
        ("rust", "mod tests {\n #[test]\n fn a() { }\n #[test]\n #[should_panic]\n fn b() { }\n}", "not every test"),
    ],
)
def test_tests_that_cannot_be_called_are_no_pass(execute_program, language, tests, reason):
    solution = "package main\n" if language == "go" else ""
    outcome = execute_program(language, solution, tests)
    assert outcome.verdict == Verdict.EXCEPTION and reason in outcome.reason, outcome


@pytest.mark.parametrize(
    "expected, actual, equal",
    [
        ("1", "1", True),
        ("1", "int64(1)", False),
        ("[]int{1, 2}", "[]int{1, 2}", True),
        ("[]int{}", "[]int(nil)", False),
        ("[]byte{}", "[]byte(nil)", False),
        ('[]byte("a")', '[]byte("a")', True),
        ("nil", "nil", True),
        ("nil", "[]int(nil)", False),
        ('map[string]int{"a": 1}', 'map[string]int{"a": 1}', True),
        ("0.1+0.2", "0.3", True),
        ('[]interface{}{1, "a"}', '[]interface{}{1, "a"}', True),
    ],
)
def test_gos_assert_follows_the_rule_of_objects_are_equal(go_verdicts, expected, actual, equal):
    assert go_verdicts[expected, actual] == equal


@pytest.fixture(scope="module")
def go_verdicts(execute_program):
    """All comparisons in one program, which prints its findings."""
    cases = test_gos_assert_follows_the_rule_of_objects_are_equal.pytestmark[0].args[1]
    prints = "\n".join(f"\tprintln(assert.ObjectsAreEqual({left}, {right}))" for left, right, _ in cases)
    solution = 'package main\n\nimport (\n\t"testing"\n\t"github.com/stretchr/testify/assert"\n)\n'
    outcome = execute_program("go", solution, f"func TestAll(t *testing.T) {{\n{prints}\n}}\n")
    assert outcome.verdict == Verdict.PASSED, outcome
    answers = [line == "true" for line in outcome.output.split() if line in ("true", "false")]
    return {(left, right): answer for (left, right, _), answer in zip(cases, answers, strict=True)}


@pytest.mark.parametrize(
    "language, numbers", [("rust", (32, 38, 50, 91, 162)), ("cpp", (22, 162)), ("javascript", (162,))]
)
def test_published_problems_that_need_libraries_pass(execute_program, reference_data, language, numbers):
    """Crates, Boost, OpenSSL, js-md5; Rust/32 has no test but a comment, Rust/50 a comment within its test."""
    problems = HUMANEVAL_X.load([language], reference_data / "benchmarks" / "humaneval-x").problems
    for number in numbers:
        if reason := HUMANEVAL_X.obstacle(problems[number]):
            pytest.skip(reason)
        outcome = execute_program(language, *HUMANEVAL_X.canonical(problems[number]))
        assert (outcome.verdict, outcome.reason) == (Verdict.PASSED, ""), number


@pytest.mark.parametrize(
    "before, compiled_before",
    [
        ("", True),
        ("// a comment\n/* another\n#define x */ using namespace std;\n", True),
        ("#define private public\n", False),
        ("int a;\n", False),
    ],
)
def test_cpp_gets_compiled_headers_only_if_nothing_stands_before_them(before, compiled_before):
    includes = "".join(f"#include <{name}>\n" for name in HEADERS)
    assert begins_with_headers(before + includes) == compiled_before
    assert begins_with_headers(includes + before)
    assert not begins_with_headers(before + includes.replace("#include <string>\n", ""))


def test_a_header_that_a_cpp_program_lacks_is_not_given_to_it(execute_program):
    """iostream's own headers do not bring this one, and a header compiled before must not either."""
    program = "std::unordered_map<int, int> seen;\n"
    problem = HUMANEVAL_X.load(["cpp"]).problems[1]
    solution, tests = HUMANEVAL_X.program(problem, Kept(problem.prompt, problem.canonical_solution))
    assert begins_with_headers(solution)
    assert execute_program("cpp", solution + program, tests).verdict == Verdict.COMPILE
    assert execute_program("cpp", f"{solution}#include <unordered_map>\n{program}", tests).verdict == Verdict.PASSED


def test_python_knows_exit_and_quit_and_no_packages_but_numpy(execute_program):
    assert execute_program("python", "exit(0)", "").verdict == Verdict.EARLY
    assert execute_program("python", "quit(0)", "").verdict == Verdict.EARLY
    packages = "import sys\nassert not [path for path in sys.path if path.endswith('-packages')], sys.path"
    assert execute_program("python", packages, "").verdict == Verdict.PASSED
    assert execute_program("python", "import numpy\nassert numpy.arange(3).sum() == 3", "").verdict == Verdict.PASSED


@pytest.mark.parametrize("language", [name for name in LANGUAGES if LANGUAGES[name].tools])
def test_a_missing_toolchain_is_named_with_its_package(monkeypatch, language):
    monkeypatch.setenv("PATH", "")
    command, package = LANGUAGES[language].tools[0]
    with pytest.raises(
        UserError, match=rf"needs '{command.replace('+', '.')}'.*apt-get install {package.replace('+', '.')}"
    ):
        LANGUAGES[language].toolchain()


GO_TEST = "func TestA(t *testing.T) {\n\tassert := assert.New(t)\n\tassert.Equal(1, 1)\n"


@pytest.mark.parametrize(
    "solution, tests, needed",
    [
        ("", GO_TEST, False),
        ("func a(t []int) int { return t[0] }\n", GO_TEST, False),
        ("", GO_TEST + '\tt.Fatal("no")\n', True),
        ("", GO_TEST + "\tcheck(t)\n", True),
        ("", GO_TEST.replace("t *", "test *"), True),
        ("func a(t *testing.T) { }\n", GO_TEST, True),
        ('import "testing/quick"\n', GO_TEST, True),
        ('import other "testing"\n', GO_TEST, True),
        ('import (\n\tother\t"testing"\n)\n', GO_TEST, True),
        ('import (\n\t"fmt"\n\t"testing"\n)\n', GO_TEST, False),
    ],
)
def test_gos_package_testing_is_left_out_only_where_nothing_of_it_is_used(solution, tests, needed):
    assert needs_testing(solution, tests) == needed


def test_a_go_test_may_use_all_of_package_testing(execute_program):
    solution = 'package main\n\nimport (\n\t"testing"\n\t"github.com/stretchr/testify/assert"\n)\n'
    right = '\tt.Run("more", func(t *testing.T) { assert.Equal(2, 2); t.Log(t.Name()) })\n}\n'
    assert execute_program("go", solution, GO_TEST + right).verdict == Verdict.PASSED
    outcome = execute_program("go", solution, GO_TEST + right.replace("assert.Equal(2, 2)", 't.Errorf("%d", 7)'))
    assert outcome.verdict == Verdict.EXCEPTION and "7" in outcome.output, outcome


def test_gos_assert_shows_what_was_wrong(execute_program):
    solution = 'package main\n\nimport (\n\t"testing"\n\t"github.com/stretchr/testify/assert"\n)\n'
    solution += "type pair struct { A string; b []float64 }\n"
    wrong = '\tassert.Equal(map[string]*pair{"x": {"q", []float64{0.5}}}, []interface{}{nil, true, uint8(3)})\n}\n'
    outcome = execute_program("go", solution, GO_TEST + wrong)
    shown = 'map[string]*main.pair{"x":&main.pair{A:"q", b:[]float64{0.5}}}, got []interface {}{nil, true, 3}'
    assert outcome.verdict == Verdict.WRONG and f"expected {shown}" in outcome.reason, outcome


def test_cpp_vectors_that_are_compiled_beforehand_work_beside_a_programs_own(execute_program):
    program = """
struct Own { int x; };
int answer() {
    vector<vector<string>> words(2, vector<string>(1, "ab"));
    vector<Own> own(3, Own{4});
    try { vector<int>(2).at(5); } catch (const exception&) { return words[1][0].size() * own[2].x; }
    return 0;
}
"""
    includes = "".join(f"#include <{name}>\n" for name in HEADERS) + "using namespace std;\n"
    tests = "#undef NDEBUG\n#include<assert.h>\nint main(){\n    assert (answer() == 8);\n}\n"
    outcome = execute_program("cpp", includes + program, tests)
    assert outcome.verdict == Verdict.PASSED, outcome


@pytest.mark.parametrize("language, refused", [("cpp", "-fplugin=./plugin.so"), ("java", "-Xshare:dump")])
def test_a_compiler_that_cannot_be_made_quicker_compiles_the_same(sandbox, monkeypatch, tmp_path, language, refused):
    commands = []

    def refusing(command, folder):
        commands.append(" ".join(command))
        if refused in commands[-1]:
            raise UserError("another version")
        return build(command, folder)

    monkeypatch.setattr(f"mindgeex.eval.languages.{language}.build", refusing)
    monkeypatch.setattr(f"mindgeex.eval.languages.{language}.prepared", functools.partial(prepared, cache=tmp_path))
    toolchain = LANGUAGES[language].toolchain()
    assert any(refused in command for command in commands)
    problem = HUMANEVAL_X.load([language]).problems[1]
    outcome = execute(sandbox, LANGUAGES[language], toolchain, *HUMANEVAL_X.canonical(problem), Limits())
    assert outcome.verdict == Verdict.PASSED, outcome


def test_rust_is_linked_by_a_compiler_driver_that_is_not_understood(sandbox, monkeypatch, tmp_path):
    """A stand-in for clang, which says with -### what it would do in words of its own, and else does what cc does."""
    driver = tmp_path / "cc"
    says, calls = 'echo "clang version 17" >&2', f'exec {shutil.which("cc")} "$@"'
    driver.write_text(f'#!/bin/sh\ncase "$*" in *-###*) {says};; *) {calls};; esac\n')
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    toolchain = LANGUAGES["rust"].toolchain()
    assert "linker" not in toolchain.compile
    problem = HUMANEVAL_X.load(["rust"]).problems[1]
    outcome = execute(sandbox, LANGUAGES["rust"], toolchain, *HUMANEVAL_X.canonical(problem), Limits())
    assert outcome.verdict == Verdict.PASSED, outcome


RUST_IMPORTS = "use rand::Rng;\nuse regex::Regex;\nuse md5;\n"


@pytest.mark.parametrize(
    "before, program, used",
    [
        (RUST_IMPORTS, "fn operand() -> i32 { 1 }", False),
        (RUST_IMPORTS, "fn a() { Regex::new(); }", True),
        (RUST_IMPORTS, "fn a() { md5::compute(1); }", True),
        (RUST_IMPORTS, "use rand::thread_rng;", True),
        (RUST_IMPORTS, "fn a(b: &mut dyn Rng) {}", True),
        (RUST_IMPORTS, "struct Regex;", True),
        ("use rand::*;\n", "", True),
        ("use regex;\n", "", True),
        ("", "fn a() {}", False),
    ],
)
def test_rust_crates_are_left_out_only_where_they_are_merely_imported(before, program, used):
    assert uses_crates(before + program) == used


RUST_TESTS = "\nmod tests {\n    use super::*;\n    #[test]\n    fn test_it() { assert_eq!(answer(), 4); }\n}\n"


@pytest.mark.parametrize(
    "program, verdict",
    [
        ("fn answer() -> i32 { 4 }", Verdict.PASSED),
        (
            "trait Own { fn gen(&self) -> i32 { 4 } }\nimpl Own for i32 {}\nfn answer() -> i32 { 1.gen() }",
            Verdict.PASSED,
        ),
        ('fn answer() -> usize { Regex::new("b+").unwrap().find("abbbb").unwrap().as_str().len() }', Verdict.PASSED),
        ("type i32 = isize; type u8 = isize; type usize = u64; fn answer() -> i32 { 4 }", Verdict.PASSED),
        ("fn answer() -> i32 { 1.gen() }", Verdict.COMPILE),
        ("fn answer() -> i32 { compute(4) }", Verdict.COMPILE),
    ],
)
def test_rust_programs_mean_the_same_with_and_without_the_crates(execute_program, program, verdict):
    for mention in ("", "// Regex\n"):
        outcome = execute_program("rust", RUST_IMPORTS + mention + program, RUST_TESTS)
        assert outcome.verdict == verdict, outcome
