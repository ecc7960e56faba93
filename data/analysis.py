"""Program analysis: how much of a document is broken, repeated, empty or dead, in two scores.

CodeFuse scored every file's syntax correctness and cleanliness with static analysers; how was never published. The
measures, the formulas (`Analysis.syntax`, `Analysis.cleanliness`) and the thresholds here are ours.

Covers: the languages of grammars.py. Does not cover: types, names that are never defined, style, code that only data
flow shows to be dead, or code commented out in block comments.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mindgeex.common.errors import UserError
from mindgeex.common.grammars import Function, Parsed, comments, errors, functions

if TYPE_CHECKING:
    from tree_sitter import Node

    from mindgeex.common.grammars import Captures

REPEATED_LINE_BYTES = 20
"""Shorter lines repeat in any code (`return None`, `} else {`) and do not count."""

TOLERANCE = {
    "python": 0.002, "java": 0.002, "javascript": 0.002, "typescript": 0.002, "go": 0.005, "perl": 0.005, "php": 0.01,
    "rust": 0.02, "shell": 0.02, "html": 0.1, "css": 0.1, "c": 0.5, "cpp": 0.7, "objective-c": 0.5, "sql": 1.0,
    "groovy": 1.0,
}  # fmt: skip
"""Share of damaged bytes at which a document is as likely sound as broken. Chosen by hand on 54 to 1,628 real files a
language (of Debian, PyPI, npm, the JDK, Go and rustc), so that the default rule drops at most 2 % of them (shell: 4 %).

