"""Extensions that several languages share: which of them a file is in, by what only one of them can contain.

A decision looks at the beginning of a text and gives a key, or None for a language without a tag: a Puppet manifest
in `.pp`, a catalogue of Qt in `.ts`, a stylesheet of Rez in `.r`.

Covers: the extensions of `AMBIGUOUS`, and `#!` lines. Does not cover: files under the extension of another language.
"""

import re
from collections.abc import Callable

LOOK_CHARS = 1 << 15
"""The beginning of a text that is looked at."""

Decision = Callable[[str], str | None]

INTERPRETERS = {
    "python": "python", "pypy": "python", "sh": "shell", "bash": "shell", "dash": "shell", "zsh": "shell",
    "ksh": "shell", "mksh": "shell", "bats": "shell", "perl": "perl", "ruby": "ruby", "jruby": "ruby", "rake": "ruby",
    "node": "javascript", "nodejs": "javascript", "php": "php", "rscript": "r", "lua": "lua", "luajit": "lua",
    "groovy": "groovy", "scala": "scala", "swift": "swift", "julia": "julia", "escript": "erlang", "elixir": "elixir",
    "runhaskell": "haskell", "runghc": "haskell", "pwsh": "powershell", "guile": "scheme", "sbcl": "lisp",
    "clisp": "lisp", "swipl": "prolog", "deno": "typescript", "kotlinc": "kotlin",
}  # fmt: skip
"""Program of a `#!` line, without its version -> language."""

_SHEBANG = re.compile(
    r"#![ \t]*(?:\S*/)?(?:env[ \t]+(?:-\S+[ \t]+|\w+=\S*[ \t]+)*(?:\S*/)?)?([A-Za-z]+)[\d.]*(?![\w-])"
)


def shebang_language(text: str) -> str | None:
    """The language of a text's `#!` line, or None if there is none or its program is not known."""
    found = _SHEBANG.match(text[:256]) if text.startswith("#!") else None
    return INTERPRETERS.get(found[1].lower()) if found else None


def _search(*patterns: str, flags: re.RegexFlag = re.MULTILINE) -> Callable[[str], re.Match[str] | None]:
    return re.compile("|".join(patterns), flags).search


_COMMENT = re.compile(r"/\*[^*]*(?:\*(?!/)[^*]*)*(?:\*/|\Z)|//[^\n]*")
_EXTERN_C = re.compile(r"#\s*if(?:def\s+__cplusplus|\s+defined\s*\(?\s*__cplusplus).*?(?:#\s*endif|\Z)", re.DOTALL)
_cpp = _search(
    r"^[^\S\n]*(?:template\s*<|namespace\b|using\s+\w|class\s+\w|(?:public|private|protected)\s*:)|\w::\w|\bstd::",
    r"^[^\S\n]*#\s*include\s*<(?:string|vector|map|set|memory|iostream|algorithm|utility|functional|type_traits|array)>",
    r"\b(?:constexpr|nullptr|noexcept|decltype|static_cast|reinterpret_cast|typename|virtual|operator)\b",
)
_objective_c = _search(r"^[^\S\n]*(?:@(?:interface|implementation|protocol|end|class|property)\b|#\s*import\b)")


def c_or_cpp(text: str) -> str:
    """Which of the two it is, by what only C++ can contain; comments and `extern "C"` guards do not count."""
    return "cpp" if _cpp(_EXTERN_C.sub("", _COMMENT.sub("", text))) else "c"


def header_language(text: str) -> str:
    """`.h`: C, C++ or Objective-C; what both of the latter could include is Objective-C."""
    if ("@" in text or "import" in text) and _objective_c(text) and _objective_c(_COMMENT.sub("", text)):
        return "objective-c"
    return c_or_cpp(text)


_not_matlab = _search(
    r"^[ \t]*\(\*.*\*\)\s*$", r"^:- (?:module|interface|implementation)\b", r"\b(?:BeginPackage|Module|Block)\[",
    r"^implement \w+;",
)  # fmt: skip


def objective_c_or_matlab(text: str) -> str | None:
    """`.m`: Objective-C or Matlab, Octave included; None for Mathematica, Mercury, Limbo."""
    if _objective_c(text):
        return "objective-c"
    if _not_matlab(text):
        return None
    code = _COMMENT.sub("", text)
    return "objective-c" if _c_in_m(code) else "matlab"


_c_in_m = _search(r"^#\s*(?:include|define|ifdef|ifndef)\b", r"\bNS[A-Z]\w+ ?\*", r"^int main\(")

