"""Program analysis: each measure on small examples, and both scores within bounds on anything."""

import dataclasses
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.common.grammars import GRAMMARS, ParseTimeout, parse
from mindgeex.data.analysis import Analysis, AnalysisRules, analyse, unreachable


def measured(text: str, language: str) -> Analysis:
    parsed = parse(text, language)
    assert parsed is not None
    return analyse(parsed)


def dead(text: str, language: str) -> list[str]:
    parsed = parse(text, language)
    assert parsed is not None
    return [parsed.source[start:end].decode() for start, end in unreachable(parsed)]


DEAD = {
    "python": ("def f():\n    return 1  # why\n    y = 2\n    z = 3\n", ["y = 2\n    z = 3"]),
    "java": ("class A { int f() { throw e; /* b */ x = 2; } }", ["x = 2;"]),
    "c": ("int f(void) { return 1; x = 2; }", ["x = 2;"]),
    "cpp": ("int f() { throw 1; x = 2; }", ["x = 2;"]),
    "csharp": ("class A { int F() { return 1; x = 2; } }", ["x = 2;"]),
    "go": ("package p\nfunc f() int {\n\treturn 1\n\tx = 2\n}\n", ["x = 2"]),
    "javascript": ("function f() { return 1; x = 2; }", ["x = 2;"]),
    "typescript": ("function f(): number { return 1; x = 2; }", ["x = 2;"]),
    "rust": ("fn f() -> i32 { return 1; let y = 2; }", ["let y = 2;"]),
    "php": ("<?php function f() { return 1; $x = 2; }", ["$x = 2;"]),
    "ruby": ("def f\n  return 1\n  x = 2\nend\n", ["x = 2"]),
    "shell": ("f() {\n  return 1\n  echo 2\n}\n", ["echo 2"]),
    "perl": ("sub f { return 1; $y = 2; }", ["$y = 2"]),
}


@pytest.mark.parametrize("language", sorted(DEAD))
def test_statements_after_a_jump_are_dead(language: str) -> None:
    text, expected = DEAD[language]
    assert dead(text, language) == expected
    assert measured(text, language).dead_code >= len(expected[0]) / len(text)


ALIVE = {
    "c": "int f(int x) { switch (x) { case 1: return 1; break; default: goto end; }\nend: return 2; }",
    "csharp": "class A { int F() { return G(); int G() { return 1; } } }",
    "go": "package p\nfunc f() int {\n\tif x {\n\t\treturn 1\n\t}\n\treturn 2\n}\n",
    "java": "class A { int f() { if (x) return 1; return 2; } }",
    "javascript": "function f() { return g(); function g() { return 1; } }",
    "perl": "sub f { return 1 if $x; return 2; }",
    "python": "def f():\n    if x:\n        return 1\n    return 2\n",
    "ruby": "def f\n  return 1 if x\n  2\nrescue\n  3\nend\n",
    "rust": "fn f() -> i32 { if x { return 1; } return 2; fn g() {} }",
    "shell": "f() {\n  echo return\n  echo 2\n}\n",
}


@pytest.mark.parametrize("language", sorted(ALIVE))
def test_branches_labels_and_hoisted_definitions_are_not_dead(language: str) -> None:
    assert dead(ALIVE[language], language) == []


EMPTY = {
    "python": ('def f():\n    """Doc."""\n    pass\n', "def f():\n    return g()\n"),
    "java": ("class A { void f() { /* later */ } }", "class A { void f() { g(); } }"),
    "c": ("void f(void) { // later\n}", "void f(void) { g(); }"),
    "cpp": ("void f() { throw std::runtime_error(g()); }", "void f() { --x; }"),
    "csharp": ("class A { void F() { throw new E(); } }", "class A { void F() { G(); } }"),
    "go": ('package p\nfunc f() { panic("todo") }\n', "package p\nfunc f() { g() }\n"),
    "javascript": ("const f = () => { throw new Error('x'); };", "const f = () => { g(); };"),
    "typescript": ("class A { f(): void {} }", "class A { f(): void { g(); } }"),
    "rust": ("fn f() { todo!() }", "fn f() { g() }"),
    "php": ("<?php function f() { throw new E(); }", "<?php function f() { g(); }"),
    "ruby": ("def f\n  raise 'x'\nend\n", "def f\n  g\nend\n"),
    "kotlin": ("fun f() { TODO() }", "fun f() { g() }"),
    "lua": ("function f() -- later\nend\n", "function f() g() end\n"),
    "swift": ("func f() { fatalError() }", "func f() { g() }"),
    "julia": ("function f()\nend\n", "function f()\n  g()\nend\n"),
}


@pytest.mark.parametrize("language", sorted(EMPTY))
def test_a_function_that_does_nothing_or_only_raises_is_empty(language: str) -> None:
    nothing, something = EMPTY[language]
    assert measured(nothing, language).empty_definitions == 1
    assert measured(something, language).empty_definitions == 0


