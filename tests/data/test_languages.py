import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.data.ambiguous import AMBIGUOUS, INTERPRETERS
from mindgeex.data.languages import (
    _EXTENSIONS,
    DEFAULT_LANGUAGES,
    MIN_CHINESE,
    PROSE,
    PUBLISHED_MIX,
    TAGS,
    canonical,
    could_be_script,
    detect_language,
    language_tag,
    possible_languages,
    prose,
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


def test_prose_has_keys_and_no_tags():
    assert PROSE == ("chinese", "english") and not set(PROSE) & (set(TAGS) | set(DEFAULT_LANGUAGES))
    assert [language_tag(key) for key in PROSE] == ["", ""]
    assert [canonical(key) for key in PROSE] == list(PROSE)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.py", ("python",)), ("b.PY", ("python",)), ("x.h", ("c", "cpp", "objective-c")), ("x.hpp", ("cpp",)),
        ("R.r", ("r",)), ("a.py/readme", ()), ("noext", ()), ("a.tar.gz", ()), ("x.m", ("objective-c", "matlab")),
        ("Makefile", ()), ("sub/Rakefile", ("ruby",)), ("SConstruct", ("python",)), (".bashrc", ("shell",)),
        ("Jenkinsfile", ("groovy",)), ("rebar.config", ("erlang",)), ("x.C", ("c", "cpp")), ("x.c", ("c",)),
        ("notes.txt", PROSE), ("CMakeLists.txt", ()), ("requirements-dev.txt", ()), ("LICENSE.txt", ()),
        ("BUILD", ()), ("x.d", ()), ("x.v", ()), ("x.e", ()), ("x.mod", ()), ("x.ipynb", ()), ("", ()), (".", ()),
    ],
)  # fmt: skip
def test_languages_by_name(name, expected):
    assert possible_languages(name) == expected


def test_nearly_every_tag_is_reached_by_a_name():
    names = [f"x{extension}" for words in _EXTENSIONS.values() for extension in words.split()]
    reached = {
        language
        for name in names + [f"x{extension}" for extension in AMBIGUOUS]
        for language in possible_languages(name)
    }
    assert reached == {canonical(key) for key in TAGS}
    assert len(reached) == 52


