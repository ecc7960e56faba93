"""The languages: CodeGeeX's tag line for each, the file names that belong to it, and what to do where a name has two.

Tags are CodeGeeX's, byte for byte, even where they are not a comment of the language (`// language: Lua`): prompts
made for its checkpoints contain them. Aliases (`cpp` and `c++`) share a tag; a Document carries the first of them.

Covers: all of them by extension or name, by content where an extension is shared (ambiguous.py) or a script's.
Does not cover: files under another language's extension. Scripts without an extension are told by `detect_language`,
but `possible_languages` does not list them: in one site-packages that read 223 MB in 688 files to find one script.
"""

import re

from mindgeex.common.errors import UserError, did_you_mean
from mindgeex.data.ambiguous import AMBIGUOUS, INTERPRETERS, LOOK_CHARS, shebang_language


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
    "abap": ".abap", "assembly": ".asm .nasm", "basic": ".bi", "c": ".c",
    "clojure": ".clj .cljs .cljc .cljx", "cobol": ".cob .cbl .cpy .cobol", "csharp": ".cs .csx",
    "cpp": ".cc .cpp .cxx .c++ .hh .hpp .hxx .h++ .ipp .tpp .txx .tcc .inl .cppm .ixx .ino",
    "css": ".css", "cuda": ".cu .cuh", "dart": ".dart", "delphi": ".dpr .dpk .dfm", "elixir": ".ex .exs",
    "erlang": ".erl .hrl .escript", "fortran": ".ftn .fpp .f77 .f90 .f95 .f03 .f08 .f18", "go": ".go",
    "groovy": ".groovy .gradle .gvy", "haskell": ".hs .hs-boot .hsc", "html": ".html .htm .xhtml", "java": ".java",
    "javascript": ".js .mjs .cjs .jsx .es6 .jsm", "julia": ".jl", "kotlin": ".kt .kts .ktm", "lean": ".lean",
    "lisp": ".lisp .el .asd", "lua": ".lua .rockspec .nse .wlua", "markdown": ".md .markdown .mdown .mkd .mkdn",
    "matlab": ".matlab", "pascal": ".pas .lpr", "perl": ".plx .psgi .al",
    "php": ".php .php3 .php4 .php5 .php7 .phtml .phpt", "powershell": ".ps1 .psm1 .psd1", "prolog": ".prolog .yap",
    "python": ".py .pyw .pyi .wsgi .gyp .gypi", "r": ".rprofile",
    "ruby": ".rb .rbw .rake .gemspec .ru .podspec .jbuilder .thor", "rust": ".rs", "scala": ".scala .sbt",
    "scheme": ".ss .sch .sld .sls .sps", "shell": ".sh .bash .zsh .ksh .bats .ebuild .eclass",
    "solidity": ".sol", "sql": ".psql .pgsql .plsql .pls .pks .pkb .tsql .ddl", "swift": ".swift",
    "tex": ".tex .sty .ltx .latex .dtx", "typescript": ".mts .cts", "vb": ".vb .vbs", "vue": ".vue",
}  # fmt: skip

_NAMES = {
    "erlang": "rebar.config Emakefile", "groovy": "Jenkinsfile", "javascript": "Jakefile",
    "python": "SConstruct SConscript wscript", "r": ".Rprofile",
    "ruby": "Rakefile Gemfile Vagrantfile Guardfile Capfile Thorfile Podfile Fastfile Appfile Berksfile Brewfile "
    "Dangerfile Appraisals",
    "shell": ".bashrc .bash_profile .bash_login .bash_logout .bash_aliases .profile .zshrc .zshenv .zprofile PKGBUILD "
    "APKBUILD",
}  # fmt: skip
"""Languages of files that are told by their whole name."""

_SCRIPT_EXTENSIONS = (".cgi", ".fcgi", ".in", ".command", ".init", ".script")
"""Extensions that say nothing: the `#!` line decides."""

_NO_PROSE = re.compile(
    r"cmakelists\.txt|cmakecache\.txt|robots\.txt|humans\.txt|manifest\.txt|top_level\.txt|entry_points\.txt|sources\.txt"
    r"|(?:[\w-]*[-_])?(?:requirements?|requires|constraints|deps|dependencies|dependency_links|links|packages|versions?)"
    r"(?:[-_.][\w.-]*)?\.txt|(?:licen[cs]es?|copying|notice)(?:[-_.][\w.-]*)?\.txt",
    re.IGNORECASE,
)
"""Names of `.txt` files that are no prose."""

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