_prolog = _search(
    r"^:-\s*(?:module|use_module|dynamic|initialization|ensure_loaded|multifile|discontiguous|set_prolog_flag)\b",
    r"^[a-z]\w*(?:\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\))?\s*:-", r"^[a-z]\w*(?:\([^\n]*\))?\s*-->",
)  # fmt: skip
_perl = _search(
    r"^[ \t]*(?:use (?:strict|warnings|utf8|vars|lib|[A-Z5]\w*)\b|package [\w:]+;|sub \w+|(?:my|our|local) ?[$@%(])",
    r"^=(?:head\d|pod|cut)\b", r"^[ \t]*(?:print|return|require|\$\w+ ?=|@\w+ ?=|%\w+ ?=)", r"^__END__",
)  # fmt: skip
_raku = _search(
    r"^use v6\b", r"^[ \t]*(?:unit )?(?:module|grammar|class) [A-Z][\w:-]*;?\s*$", r"^[ \t]*multi (?:sub|method)\b"
)


def perl_or_prolog(text: str) -> str | None:
    """`.pl`: Perl or Prolog; None for Raku and for what has neither's marks."""
    if (found := shebang_language(text)) in ("perl", "prolog"):
        return found
    if _raku(text) and not _perl(text):
        return None
    if _prolog(text) and not re.search(r"^[ \t]*(?:use strict|my [$@%(])", text, re.MULTILINE):
        return "prolog"
    return "perl" if _perl(text) else None


def perl_or_none(text: str) -> str | None:
    """`.t`: a test in Perl; None for Turing, Raku, templates."""
    return "perl" if shebang_language(text) == "perl" or _perl_test(text) else None


_perl_test = _search(r"^[ \t]*use (?:strict|warnings|Test::|lib\b)", r"^[ \t]*my [$@%]")

_pascal = _search(
    r"^[ \t]*(?:unit|program|library)\s+[\w.]+\s*(?:\([\w, ]*\))?\s*;", r"^[ \t]*(?:interface|implementation|uses)\s*$",
    r"^[ \t]*uses\s+\w[^;]{0,400};", r"^[ \t]*begin\s*$", r"^[ \t]*\{\$(?:mode|ifdef|include|i |r )",
    flags=re.MULTILINE | re.IGNORECASE,
)  # fmt: skip
_assembly = _search(
    r"^[ \t]*\.(?:text|data|section|globl|global|align|macro|word|byte|equ|set)\b",
    r"^[ \t]*%(?:macro|define|ifdef|include)\b",
    r"^[ \t]*(?:\w{1,60}:[ \t]*)?(?:mov[blqw]?|push[lq]?|pop[lq]?|jmp|call[lq]?|lea[lq]?|add[lq]?|ldr|str|stp|bl)"
    r"[ \t]+[%$#\w\[(]",
    r"^[ \t]*\w{1,60}[ \t]+(?:equ|db|dw|dd|proc|macro)\b", flags=re.MULTILINE | re.IGNORECASE,
)  # fmt: skip
_directive = _search(r"^#[ \t]*(?:include|define|if|ifdef|ifndef)\b")


def included(text: str) -> str | None:
    """`.inc`: a piece of PHP, Pascal, assembly, C or C++."""
    if "<?php" in text[:2000] or "<?=" in text[:2000]:
        return "php"
    if _pascal(text):
        return "pascal"
    if _assembly(text):
        return "assembly"
    return c_or_cpp(text) if _directive(text) else None


_vb = _search(
    r"^Attribute VB_", r"^VERSION \d+\.\d+ CLASS",
    r"^[ \t]*(?:Public|Private|Friend) (?:Sub|Function|Property|Declare|Const)\b",
    r"^[ \t]*Option Explicit\b", r"^[ \t]*(?:Sub|Function) \w+\([^)\n]*(?:ByVal|ByRef)\b",
    flags=re.MULTILINE | re.IGNORECASE,
)  # fmt: skip
_excel = _search(
    r"\b(?:ActiveSheet|ActiveWorkbook|ThisWorkbook|Worksheets?|Workbooks?|WorksheetFunction)\b", r"\bRange\(\"",
    r"\bCells\(", r"\bxl(?:Up|Down|Values|Sheet|Calculation)\w*",
)  # fmt: skip


def basic_or_vb(text: str) -> str:
    """`.bas`: a module of Excel or of Visual Basic, else Basic."""
    return macro(text) if _vb(text) else "basic"


