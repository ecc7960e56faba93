import time

import pytest

from mindgeex.common.errors import UserError
from mindgeex.data.languages import (
    DEFAULT_LANGUAGES,
    PUBLISHED_MIX,
    TAGS,
    canonical,
    detect_language,
    language_tag,
    possible_languages,
)

GOLDEN = """\
abap|* language: Abap
actionscript|// language: ActionScript
assembly|; language: Assembly
basic|' language: Basic
c|// language: C
c#|// language: C#
c++|// language: C++
clojure|; language: Clojure
cobol|// language: Cobol
cpp|// language: C++
csharp|// language: C#
css|/* language: CSS */
cuda|// language: Cuda
dart|// language: Dart
delphi|{language: Delphi}
elixir|# language: Elixir
erlang|% language: Erlang
excel|' language: Excel
fortran|!language: Fortran
gdscript|# language: GDScript
go|// language: Go
groovy|// language: Groovy
haskell|-- language: Haskell
html|<!--language: HTML-->
java|// language: Java
javascript|// language: JavaScript
js|// language: JavaScript
julia|# language: Julia
kotlin|// language: Kotlin
lean|-- language: Lean
lisp|; language: Lisp
lua|// language: Lua
markdown|<!--language: Markdown-->
matlab|% language: Matlab
objective-c|// language: Objective-C
objective-c++|// language: Objective-C++
objectivec|// language: Objective-C
pascal|// language: Pascal
perl|# language: Perl
php|// language: PHP
powershell|# language: PowerShell
prolog|% language: Prolog
python|# language: Python
r|# language: R
ruby|# language: Ruby
rust|// language: Rust
scala|// language: Scala
scheme|; language: Scheme
shell|# language: Shell
solidity|// language: Solidity
sql|-- language: SQL
swift|// language: swift
tex|% language: TeX
typescript|// language: TypeScript
vb|' language: Visual Basic
vue|<!--language: Vue-->
"""


def test_tags_are_codegeex_s_byte_for_byte():
    assert "".join(f"{key}|{TAGS[key]}\n" for key in sorted(TAGS)) == GOLDEN
    assert len(TAGS) == 56 and len(set(TAGS.values())) == 52


def test_unknown_key_names_the_nearest():
    with pytest.raises(UserError, match="unknown language 'pyhton'; did you mean 'python'"):
        language_tag("pyhton")


def test_aliases_have_one_canonical_key():
    assert [canonical(key) for key in ("c++", "cpp", "js", "c#", "objectivec")] == [
        "cpp", "cpp", "javascript", "csharp", "objective-c",
    ]  # fmt: skip
    assert all(canonical(key) == key for key in DEFAULT_LANGUAGES)
    assert len(DEFAULT_LANGUAGES) == 23 and set(PUBLISHED_MIX) <= set(DEFAULT_LANGUAGES)
    assert 100 - sum(PUBLISHED_MIX.values()) == pytest.approx(3.10, abs=0.1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.py", ("python",)), ("b.PY", ("python",)), ("x.h", ("c", "cpp")), ("x.hpp", ("cpp",)), ("R.r", ("r",)),
        ("Makefile", ()), ("a.py/readme", ()), ("noext", ()), ("a.tar.gz", ()), ("x.m", ("objective-c", "matlab")),
    ],
)  # fmt: skip
def test_languages_by_name(name, expected):
    assert possible_languages(name) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#include <stdio.h>\nint add(int a, int b);\nstruct point { int x; };\n", "c"),
        ("/* a class of its own; template <x> */\n// std::string\nint class_of(int x);\n", "c"),
        ('#ifdef __cplusplus\nextern "C" {\n#endif\nint f(void);\n#ifdef __cplusplus\n}\n#endif\n', "c"),
        ("#include <vector>\nint f();\n", "cpp"),
        ("namespace a { int f(); }\n", "cpp"),
        ("template <typename T> T f(T x);\n", "cpp"),
        ("class Widget {\n public:\n  int x;\n};\n", "cpp"),
        ("int f(std::size_t n);\n", "cpp"),
        ("inline int f() noexcept { return Base::f(); }\n", "cpp"),
    ],
)
def test_header_is_c_or_cpp_by_content(text, expected):
    assert detect_language("x.h", text) == expected


def test_m_is_objective_c_or_matlab_by_content():
    assert detect_language("x.m", "#import <Foundation/Foundation.h>\n@interface A\n@end\n") == "objective-c"
    assert detect_language("x.m", "\n\n \t@interface A\n@end\n") == "objective-c"
    assert detect_language("x.m", "function y = f(x)\n  y = x';\nend\n") == "matlab"


@pytest.mark.parametrize(
    ("name", "piece"), [("x.h", "\n"), ("x.m", "\n"), ("x.h", "/* "), ("x.h", "#ifdef __cplusplus\n")]
)
def test_the_same_again_and_again_takes_no_time(name, piece):
    start = time.process_time()
    detect_language(name, piece * 100_000 + "int x;\n")
    assert time.process_time() - start < 1
