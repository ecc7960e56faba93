"""The languages: CodeGeeX's tag line for each, the file names that belong to it, and what to do where a name has two.

Tags are CodeGeeX's, byte for byte, even where they are not a comment of the language (`// language: Lua`): prompts
made for its checkpoints contain them. Aliases (`cpp` and `c++`) share a tag; a Document carries the first of them.

Covers: languages by extension, and by content for `.h` (C or C++) and `.m` (Objective-C or Matlab).
Does not cover: `#!` lines, files without an extension, other ambiguous extensions (`.pl` is Perl, `.pro` unknown).
"""

import re
from collections.abc import Callable

from mindgeex.common.errors import UserError, did_you_mean


def _tags() -> dict[str, str]:
    names = {
        "// language: {}": {
            "c": "C", "cpp": "C++", "c++": "C++", "csharp": "C#", "c#": "C#", "cuda": "Cuda", "dart": "Dart",
            "lua": "Lua", "objective-c": "Objective-C", "objectivec": "Objective-C",
            "objective-c++": "Objective-C++", "swift": "swift", "java": "Java", "scala": "Scala", "php": "PHP",
            "javascript": "JavaScript", "js": "JavaScript", "typescript": "TypeScript", "go": "Go", "rust": "Rust",
            "kotlin": "Kotlin", "pascal": "Pascal", "groovy": "Groovy", "actionscript": "ActionScript",
            "solidity": "Solidity", "cobol": "Cobol",
        },
        "# language: {}": {
            "python": "Python", "perl": "Perl", "shell": "Shell", "ruby": "Ruby", "r": "R", "gdscript": "GDScript",
            "julia": "Julia", "elixir": "Elixir", "powershell": "PowerShell",
        },
        "% language: {}": {"prolog": "Prolog", "tex": "TeX", "matlab": "Matlab", "erlang": "Erlang"},
        "; language: {}": {"lisp": "Lisp", "scheme": "Scheme", "assembly": "Assembly", "clojure": "Clojure"},
        "-- language: {}": {"sql": "SQL", "lean": "Lean", "haskell": "Haskell"},
        "' language: {}": {"vb": "Visual Basic", "basic": "Basic", "excel": "Excel"},
        "/* language: {} */": {"css": "CSS"},
        "<!--language: {}-->": {"vue": "Vue", "markdown": "Markdown", "html": "HTML"},
        "!language: {}": {"fortran": "Fortran"},
        "{{language: {}}}": {"delphi": "Delphi"},
        "* language: {}": {"abap": "Abap"},
    }  # fmt: skip
    return {key: form.format(name) for form, languages in names.items() for key, name in languages.items()}


TAGS: dict[str, str] = _tags()
"""Language key -> the line that stands before the code (without a newline)."""

PROSE = ("chinese", "english")
"""Natural languages: keys without a tag, for prose that goes into the mixture beside the code."""

_EXTENSIONS = {
    "c": ".c", "cpp": ".cc .cpp .cxx .c++ .hh .hpp .hxx .h++ .ipp .tpp .inl", "csharp": ".cs", "cuda": ".cu .cuh",
    "dart": ".dart", "lua": ".lua", "objective-c++": ".mm", "swift": ".swift", "java": ".java",
    "scala": ".scala .sc", "php": ".php", "javascript": ".js .mjs .cjs .jsx", "typescript": ".ts .tsx .mts .cts",
    "go": ".go", "rust": ".rs", "kotlin": ".kt .kts", "pascal": ".pas .pp", "groovy": ".groovy .gradle",
    "actionscript": ".as", "solidity": ".sol", "cobol": ".cob .cbl", "python": ".py .pyw", "perl": ".pl .pm",
    "shell": ".sh .bash .zsh", "ruby": ".rb", "r": ".r", "gdscript": ".gd", "julia": ".jl", "elixir": ".ex .exs",
    "powershell": ".ps1 .psm1", "prolog": ".prolog", "tex": ".tex .sty", "erlang": ".erl .hrl",
    "lisp": ".lisp .lsp .el", "scheme": ".scm .ss", "assembly": ".s .asm", "clojure": ".clj .cljs .cljc",
    "sql": ".sql", "lean": ".lean", "haskell": ".hs", "vb": ".vb .vbs", "basic": ".bas", "css": ".css",
    "vue": ".vue", "markdown": ".md .markdown", "html": ".html .htm", "fortran": ".f .for .f77 .f90 .f95 .f03 .f08",
    "delphi": ".dpr .dfm", "abap": ".abap",
}  # fmt: skip

