"""The language of a text without a name, told by how its lines begin.

The first word of each line, with what follows it, counts for one language or a few; a language is given only if its
count is large, is a fair share of the lines, and leaves the next one far behind: a wrong tag is worse than none.

Covers: the languages in `HEADS`, `#!` lines, TypeScript or JavaScript, C or C++ or CUDA or Objective-C.
Does not cover: texts in two languages (templates), prose and data, which give None.
"""

import functools
import re
from collections.abc import Mapping

from mindgeex.data.languages import detect_language
from mindgeex.data.sources.guess_tables import COUNT_LIMIT, COUNTS, HEADS, NEEDS, OTHER, PATTERNS

LOOK_CHARS = 1 << 14
"""The beginning of a text that is looked at."""

MIN_SCORE = 5.0
MIN_LEAD = 1.6
"""The first language's score over the second's."""

MIN_SHARE = 0.08
"""Score a line that is neither blank nor a comment."""

MAX_PROSE = 0.25
"""Share of lines that read like sentences."""

_ELSE = re.compile(
    r"^(?:[ \t]*dnl\b|AC_(?:DEFUN|INIT|PREREQ)|\\(?:name|alias)\{|@@ -\d|diff --git "
    r"|syntax = \"proto|load\(\"|msgid \")",
    re.MULTILINE,
)
"""Lines of texts that quote code, or look like it: autoconf, R's manual pages, patches, Bazel and so on."""

_SHEBANG = re.compile(r"#!\s*(?:\S*/)?(?:env\s+(?:-S\s+)?)?([a-zA-Z]+)[\d.]*\b")
_INTERPRETERS = {
    "python": "python", "pypy": "python", "sh": "shell", "bash": "shell", "zsh": "shell", "dash": "shell",
    "ksh": "shell", "perl": "perl", "ruby": "ruby", "node": "javascript", "php": "php", "Rscript": "r", "lua": "lua",
    "groovy": "groovy", "pwsh": "powershell", "powershell": "powershell", "scala": "scala", "swift": "swift",
}  # fmt: skip