@pytest.mark.parametrize(
    ("language", "comment", "remark"),
    [
        ("python", "# value = compute(1)", "# The value is computed once, at the start."),
        ("java", "// value = compute(1);", "// The bits have been shifted;"),
        ("go", "// if err != nil {", "// f returns the error, if any."),
        ("perl", "# return 1;", "# Returns one."),
        ("rust", "// let x = f(1);", "/// let x = f(1);"),
    ],
)
def test_a_comment_that_holds_code_is_dead_code_and_a_sentence_is_not(language: str, comment: str, remark: str) -> None:
    assert measured(comment + "\n", language).dead_code > 0.9
    assert measured(remark + "\n", language).dead_code == 0


def test_repeated_lines_count_from_their_second_time_and_short_ones_never() -> None:
    line = "total = total + compute(value)\n"
    assert measured(line * 4, "python").duplicated_lines == 0.75
    assert measured("x = 1\n" * 4, "python").duplicated_lines == 0
    assert measured("a_long_name_indeed = 1\n    \nanother_long_name = 2\n", "python").duplicated_lines == 0


def test_the_comment_ratio_is_the_share_of_bytes_in_comments() -> None:
    assert measured("# 3456789\nx = 234567", "python").comment_ratio == 9 / 20


SOUND = {
    "python": "def f(x):\n    return g(x)\n\n\n",
    "java": "class A {\n  int f(int x) {\n    return g(x);\n  }\n}\n",
    "javascript": "function f(x) {\n  return g(x);\n}\n",
    "go": "package p\n\nfunc f(x int) int {\n\treturn g(x)\n}\n",
    "rust": "fn f(x: i32) -> i32 {\n    g(x)\n}\n",
    "c": "int f(int x) {\n    return g(x);\n}\n",
    "cpp": "int A::f(int x) const {\n    return g(x);\n}\n",
    "php": "<?php\nfunction f($x) {\n    return g($x);\n}\n",
    "ruby": "def f(x)\n  g(x)\nend\n",
    "kotlin": "fun f(x: Int): Int {\n    return g(x)\n}\n",
}


@pytest.mark.parametrize("language", sorted(SOUND))
def test_sound_code_scores_one_and_is_kept_and_garbage_is_dropped(language: str) -> None:
    analysis = measured(SOUND[language], language)
    assert analysis.syntax == 1 and AnalysisRules().reason(analysis) is None
    garbage = measured(SOUND[language][:8] + ")]} this is ((( not { code ]] at all ;; = = )\n" * 20, language)
    assert garbage.syntax < 0.5 and AnalysisRules().reason(garbage) == "syntax_errors"


def test_an_error_counts_with_the_whole_line_it_is_on() -> None:
    text = "x = 1\ny = (2 + ]\nz = 3\n"
    assert measured(text, "python").syntax_errors >= len("y = (2 + ]") / len(text)


def test_python_2_is_sound_since_the_grammar_reads_it() -> None:
    assert measured('print "x"\ntry:\n    f()\nexcept E, e:\n    raise E, "y"\nexec "z"\n', "python").syntax == 1


def test_the_scores_are_as_their_formulas_say() -> None:
    analysis = Analysis(
        syntax_errors=0.02,
        comment_ratio=0.5,
        duplicated_lines=0.2,
        empty_definitions=0.5,
        dead_code=0.1,
        tolerance=0.02,
    )
    assert analysis.syntax == 0.5
    assert analysis.cleanliness == pytest.approx(0.8 * 0.9 * 0.75)
    assert dataclasses.replace(analysis, comment_ratio=1.0).cleanliness == 0


def test_rules_name_the_first_reason_and_refuse_impossible_thresholds() -> None:
    unclean = measured("total = total + compute(value)\n" * 40, "python")
    assert AnalysisRules().reason(unclean) == "unclean"
    assert AnalysisRules(min_cleanliness=0).reason(unclean) is None
    assert pickle.loads(pickle.dumps(AnalysisRules())) == AnalysisRules()
    with pytest.raises(UserError, match=r"analysis\.min_syntax=1\.5"):
        AnalysisRules(min_syntax=1.5)


PIECES = st.sampled_from(
    [*"(){}[]<>;:,=\n\t \"'#/*-@$`\\", "return ", "def f():", "class A", "//", "/*", "*/", "é", "漢"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES | st.text(max_size=5), max_size=60).map("".join), st.sampled_from(sorted(GRAMMARS)))
def test_any_text_is_scored_within_bounds_and_the_same_way_again(text: str, language: str) -> None:
    try:
        analysis = measured(text, language)
    except ParseTimeout:
        return
    assert all(0 <= value <= 1 for value in dataclasses.astuple(analysis))
    assert 0 <= analysis.syntax <= 1 and 0 <= analysis.cleanliness <= 1
    assert measured(text, language) == analysis