def test_no_extension_is_listed_twice():
    extensions = [extension for words in _EXTENSIONS.values() for extension in words.split()]
    assert len(extensions) == len(set(extensions)) and not set(extensions) & set(AMBIGUOUS)
    assert set(_EXTENSIONS) <= {canonical(key) for key in TAGS}
    assert all(canonical(key) == key for candidates, _ in AMBIGUOUS.values() for key in candidates)
    assert all(canonical(key) == key for key in INTERPRETERS.values())


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
    ("name", "text", "expected"),
    [
        ("x.h", "#import <Foundation/Foundation.h>\n@interface A : NSObject\n@end\n", "objective-c"),
        ("x.h", "/*\n@interface of the box\n*/\nint f(void);\n", "c"),
        ("x.C", "class A { public: int b; };\n", "cpp"),
        ("X.C", "int f(a)\nint a;\n{\n  return a;\n}\n", "c"),
        ("x.m", '(* ::Package:: *)\nBeginPackage["A`"]\n', None),
        ("x.m", ":- module hello.\n:- interface.\n", None),
        ("x.m", "#include <stdio.h>\nint main(void) { return 0; }\n", "objective-c"),
        ("x.mm", '.\\" a manual page\n.TH X\n', None),
        ("x.mm", "#import <vector>\n", "objective-c++"),
        ("x.pl", "use strict;\nmy $x = 1;\n", "perl"),
        ("x.pl", "#!/usr/bin/perl -w\n\n1;\n", "perl"),
        ("x.pl", ":- use_module(library(lists)).\nlast([X], X).\nlast([_|T], X) :- last(T, X).\n", "prolog"),
        ("x.pl", "use v6;\nclass Point {\n}\n", None),
        ("x.pro", "append([], L, L).\nappend([H|T], L, [H|R]) :- append(T, L, R).\n", "prolog"),
        ("x.pro", "TEMPLATE = app\nSOURCES += main.cpp\n", None),
        ("x.pp", "unit Shapes;\ninterface\nuses SysUtils;\n", "pascal"),
        ("x.pp", "class apache {\n  package { 'httpd': ensure => present }\n}\n", None),
        ("x.inc", "<?php\nfunction f() {}\n", "php"),
        ("x.inc", "%macro push_all 0\n    push eax\n%endmacro\n", "assembly"),
        ("x.inc", "#define OPCODE(name) name,\nOPCODE(add)\n", "c"),
        ("x.inc", "{$ifdef windows}\nuses Windows;\n{$endif}\n", "pascal"),
        ("x.inc", "SRC_URI = 'a'\n", None),
        ("x.bas", '10 PRINT "HELLO"\n20 GOTO 10\n', "basic"),
        ("x.bas", 'Attribute VB_Name = "Module1"\nPublic Sub Main()\nEnd Sub\n', "vb"),
        ("x.bas", 'Attribute VB_Name = "Module1"\nSub Fill()\n  Range("A1").Value = 1\nEnd Sub\n', "excel"),
        ("x.vba", "Sub Fill()\n  ActiveSheet.Name = 1\nEnd Sub\n", "excel"),
        ("x.cls", "\\NeedsTeXFormat{LaTeX2e}\n\\ProvidesClass{thesis}\n", "tex"),
        ("x.cls", "VERSION 1.0 CLASS\nBEGIN\nEND\n", "vb"),
        ("x.cls", "public with sharing class Account {\n}\n", None),
        ("x.frm", "VERSION 5.00\nBegin VB.Form Form1\nEnd\n", "vb"),
        ("x.frm", "a form of another tool\n", None),
        ("x.f", "      subroutine f(x)\n      end\n", "fortran"),
        ("x.f", "\\ squares\n: square ( n -- n ) dup * ;\n", None),
        ("x.r", "f <- function(x) x + 1\n", "r"),
        ("x.r", "REBOL [\n  Title: 1\n]\n", None),
        ("x.sc", "object Main extends App { val x = 1 }\n", "scala"),
        ("x.sc", "SynthDef(\\a, { Out.ar(0, SinOsc.ar(440)) }).add;\n", None),
        ("x.as", "package a {\n  public class B {}\n}\n", "actionscript"),
        ("x.as", "void main() { print(1); }\n", None),
        ("x.cl", "(defun f (x) x)\n", "lisp"),
        ("x.cl", "__kernel void add(__global float *a) {}\n", None),
        ("x.l", "%{\n#include <stdio.h>\n%}\n%%\n", None),
        ("x.scm", "(define (f x) x)\n", "scheme"),
        ("x.scm", "(comment) @comment\n(string) @string\n", None),
        ("x.ts", "export const x: number = 1;\n", "typescript"),
        ("x.ts", '<?xml version="1.0"?>\n<!DOCTYPE TS>\n', None),
        ("x.gd", "extends Node\nfunc _ready():\n\tpass\n", "gdscript"),
        ("x.gd", 'DeclareOperation( "Size", [ IsGroup ] );\n', None),
        ("x.t", "use Test::More;\nok(1);\n", "perl"),
        ("x.t", "a template of {{ words }}\n", None),
        ("x.sql", "SELECT 1;\n", "sql"),
        ("x.s", "\t.text\n\tret\n", "assembly"),
    ],
)
def test_a_shared_extension_is_told_by_content(name, text, expected):
    assert detect_language(f"some/folder.d/{name}", text) == expected
    assert expected is None or expected in possible_languages(name)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("#!/usr/bin/python3", "python"), ("#!/usr/bin/env python3.11", "python"), ("#! /bin/sh -e", "shell"),
        ("#!/usr/bin/env -S node --harmony", "javascript"), ("#!/usr/bin/perl -wT", "perl"),
        ("#!/usr/local/bin/bash", "shell"), ("#!/usr/bin/env Rscript", "r"), ("#!/usr/bin/env LANG=C ruby", "ruby"),
        ("#!/usr/bin/make -f", None), ("#!/usr/bin/python-config", None), ("", None), ("#!", None), ("#!/", None),
        (" #!/bin/sh", None), ("\x7fELF", None),
    ],
)  # fmt: skip
def test_a_script_is_told_by_its_first_line(line, expected):
    for name in ("bin/run", "run.in", "index.cgi"):
        assert detect_language(name, f"{line}\nexit\n") == expected
    assert detect_language("Makefile", f"{line}\n") is None