DEFAULT_LANGUAGES = (
    "c", "cpp", "csharp", "css", "cuda", "fortran", "go", "html", "java", "javascript", "kotlin", "objective-c",
    "objective-c++", "pascal", "php", "python", "r", "rust", "scala", "shell", "sql", "tex", "typescript",
)  # fmt: skip
"""Twenty-three, as CodeGeeX trained on: the ten of its published mix, and, since the others were never listed, the
thirteen more that the first version of its tag table names besides Lean."""

PUBLISHED_MIX = {
    "cpp": 28.50, "python": 26.67, "java": 15.98, "javascript": 7.13, "c": 6.72, "go": 4.71, "html": 3.11,
    "shell": 1.73, "php": 1.37, "css": 0.99,
}  # fmt: skip
"""CodeGeeX's training mix in percent, from its published figure; the other languages together are 3.10."""

_CPP = re.compile(
    r"^[^\S\n]*(?:template\s*<|namespace\b|using\s+\w|class\s+\w|(?:public|private|protected)\s*:)|\w::\w|\bstd::"
    r"|^[^\S\n]*#\s*include\s*<(?:string|vector|map|memory|iostream|algorithm|utility|functional)>"
    r"|\b(?:constexpr|nullptr|noexcept|decltype|static_cast|typename|virtual|operator)\b",
    re.MULTILINE,
)
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)|//[^\n]*", re.DOTALL)
_EXTERN_C = re.compile(r"#\s*if(?:def\s+__cplusplus|\s+defined\s*\(?\s*__cplusplus).*?(?:#\s*endif|\Z)", re.DOTALL)
_OBJECTIVE_C = re.compile(r"^[^\S\n]*(?:@(?:interface|implementation|protocol|end|class)\b|#\s*import\b)", re.MULTILINE)


def c_or_cpp(text: str) -> str:
    """Which of the two a `.h` file is, by what only C++ can contain; comments and `extern "C"` guards do not count."""
    return "cpp" if _CPP.search(_EXTERN_C.sub("", _COMMENT.sub("", text))) else "c"


def objective_c_or_matlab(text: str) -> str:
    """Which of the two a `.m` file is."""
    return "objective-c" if _OBJECTIVE_C.search(text) else "matlab"


_AMBIGUOUS: dict[str, tuple[tuple[str, ...], Callable[[str], str]]] = {
    ".h": (("c", "cpp"), c_or_cpp),
    ".m": (("objective-c", "matlab"), objective_c_or_matlab),
}
_BY_EXTENSION = {extension: key for key, words in _EXTENSIONS.items() for extension in words.split()}


def language_tag(key: str) -> str:
    """The tag line of a language, without a newline.

    Raises:
        UserError: the key is unknown.
    """
    if key not in TAGS:
        raise UserError(f"unknown language {key!r}{did_you_mean(key, TAGS)}")
    return TAGS[key]


def canonical(key: str) -> str:
    """The one key that stands for a language and its aliases: `c++` -> `cpp`.

    Raises:
        UserError: the key is unknown.
    """
    tag = language_tag(key)
    return next(first for first, other in TAGS.items() if other == tag)


def possible_languages(name: str) -> tuple[str, ...]:
    """The languages a file of this name can be in; empty for a name that is not code."""
    extension = _extension(name)
    if extension in _AMBIGUOUS:
        return _AMBIGUOUS[extension][0]
    return (_BY_EXTENSION[extension],) if extension in _BY_EXTENSION else ()


def detect_language(name: str, text: str) -> str:
    """The language of a file for which `possible_languages` is not empty."""
    extension = _extension(name)
    return _AMBIGUOUS[extension][1](text) if extension in _AMBIGUOUS else _BY_EXTENSION[extension]


def _extension(name: str) -> str:
    dot = name.rfind(".")
    return name[dot:].lower() if dot > name.rfind("/") else ""


_CHINESE = re.compile(r"[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff]")
MIN_CHINESE = 0.1
"""Share of Chinese characters among a text's letters and such characters from which on it is Chinese."""


def prose(text: str) -> str:
    """`chinese` or `english`: what a text is that no one calls code.

    A tenth is enough: Chinese says in one character what takes English five letters, and quotes much in Latin script.
    """
    chinese = len(_CHINESE.findall(text))
    return "chinese" if chinese > MIN_CHINESE * sum(map(str.isalpha, text)) else "english"
