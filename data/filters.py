"""CodeGeeX's published rules: each a small function that gives a reason to drop a document, or None.

The rules are published as one sentence (README of CodeGeeX): drop a file that averages more than 100 characters a
line, is generated automatically, has less than 40 % alphabetic characters, or is larger than 100 KB or smaller than
1 KB. How they were counted was never published; what is counted here is said at each rule.

Covers: these rules, in the order that costs least; what "generated automatically" means is in generated.py.
Does not cover: syntax errors, licences, secrets, personal data.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mindgeex.common.errors import UserError
from mindgeex.data.document import Document
from mindgeex.data.generated import NAME_RULES, TEXT_RULES, Filter, vendored
from mindgeex.data.languages import PROSE


@dataclass(frozen=True)
class Rules:
    """The thresholds; the defaults are CodeGeeX's."""

    min_bytes: int = 1024
    """Smallest file kept, in bytes of UTF-8."""

    max_bytes: int = 100 * 1024
    """Largest file kept, in bytes of UTF-8."""

    max_average_line_chars: float = 100.0
    """Largest average line length kept, in characters."""

    min_alphabetic_share: float = 0.40
    """Smallest share of alphabetic characters kept, 0 to 1."""

    drop_generated: bool = True
    """Drop what tools wrote: by its name, by what it says of itself, by how it looks (generated.py)."""

    keep_vendored: bool = False
    """Keep copies of other people's code: vendor/, third_party/, node_modules/, jquery-1.2.3.js and their like."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_bytes <= self.max_bytes:
            raise UserError(f"rules.min_bytes={self.min_bytes}, rules.max_bytes={self.max_bytes}: need 0 <= min <= max")
        if not 0 <= self.min_alphabetic_share <= 1:
            raise UserError(f"rules.min_alphabetic_share={self.min_alphabetic_share}: must lie between 0 and 1")

    def filters(self) -> list[Filter]:
        """The rules in the order they are asked; a document's reason is the first that drops it."""
        names = (*(NAME_RULES if self.drop_generated else ()), *(() if self.keep_vendored else (vendored,)))
        thresholds = (
            size(self.min_bytes, self.max_bytes),
            short_lines(self.max_average_line_chars),
            alphabetic(self.min_alphabetic_share),
        )
        return [*names, *thresholds, *(TEXT_RULES if self.drop_generated else ())]


def first_reason(document: Document, filters: Sequence[Filter]) -> str | None:
    """The first reason to drop the document, or None."""
    return next((reason for check in filters if (reason := check(document))), None)


def size(min_bytes: int, max_bytes: int) -> Filter:
    """Between `min_bytes` and `max_bytes` of UTF-8, both included."""

    def check(document: Document) -> str | None:
        num_bytes = len(document.text.encode("utf-8"))
        return "too_small" if num_bytes < min_bytes else "too_large" if num_bytes > max_bytes else None

    return check


def short_lines(limit_chars: float) -> Filter:
    """At most `limit_chars` characters a line on average, line ends not counted; prose has a paragraph on a line."""

    def check(document: Document) -> str | None:
        if document.language in PROSE:
            return None
        breaks = document.text.count("\n")
        lines = breaks + (not document.text.endswith("\n"))
        return "long_lines" if len(document.text) - breaks > limit_chars * lines else None

    return check


ASCII_LETTERS = bytes(range(65, 91)) + bytes(range(97, 123))


def alphabetic(min_share: float) -> Filter:
    """At least `min_share` of all characters, blanks and line ends included, are letters of any script."""

    def check(document: Document) -> str | None:
        text = document.text
        if text.isascii():
            raw = text.encode("ascii")
            letters = len(raw) - len(raw.translate(None, ASCII_LETTERS))
        else:
            letters = sum(map(str.isalpha, text))
        return "few_letters" if letters < min_share * len(text) else None

    return check