def test_scripts_may_have_any_plain_name():
    assert could_be_script("bin/run") and could_be_script("configure") and could_be_script("git-sh-setup")
    assert not any(map(could_be_script, ("README", "LICENSE", "a.py", "x/Makefile", "Rakefile", ".profile")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The quick brown fox jumps over the lazy dog.", "english"),
        ("这是一个用来训练分词器的文本文件,里面主要是汉字。", "chinese"),
        ("使用 MindSpore 的 Tensor 接口: mindspore.Tensor(shape, dtype) 返回一个新的张量,支持自动微分。", "chinese"),
        ("The word 汉字 means Chinese characters, and this sentence explains in English what it is about.", "english"),
        ("", "english"),
        ("1234 5678", "english"),
    ],
)
def test_prose_is_chinese_from_a_tenth_of_its_letters_on(text, expected):
    assert prose(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The quick brown fox jumps over the lazy dog, and the dog sleeps in the sun.", "english"),
        ("这是一个用来训练分词器的文本文件,里面主要是汉字。", "chinese"),
        ("これは日本語の文章です。漢字と仮名が混ざっています。", None),
        ("이것은 한국어 문장입니다.", None),
        ("Dies ist ein deutscher Satz über die Sprache und ihre Wörter.", None),
        ("go build -o a.exe\n! stderr 'error'\nenv GOFLAGS=-mod=mod\n", None),
        ("1234 5678\n", None),
        ("", None),
    ],
)
def test_a_text_file_is_prose_only_if_it_reads_like_it(text, expected):
    assert detect_language("notes.txt", text) == expected
    assert detect_language("requirements.txt", text) is None


@given(st.text(alphabet=st.sampled_from("aé变汉 1\n.")))
def test_prose_counts_letters_alone(text):
    letters = [character for character in text if character.isalpha()]
    chinese = sum(character in "变汉" for character in letters)
    assert prose(text) == ("chinese" if chinese > MIN_CHINESE * len(letters) else "english")


@given(
    st.sampled_from(sorted(AMBIGUOUS)),
    st.lists(st.sampled_from(["class", "{", "\n", "@end", "#import", " ", ":-", "(", ")", ".", "x", "use strict;"])),
)
@settings(max_examples=60, deadline=None)
def test_a_decision_gives_a_listed_language_or_none(extension, pieces):
    found = detect_language("x" + extension, " ".join(pieces))
    assert found is None or found in possible_languages("x" + extension)


@pytest.mark.parametrize("extension", [*sorted(AMBIGUOUS), ".in"])
def test_the_same_again_and_again_takes_no_time(extension):
    pieces = ["\n", " ", "\t\n", "/* ", "#ifdef __cplusplus\n", "a", "a(", "a(b)", ")", "uses a\n", "var a ", "begin\n"]
    pieces += ["(", "#!/", "sub f(", "a\n\n", "Sub f(", "<", "@", "unit a "]
    started = time.process_time()
    for piece in pieces:
        detect_language("x" + extension, piece * (100_000 // len(piece)) + "\nint x;\n")
    assert time.process_time() - started < 3