def macro(text: str) -> str:
    """`.vba`: Excel's where it speaks of sheets and cells, else Visual Basic."""
    return "excel" if _excel(text) else "vb"


def class_file(text: str) -> str | None:
    """`.cls`: a class of TeX, of Excel or Visual Basic; None for Apex and others."""
    return "tex" if _tex_class(text) else macro(text) if _vb(text) else None


_tex_class = _search(
    r"^[ \t]*\\(?:ProvidesClass|NeedsTeXFormat|LoadClass|DeclareOption|newcommand|def\\|RequirePackage)"
)


def _if(found: Callable[[str], object], language: str) -> Decision:
    return lambda text: language if found(text) else None


def _unless(found: Callable[[str], object], language: str) -> Decision:
    return lambda text: None if found(text) else language


_xml = re.compile(r"\s*<(?:\?xml|!DOCTYPE TS|TS\b)").match
_markup = re.compile(r"\s*<").match
_troff = re.compile(r"\s*(?:\.\\\"|<)").match
_pixmap = re.compile(r"\s*/\* XPM").match
_lisp = _search(r"^[ \t]*\((?:def\w+|in-package|declaim|eval-when|require|provide|setq|load|let\*?|use-package)[\s:]")
_rebol_or_rez = _search(r"^[ \t]*REBOL[ \t]*\[", r"^(?:resource|type|data) '", r"#include \"\w+\.r\"")
_supercollider = _search(r"\b(?:classvar|SynthDef|Pbind)\b", r"\.(?:ar|kr)\(", r"^[ \t]*\+ \w+ \{")
_actionscript = _search(
    r"^[ \t]*(?:package\b|import (?:flash|mx)\.|#include \"\w+\.as\")",
    r"\b(?:var|function) \w+[^;\n]{0,60}:\s*(?:[A-Z*]|void|int\b|uint\b)",
)
_query = _search(r"[)\]] @[\w.]+[ \t)]*$", r"^;+ inherits:")
_gap = _search(r"\b(?:DeclareOperation|DeclareGlobalFunction|BindGlobal|InstallMethod)\(")
_forth = _search(r"^: \S+ +\(? ", r"^\\ \S")
_form = _search(r"^VERSION \d", r"^[ \t]*Begin VB\.", r"^Attribute VB_")

AMBIGUOUS: dict[str, tuple[tuple[str, ...], Decision]] = {
    ".h": (("c", "cpp", "objective-c"), header_language),
    ".C": (("c", "cpp"), c_or_cpp),
    ".m": (("objective-c", "matlab"), objective_c_or_matlab),
    ".mm": (("objective-c++",), _unless(_troff, "objective-c++")),
    ".pl": (("perl", "prolog"), perl_or_prolog),
    ".pm": (("perl",), _unless(_pixmap, "perl")),
    ".t": (("perl",), perl_or_none),
    ".pro": (("prolog",), _if(_prolog, "prolog")),
    ".plt": (("prolog",), _if(_prolog, "prolog")),
    ".pp": (("pascal",), _if(_pascal, "pascal")),
    ".inc": (("php", "pascal", "assembly", "c", "cpp"), included),
    ".bas": (("basic", "vb", "excel"), basic_or_vb),
    ".vba": (("excel", "vb"), macro),
    ".cls": (("tex", "vb", "excel"), class_file),
    ".frm": (("vb",), _if(_form, "vb")),
    ".f": (("fortran",), _unless(_forth, "fortran")),
    ".for": (("fortran",), _unless(_forth, "fortran")),
    ".r": (("r",), _unless(_rebol_or_rez, "r")),
    ".sc": (("scala",), _unless(_supercollider, "scala")),
    ".as": (("actionscript",), _if(_actionscript, "actionscript")),
    ".cl": (("lisp",), _if(_lisp, "lisp")),
    ".l": (("lisp",), _if(_lisp, "lisp")),
    ".lsp": (("lisp",), _if(_lisp, "lisp")),
    ".scm": (("scheme",), _unless(_query, "scheme")),
    ".ts": (("typescript",), _unless(_xml, "typescript")),
    ".tsx": (("typescript",), _unless(_xml, "typescript")),
    ".gd": (("gdscript",), _unless(_gap, "gdscript")),
    ".s": (("assembly",), _unless(_markup, "assembly")),
    ".sql": (("sql",), _unless(_markup, "sql")),
}
"""Extension -> the languages it can be, and the decision."""
