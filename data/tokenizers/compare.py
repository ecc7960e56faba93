"""Several tokenizers on the same documents: bytes a token, tokens per 1,000 characters, and MB/s, by language.

Covers: any tokenizers, one core, what encoding a corpus does (no EOD in text, no tag line).
Does not cover: loss; fewer tokens are no better model by themselves.
"""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mindgeex.data.document import Document
from mindgeex.data.tokenizers import Tokenizer

if TYPE_CHECKING:
    from rich.table import Table

CHINESE = "chinese"
"""Instead of its language, the name of a document a fifth of whose characters or more are Chinese."""
CHINESE_SHARE = 0.2
TURN_CHARS = 8_000_000
"""What a tokenizer encodes before the next one has its turn: enough for the processor's caches to be its own."""
_HAN = re.compile(r"[\u3400-\u9fff]")


@dataclass
class Count:
    """What is in one language, and how many tokens each tokenizer makes of it."""

    tokens: list[int]
    documents: int = 0
    bytes: int = 0
    chars: int = 0

    def add(self, text: str, tokens: Sequence[int]) -> None:
        """Counts one document."""
        self.documents += 1
        self.bytes += len(text.encode("utf-8", "replace"))
        self.chars += len(text)
        self.tokens = [have + more for have, more in zip(self.tokens, tokens, strict=True)]

    def bytes_per_token(self) -> list[float]:
        """Of each tokenizer; more is better."""
        return [self.bytes / max(1, tokens) for tokens in self.tokens]

    def tokens_per_1000_chars(self) -> list[float]:
        """Of each tokenizer; fewer is better."""
        return [1000 * tokens / max(1, self.chars) for tokens in self.tokens]

    def tree(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "documents": self.documents,
            "bytes": self.bytes,
            "chars": self.chars,
            "tokens": self.tokens,
            "bytes_per_token": [round(value, 4) for value in self.bytes_per_token()],
            "tokens_per_1000_chars": [round(value, 2) for value in self.tokens_per_1000_chars()],
        }


@dataclass
class Comparison:
    """What `compare` counted."""

    total: Count
    seconds: list[float]
    """Processor time of encoding all of it, with each tokenizer."""
    languages: dict[str, Count] = field(default_factory=dict)
    """The largest first."""

    def megabytes_per_s(self) -> list[float]:
        """Of each tokenizer, on one core."""
        return [self.total.bytes / 1e6 / max(seconds, 1e-9) for seconds in self.seconds]


def compare(tokenizers: Sequence[Tokenizer], documents: Iterable[Document]) -> Comparison:
    """Encodes every document with every tokenizer; they take turns after every few megabytes."""
    result = Comparison(Count([0] * len(tokenizers)), [0.0] * len(tokenizers))
    for batch in _batches(documents):
        tokens = []
        for number, tokenizer in enumerate(tokenizers):
            started = time.process_time()
            tokens.append([len(tokenizer.encode_array(document.text, eod_in_text=False)) for document in batch])
            result.seconds[number] += time.process_time() - started
        for document, counts in zip(batch, zip(*tokens, strict=True), strict=True):
            name = CHINESE if is_chinese(document.text) else document.language
            for count in (result.total, result.languages.setdefault(name, Count([0] * len(tokenizers)))):
                count.add(document.text, counts)
    result.languages = dict(sorted(result.languages.items(), key=lambda item: (-item[1].bytes, item[0])))
    return result


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    held = 0
    for document in documents:
        batch.append(document)
        held += len(document.text)
        if held >= TURN_CHARS:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def is_chinese(text: str) -> bool:
    """Whether a fifth of the characters or more are Chinese."""
    return not text.isascii() and len(_HAN.findall(text)) >= CHINESE_SHARE * len(text)


def tree(tokenizers: Sequence[Tokenizer], comparison: Comparison) -> dict[str, Any]:
    """All of a comparison, for JSON; lists are in the order of the tokenizers."""
    return {
        "tokenizers": [
            {
                "folder": str(tokenizer.folder),
                "vocab_size": tokenizer.vocab_size,
                "fingerprint": tokenizer.fingerprint,
                "megabytes_per_s": round(rate, 2),
            }
            for tokenizer, rate in zip(tokenizers, comparison.megabytes_per_s(), strict=True)
        ],
        "total": comparison.total.tree(),
        "languages": {name: count.tree() for name, count in comparison.languages.items()},
    }


def table(tokenizers: Sequence[Tokenizer], comparison: Comparison) -> "Table":
    """A comparison to print: a line a language, a column a tokenizer, the best of each line in bold."""
    from rich.markup import escape
    from rich.table import Table

    result = Table("language", title="bytes a token (tokens per 1,000 characters)")
    result.add_column("MB", justify="right")
    names = [tokenizer.folder.name for tokenizer in tokenizers]
    if len(set(names)) < len(names):
        names = [str(tokenizer.folder) for tokenizer in tokenizers]
    for name in names:
        result.add_column(escape(name), justify="right", overflow="fold")
    for name, count in [*comparison.languages.items(), ("all", comparison.total)]:
        per_1000 = count.tokens_per_1000_chars()
        values = count.bytes_per_token()
        words = [f"{value:.3f} ({fewer:.0f})" for value, fewer in zip(values, per_1000, strict=True)]
        result.add_row(name, f"{count.bytes / 1e6:.2f}", *_best_bold(words, values), end_section=name == "all")
    rates = comparison.megabytes_per_s()
    result.add_row("MB/s, one core", "", *_best_bold([f"{rate:.1f}" for rate in rates], rates))
    result.add_row("vocabulary", "", *(f"{tokenizer.vocab_size:,}" for tokenizer in tokenizers))
    return result


def _best_bold(words: Sequence[str], values: Sequence[float]) -> list[str]:
    return [f"[bold]{word}[/bold]" if value == max(values) else word for word, value in zip(words, values, strict=True)]