Small where the grammar reads all real code; large in C, where a macro is an error and can take the rest of a file with
it; 1 where the grammar reads too little of real code to judge it (SQL's dialects, Groovy). Objective-C is set as C is,
and Groovy by small examples: neither was measured.
"""

DEFAULT_TOLERANCE = 0.1
"""For the languages of which too few real files could be measured."""

ALL_COMMENT = 0.95
"""Comment ratio from which on a document is text rather than code; a well documented interface has 0.9."""


@dataclass(frozen=True)
class Analysis:
    """The measures of one document: shares from 0 to 1."""

    syntax_errors: float
    """Of all bytes, those on lines that an outermost error or a missing token touches."""

    comment_ratio: float
    """Of all bytes, those in comments, docstrings included."""

    duplicated_lines: float
    """Of the lines of more than `REPEATED_LINE_BYTES`, those that stand further up already."""

    empty_definitions: float
    """Of the functions with a body, those in which it does nothing, or only raises."""

    dead_code: float
    """Of all bytes, those in statements after a jump and in line comments that hold code."""

    tolerance: float
    """The language's tolerance of `syntax_errors`."""

    @property
    def syntax(self) -> float:
        """Ours: t / (t + syntax_errors), t the language's tolerance; 1 without errors, 0.5 at the tolerance."""
        return self.tolerance / (self.tolerance + self.syntax_errors)

    @property
    def cleanliness(self) -> float:
        """Ours: (1 - duplicated_lines) (1 - dead_code) (1 - empty_definitions / 2) (1 - excess), 1 is clean.

        The excess is 0 up to a comment ratio of `ALL_COMMENT`, and grows to 1 where all is comment.
        """
        excess = max(0.0, self.comment_ratio - ALL_COMMENT) / (1 - ALL_COMMENT)
        return (1 - self.duplicated_lines) * (1 - self.dead_code) * (1 - self.empty_definitions / 2) * (1 - excess)


@dataclass(frozen=True)
class AnalysisRules:
    """What is dropped by program analysis."""

    enabled: bool = True
    """Parse documents, score them, and drop below the thresholds."""

    min_syntax: float = 0.5
    """Smallest syntax score kept, 0 to 1."""

    min_cleanliness: float = 0.3
    """Smallest cleanliness score kept, 0 to 1."""

    def __post_init__(self) -> None:
        for name in ("min_syntax", "min_cleanliness"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"analysis.{name}={getattr(self, name)}: must lie between 0 and 1")

    def reason(self, analysis: Analysis) -> str | None:
        """`syntax_errors`, `unclean`, or None to keep the document."""
        if analysis.syntax < self.min_syntax:
            return "syntax_errors"
        return "unclean" if analysis.cleanliness < self.min_cleanliness else None


def analyse(parsed: Parsed) -> Analysis:
    """The measures of a parsed document."""
    size = max(1, len(parsed.source))
    spoken = comments(parsed)
    commented_out = [span for span in spoken if _is_code(parsed, *span)]
    return Analysis(
        syntax_errors=_covered(_whole_lines(parsed.source, errors(parsed))) / size,
        comment_ratio=_covered(spoken) / size,
        duplicated_lines=_duplicated(parsed.source),
        empty_definitions=_empty(parsed, functions(parsed)),
        dead_code=_covered([*unreachable(parsed), *commented_out]) / size,
        tolerance=TOLERANCE.get(parsed.language, DEFAULT_TOLERANCE),
    )


_REACHABLE = re.compile(
    r"comment|^ERROR$|^;$|function|method|class|_item$|label|^preproc|^case|_case$|^break|^empty_statement"
    r"|^else|^elif|^rescue|^ensure|^declaration_list|^default|^pod$|^subroutine|^package|^use_|^macro"
)
"""Nodes that may follow a jump in its block and yet count: labels, branches, and definitions, which are hoisted."""


def unreachable(parsed: Parsed) -> list[tuple[int, int]]:
    """Byte ranges of the statements that follow a jump in the same block, in order."""
    found = (_after_jump(captures) for captures in parsed.matches if "dead" in captures)
    return sorted(span for span in found if span)


def _after_jump(captures: "Captures") -> tuple[int, int] | None:
    node: Node | None = captures["dead"][0]
    while node is not None and (not node.is_named or "comment" in node.type):
        node = node.next_named_sibling
    if node is None or node.has_error or _REACHABLE.search(node.type):
        return None
    start, end = node.start_byte, node.end_byte
    rest = node.next_named_sibling
    while rest is not None and not _REACHABLE.search(rest.type):
        end, rest = rest.end_byte, rest.next_named_sibling
    return start, end


def _duplicated(source: bytes) -> float:
    lines = [line for line in map(bytes.strip, source.split(b"\n")) if len(line) > REPEATED_LINE_BYTES]
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def _covered(spans: Iterable[tuple[int, int]]) -> int:
    """Bytes inside at least one of the spans."""
    total = reached = 0
    for start, end in sorted(spans):
        if end > reached:
            total += end - max(start, reached)
            reached = end
    return total


def _whole_lines(source: bytes, spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The lines that sorted spans touch; each line is looked for once, however many errors it has."""
    lines: list[tuple[int, int]] = []
    for start, end in spans:
        if not lines or end > lines[-1][1]:
            lines.append((source.rfind(b"\n", 0, start) + 1, _line_end(source, end)))
    return lines


def _line_end(source: bytes, position: int) -> int:
    end = source.find(b"\n", position)
    return len(source) if end < 0 else end


_HASH = ("elixir", "julia", "perl", "powershell", "python", "ruby", "shell")
_DASH = ("haskell", "lua", "sql")
_STRING = rb"[a-zA-Z]?(?:\"\"\".*?\"\"\"|'''.*?'''|\"[^\"\n]*\"|'[^'\n]*')"
_BLANK = {
    "hash": rb"(?:[\s;]|\#[^\n]*|" + _STRING + rb"(?=\s|$))*+",
    "dash": rb"(?:[\s;]|--[^\n]*)*+",
    "slash": rb"(?:[\s;]|//[^\n]*|/\*.*?\*/)*+",
}
_RAISE = (
    rb"(?:pass\b|\.\.\.|:(?=\s)|return(?:\s+(?:None|nil|null))?(?=\s*[;}\n]|\s*$)"
    rb"|(?:@?throw|raise|die|croak|confess|panic|(?:todo|unimplemented|panic|unreachable)!|TODO|fatalError|error)"
    rb"(?=[\s(;])(?:[^\n;(){}]|\((?:[^()]|\([^()]*\))*\))*;?)?"
)
_OPEN, _CLOSE = rb"(?:\{|do\b|=(?!\S*=))?", rb"(?:\}|end(?:\s+\w+){0,2})?"
_EMPTY = {
    family: re.compile(rb"\s*+" + _OPEN + blank + _RAISE + blank + _CLOSE + rb"\s*\Z", re.DOTALL)
    for family, blank in _BLANK.items()
}
_CODE = {
    "hash": re.compile(
        rb"#+[ \t]*(?:(?:if|elif|for|while|def|class|with)\b.*:\s*$|return\b[^.]*$|import \w|from \S+ import "
        rb"|(?:my )?[$@]?[\w.\[\]'\"]+\s*[-+*/|]?=\s*\S[^ ]*$|[\w.]+\(.*\);?\s*$)"
    ),
    "dash": re.compile(rb"--+[ \t]*(?:local \w+ =|return\b|[\w.:]+\(.*\)\s*$|[A-Z]+ .*;\s*$)"),
    "slash": re.compile(rb"//(?![/!])(?=[^\n]*[=(){}\[\]])[^\n]*[;{}][ \t\r]*$"),
}


def _family(language: str) -> str:
    return "hash" if language in _HASH else "dash" if language in _DASH else "slash"


def _empty(parsed: Parsed, found: list[Function]) -> float:
    if not found:
        return 0.0
    nothing = _EMPTY[_family(parsed.language)]
    bodies = (parsed.source[function.body_start : function.body_end] for function in found)
    return sum(nothing.match(body) is not None for body in bodies) / len(found)


def _is_code(parsed: Parsed, start: int, end: int) -> bool:
    return _CODE[_family(parsed.language)].match(parsed.source, start, end) is not None
