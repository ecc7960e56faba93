"""Grammars: functions and comments in many languages, bounds on hostile text, and no memory kept."""

import gc
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common import grammars
from mindgeex.common.errors import UserError
from mindgeex.common.grammars import GRAMMARS, ParseTimeout, comments, errors, functions, parse
from mindgeex.data.languages import TAGS, canonical

SAMPLES = {
    "python": ('# note\ndef f(x):\n    """Doc."""\n    return x\n', ["f"], ["# note", '"""Doc."""']),
    "java": ("class A { /* b */ A() { } int f(int x) { return x; } abstract int g(); }", ["A", "f"], ["/* b */"]),
    "c": ("/* b */\nstatic int *f(int x) { return 0; }\nint g(void);\n", ["f"], ["/* b */"]),
    "cpp": (
        "int A::f() const { return 1; } // t\nbool operator==(A a) { return true; }\n",
        ["A::f", "operator=="],
        ["// t"],
    ),
    "csharp": ("class A { A() {} int F() => 2; /* b */ }", ["A", "F"], ["/* b */"]),
    "go": (
        "package p\n// c\nfunc (a *A) f() int { return 1 }\nvar g = func() int { return 2 }\n",
        ["f", "g"],
        ["// c"],
    ),
    "javascript": ("function f() {} // t\nconst g = x => x + 1;\na.h = function () {};\n", ["f", "g", "a.h"], ["// t"]),
    "typescript": ("class A { f(x: number): void { } g = () => 2; } // t\n", ["f", "g"], ["// t"]),
    "rust": ("/// d\nfn f() -> i32 { 1 }\ntrait T { fn g(); }\n", ["f"], ["/// d\n"]),
    "php": ("<?php\n// c\nfunction f() { return 1; }\n$g = function () { return 2; };\n", ["f", "$g"], ["// c"]),
    "ruby": ("# c\ndef f\n  1\nend\ndef self.g(x); end\n", ["f", "g"], ["# c"]),
    "shell": ("# c\nf() {\n  echo 1\n}\n", ["f"], ["# c"]),
    "kotlin": ("// c\nfun f(x: Int): Int { return x }\nfun g() = 2\n", ["f", "g"], ["// c"]),
    "scala": ("object A { def f(x: Int): Int = x } // t\n", ["f"], ["// t"]),
    "lua": ("-- c\nfunction A.f(x) return x end\nlocal g = function() end\n", ["A.f", "g"], ["-- c"]),
    "swift": ("// c\nfunc f(x: Int) -> Int { return x }\n", ["f"], ["// c"]),
    "julia": ("# c\nfunction f(x)\n  x\nend\ng(x) = 2\n", ["f", "g"], ["# c"]),
    "haskell": ("-- c\nf x = x + 1\n", ["f"], ["-- c"]),
    "objective-c": ("// c\n@implementation A\n- (int)f:(int)x { return x; }\n@end\n", ["f"], ["// c"]),
    "perl": ("# c\nsub f { return 1; }\n", ["f"], ["# c"]),
    "elixir": ("# c\ndefmodule A do\n  def f(x) do\n    x\n  end\nend\n", ["f"], ["# c"]),
    "fortran": ("! c\nsubroutine f(x)\n  x = 2\nend subroutine f\n", ["f"], ["! c"]),
    "powershell": ("# c\nfunction F($x) { return 1 }\n", ["F"], ["# c"]),
    "solidity": ("// c\ncontract A { function f() public { g(); } }", ["f"], ["// c"]),
    "groovy": ("// c\nclass A { int f(int x) { return x; } }\n", ["f"], ["// c"]),
    "sql": ("-- c\nSELECT 1;\n", [], ["-- c"]),
    "html": ("<!-- c --><p>x</p>", [], ["<!-- c -->"]),
    "css": ("/* c */ a { color: red; }", [], ["/* c */"]),
}


@pytest.mark.parametrize("language", sorted(SAMPLES))
def test_functions_and_comments_of_a_language_are_found_where_they_stand(language: str) -> None:
    text, names, remarks = SAMPLES[language]
    parsed = parse(text, language)
    assert parsed is not None
    found = functions(parsed)
    assert [function.name for function in found] == names
    assert [parsed.source[start:end].decode() for start, end in comments(parsed)] == remarks
    assert all(f.start_byte <= f.body_start <= f.body_end <= f.end_byte for f in found)
    assert errors(parsed) == []


def test_every_grammar_has_a_sample_and_a_canonical_key() -> None:
    assert set(SAMPLES) == set(GRAMMARS)
    assert all(key in TAGS and canonical(key) == key for key in GRAMMARS)


def test_a_language_without_a_grammar_gives_none() -> None:
    assert parse("x", "cobol") is None


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GRAMMARS, "cobol", ("tree_sitter_no_such", "language"))
    with pytest.raises(UserError, match="tree-sitter-no-such"):
        parse("x", "cobol")