_SCRIPT_LANGUAGES = tuple(sorted(set(INTERPRETERS.values())))
_BY_EXTENSION = {extension: key for key, words in _EXTENSIONS.items() for extension in words.split()}
_BY_NAME = {name: key for key, words in _NAMES.items() for name in words.split()}


def language_tag(key: str) -> str:
    """The tag line of a language, without a newline; empty for prose.

    Raises:
        UserError: the key is unknown.
    """
    if key in PROSE:
        return ""
    if key not in TAGS:
        raise UserError(f"unknown language {key!r}{did_you_mean(key, (*TAGS, *PROSE))}")
    return TAGS[key]


def canonical(key: str) -> str:
    """The one key that stands for a language and its aliases: `c++` -> `cpp`.

    Raises:
        UserError: the key is unknown.
    """
    tag = language_tag(key)
    return next(first for first, other in TAGS.items() if other == tag) if tag else key


def possible_languages(name: str) -> tuple[str, ...]:
    """The languages a file of this name can be in; empty for a name that is not code, or that says nothing."""
    base = name.rpartition("/")[2]
    if base in _BY_NAME:
        return (_BY_NAME[base],)
    extension = _extension(base)
    if extension in _BY_EXTENSION:
        return (_BY_EXTENSION[extension],)
    if extension in AMBIGUOUS:
        return AMBIGUOUS[extension][0]
    if extension in _SCRIPT_EXTENSIONS:
        return _SCRIPT_LANGUAGES
    return PROSE if extension == ".txt" and not _NO_PROSE.fullmatch(base) else ()


def could_be_script(name: str) -> bool:
    """Whether only a `#!` line can tell the language: no extension, and not all capitals such as README."""
    base = name.rpartition("/")[2]
    return "." not in base and base not in _BY_NAME and not base.isupper() and base not in _NO_SCRIPTS


_NO_SCRIPTS = frozenset(("Makefile", "Dockerfile", "ChangeLog", "Kconfig", "copyright", "license", "control"))


def detect_language(name: str, text: str) -> str | None:
    """The language of a file, or None for what is no code after all, or in a language without a tag.

    Args:
        name: its name or path.
        text: its text, without a byte order mark.
    """
    base = name.rpartition("/")[2]
    if base in _BY_NAME:
        return _BY_NAME[base]
    extension = _extension(base)
    if extension in _BY_EXTENSION:
        return _BY_EXTENSION[extension]
    if extension in AMBIGUOUS:
        return AMBIGUOUS[extension][1](text[:LOOK_CHARS])
    if extension in _SCRIPT_EXTENSIONS or could_be_script(base):
        return shebang_language(text)
    return _prose_or_none(text[:LOOK_CHARS]) if extension == ".txt" and not _NO_PROSE.fullmatch(base) else None


def _extension(base: str) -> str:
    dot = base.rfind(".")
    extension = base[dot:] if dot >= 0 else ""
    return extension if extension == ".C" else extension.lower()


_CHINESE = re.compile(r"[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff]")
MIN_CHINESE = 0.1
"""Share of Chinese characters among a text's letters and such characters from which on it is Chinese."""


def prose(text: str) -> str:
    """`chinese` or `english`: what a text is that no one calls code.

    A tenth is enough: Chinese says in one character what takes English five letters, and quotes much in Latin script.
    """
    chinese = len(_CHINESE.findall(text))
    return "chinese" if chinese > MIN_CHINESE * sum(map(str.isalpha, text)) else "english"


_OTHER_EAST_ASIAN = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")
_ENGLISH_WORD = re.compile(r"\b(?:the|of|and|to|in|is|that|for|it|are|with|this)\b", re.IGNORECASE)
_WORD = re.compile(r"\w+")
MIN_ENGLISH = 0.08
"""Share of the words above among all; English has about a quarter, other languages, tables and scripts next to none."""


def _prose_or_none(text: str) -> str | None:
    """What `prose` says, unless it is another language, or none."""
    if prose(text) == "chinese":
        japanese_or_korean = len(_OTHER_EAST_ASIAN.findall(text)) > MIN_CHINESE * len(_CHINESE.findall(text))
        return None if japanese_or_korean else "chinese"
    words = len(_WORD.findall(text))
    return "english" if words and len(_ENGLISH_WORD.findall(text)) >= MIN_ENGLISH * words else None