_COMMENT = re.compile(r"/\*[^*]*(?:\*(?!/)[^*]*)*(?:\*/|\Z)|^[ \t]*(?://|--|#(?![a-z!\[])|[!;%])[^\n]*", re.MULTILINE)
_LINE = re.compile(r"^[ \t]*([#@\\'\"\[.]?[A-Za-z_]\w{0,40}:?|#\[)(.{0,300})", re.MULTILINE)
_SENTENCE = re.compile(r"^[ \t]*(?:[-*] )?[A-Z]?[a-z,']+(?: [\w,'`()\"-]+){4,}[ .,:\w]?$", re.MULTILINE)
_LINES = re.compile(r"^[ \t]*\S", re.MULTILINE)
_NOT_CSS = re.compile(r"^[ \t]*(?:@(?:mixin|include|extend|function|if|each|use)\b|[$@][\w-]+\s*:|&|//)", re.MULTILINE)
_HTML = re.compile(r"\s*(?:<!--.*?-->\s*)*+<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_TEMPLATE = re.compile(r"\{%|<%|\{\{[^{}\n]+\}\}|<\?php|<\?=")
_TYPES = re.compile(
    r"[\w)\]]\??: (?:string|number|boolean|void(?! 0)|any|unknown|never|[A-Z]\w*(?:<|\[\]| [|&{=])|Promise<|readonly )"
    r"|^[ \t]*(?:export )?(?:declare |abstract |interface \w|type \w+.*=|enum \w|namespace \w)"
    r"|^[ \t]*(?:private|public|protected|readonly) |\w as (?:const|any|string|unknown|[A-Z]\w+[<;)\[])"
    r"|^import type |\w<[A-Z]\w*(?:, \w+)*>\(|^\s*export (?:interface|type|enum)\b|\): [\w<>\[\]. |]+ (?:\{|=>)",
    re.MULTILINE,
)
_CUDA = re.compile(r"\b__(?:global|device|shared)__\b|<<<|\bcuda[A-Z]\w+\(")
_CPP_ONLY = re.compile(r"\w::\w|^[ \t]*(?:template\s*<|namespace\b|class \w+\s*[:{])", re.MULTILINE)


def guess_language(text: str) -> str | None:
    """The key of a language, or None for a text that could be several, or none that is known here."""
    text = text[:LOOK_CHARS].replace("\r\n", "\n")
    if found := _SHEBANG.match(text):
        return _INTERPRETERS.get(found[1])
    if special := _by_marks(text):
        return special
    if "<?php" in text or text.lstrip()[:1] in ("<", "{", "[") or _ELSE.search(text):
        return None
    code = _COMMENT.sub("", text)
    lines = len(_LINES.findall(code))
    if not lines or len(_SENTENCE.findall(code)) > MAX_PROSE * lines:
        return None
    first, second = _two_best(code)
    if first[0] == OTHER or first[1] < max(MIN_SCORE, MIN_SHARE * lines) or first[1] < MIN_LEAD * second[1]:
        return None
    return _within_family(first[0], text, code)


def _by_marks(text: str) -> str | None:
    """What one mark at the beginning decides."""
    if "<?php" in text[:1000]:
        return "php" if text.lstrip().startswith("<?php") else None
    if _HTML.match(text):
        return None if _TEMPLATE.search(text) else "html"
    return None


@functools.cache
def _compiled() -> Mapping[str, tuple[tuple[re.Pattern[str], tuple[str, ...], float], ...]]:
    return {
        word: tuple(
            (re.compile(after, re.IGNORECASE if languages == "sql" else 0), tuple(languages.split()), points)
            for after, languages, points in rules
        )
        for word, rules in HEADS.items()
    }


def _scores(code: str) -> dict[str, float]:
    heads, scores = _compiled(), dict[str, float]()
    for word, rest in _LINE.findall(code):
        rules = heads.get(word) or (heads.get(word.lower()) if word.isupper() or word[0] in "[." else None)
        for pattern, languages, points in rules or ():
            if pattern.match(rest):
                for language in languages:
                    scores[language] = scores.get(language, 0) + points
                break
    for literal, names, points in COUNTS:
        if count := min(COUNT_LIMIT, code.count(literal)):
            for language in names.split():
                scores[language] = scores.get(language, 0) + points * count
    for literal, line, names, points in PATTERNS:
        if literal in code and (count := len(re.findall(line, code, re.MULTILINE))):
            for language in names.split():
                scores[language] = scores.get(language, 0) + points * count
    if "css" in scores and _NOT_CSS.search(code):
        scores[OTHER] = scores.get(OTHER, 0) + scores.pop("css")
    return scores


def _two_best(code: str) -> tuple[tuple[str, float], tuple[str, float]]:
    """The best language and the best that is not of its family, with their scores."""
    ranked = sorted(_scores(code).items(), key=lambda item: (-item[1], item[0]))
    possible = (item for item in ranked if item[0] not in NEEDS or re.search(NEEDS[item[0]], code, re.MULTILINE))
    first = next(possible, ("", 0.0))
    family = _C_FAMILY if first[0] in _C_FAMILY else (first[0],)
    return first, next((item for item in possible if item[0] not in family), ("", 0.0))


_C_FAMILY = ("c", "cpp", "objective-c")


def _within_family(language: str, text: str, code: str) -> str | None:
    """Which of a family's languages it is, by what only one of them has."""
    if language == "javascript":
        return "typescript" if _TYPES.search(code) else "javascript"
    if language not in _C_FAMILY:
        return language
    if _CUDA.search(code):
        return "cuda"
    if language == "objective-c":
        return "objective-c++" if _CPP_ONLY.search(code) else "objective-c"
    return detect_language("a.h", text)