def test_a_body_is_the_text_of_the_function_after_its_head() -> None:
    parsed = parse("int f(int x) {\n    return x;\n}\n", "c")
    assert parsed is not None
    (function,) = functions(parsed)
    assert parsed.source[function.body_start : function.body_end] == b"{\n    return x;\n}"


def test_a_tsx_path_is_read_with_the_grammar_that_knows_elements() -> None:
    text = "const a = <div className='x'>{b}</div>;\n"
    with_path, without = parse(text, "typescript", "src/a.TSX"), parse(text, "typescript", "src/a.ts")
    assert with_path is not None and errors(with_path) == []
    assert without is not None and errors(without) != []


def test_positions_are_bytes_of_the_encoded_source() -> None:
    parsed = parse("# naïve ☃\ndef f():\n    return '漢字'\n", "python")
    assert parsed is not None
    (start, end), (function,) = comments(parsed)[0], functions(parsed)
    assert parsed.source[start:end].decode() == "# naïve ☃"
    assert parsed.source[function.body_start : function.body_end].decode() == "return '漢字'"


def test_the_c_plus_plus_guard_of_a_header_is_no_error_and_stays_in_the_source() -> None:
    text = '#ifdef __cplusplus\nextern "C" {\n#endif\nint f(void);\n#ifdef __cplusplus\n}\n#endif\n'
    parsed = parse(text, "c")
    assert parsed is not None and errors(parsed) == []
    assert parsed.source.decode() == text


@pytest.mark.parametrize("language", ["c", "java", "javascript", "python"])
def test_a_missing_bracket_is_an_error(language: str) -> None:
    text = {"python": "def f(:\n    return (1\n"}.get(language, "int f( { return (1; }}")
    parsed = parse(text, language)
    assert parsed is not None and errors(parsed) != []


def test_a_parse_gives_up_by_work_and_not_by_the_clock_and_the_parser_stays_usable() -> None:
    hostile = "/*\n" * 3000
    for _ in range(2):
        with pytest.raises(ParseTimeout):
            parse(hostile, "c")
    parsed = parse("int f(void) { return 1; }", "c")
    assert parsed is not None and [f.name for f in functions(parsed)] == ["f"] and errors(parsed) == []


@pytest.mark.parametrize("language", ["csharp", "groovy", "java"])
def test_text_known_to_exhaust_memory_is_given_up_before_it_is_parsed(language: str) -> None:
    with pytest.raises(ParseTimeout, match="unclosed"):
        parse("a<" * 50_000, language)


def test_a_java_table_of_strings_full_of_less_than_signs_is_parsed() -> None:
    parsed = parse("class A { String[] a = {\n" + '  "<\\u3131<\\u3132;",\n' * 3000 + "}; }", "java")
    assert parsed is not None and errors(parsed) == []


@pytest.mark.parametrize("language", ["c", "cpp", "css", "go", "java", "javascript", "lua", "python", "ruby", "rust"])
def test_fifty_thousand_nested_parentheses_are_survived(language: str) -> None:
    try:
        parsed = parse("(" * 50_000 + ")" * 50_000, language)
    except ParseTimeout:
        return
    assert parsed is not None
    assert functions(parsed) == [] and comments(parsed) == []


def test_nested_blocks_do_not_take_the_square_of_their_depth() -> None:
    parsed = parse("{" * 20_000 + "}" * 20_000, "c")
    assert parsed is not None and functions(parsed) == []


def test_no_memory_is_kept_from_parse_to_parse() -> None:
    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    if not sys.platform.startswith("linux"):
        pytest.skip("needs /proc")
    text = "int f(void) { return 1; }\n" * 4000
    for _ in range(5):
        parse(text, "c")
    before = resident()
    for _ in range(60):
        parse(text, "c")
    assert resident() - before < 60 * len(text) / 4


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.sampled_from(sorted(GRAMMARS)))
def test_any_text_gives_ranges_inside_it_and_the_same_ones_again(text: str, language: str) -> None:
    try:
        first, second = parse(text, language), parse(text, language)
    except ParseTimeout:
        return
    assert first is not None and second is not None
    for found in (comments(first), errors(first), [f[1:3] for f in functions(first)]):
        assert all(0 <= start <= end <= len(first.source) for start, end in found)
        assert found == sorted(found)
    assert (functions(first), comments(first), errors(first)) == (functions(second), comments(second), errors(second))


def test_a_budget_grows_with_the_document() -> None:
    text = "int f(void) { return 1; }\n" * (grammars.BUDGET_BYTES * 4 // 26)
    parsed = parse(text, "c")
    assert parsed is not None and errors(parsed) == []


def test_text_that_a_grammar_leaves_unread_at_the_end_is_an_error() -> None:
    parsed = parse("fun f(x:" + ")]} this is ((( not { code ]] at all ;; = = )\n" * 20, "kotlin")
    assert parsed is not None
    assert errors(parsed)[-1][1] == len(parsed.source)
