"""When a text is complete: any of some strings, or the end of a function in a language.

A Stop gives a Watcher, which follows one text character by character and says where it ends. So a stop is found
wherever tokens begin and end; the published rules of CodeGeeX (codegeex/benchmark/utils.py), which look once a token,
miss `}}` if that is a token, and keep what follows a brace in its token.

Covers: stop strings; CodeGeeX's rules for Python, C++, Java, JavaScript and Go. For Rust there is no published rule;
the one for braces is used. Does not cover: braces in comments and texts, which count as any others.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mindgeex.common.errors import UserError, did_you_mean


class Watcher(Protocol):
    """Follows one text, a character at a time."""

    @property
    def held(self) -> int:
        """So many characters at the end may yet fall to a stop, and are not to be shown."""

    def feed(self, letter: str) -> int | None:
        """The next character -> how many of all characters so far to keep, or None while the text goes on."""

    def copy(self) -> "Watcher":
        """One that goes on from here by itself."""


class Stop(Protocol):
    """When a text is complete."""

    def watch(self) -> Watcher:
        """A watcher for one continuation, before its first character."""


def end_of(stop: Stop, text: str) -> int | None:
    """How many characters of a whole text to keep; None if it is not complete."""
    watcher = stop.watch()
    return next((end for letter in text if (end := watcher.feed(letter)) is not None), None)


@dataclass(frozen=True)
class StopStrings:
    """A text ends before the first of these strings."""

    strings: tuple[str, ...]

    def __post_init__(self) -> None:
        if not all(self.strings):
            raise UserError("a stop string is empty: it would end every text before its first character")

    def watch(self) -> Watcher:
        """See Stop."""
        return _StringWatcher(self.strings)


@dataclass(frozen=True)
class Braces:
    """A text ends after the brace that closes more than the text opened, which the prompt did."""

    def watch(self) -> Watcher:
        """See Stop."""
        return _BraceWatcher()


@dataclass(frozen=True)
class Unindented:
    r"""A text ends before the first line that is not blank and begins in column 0, as no line of a Python body does.

    The first line of the text counts, since a prompt of HumanEval ends with a line break. CodeGeeX's strings (`\ndef`,
    `\nclass`, `\nif`, `\n#`, `\nprint`) all begin such a line.
    """

    def watch(self) -> Watcher:
        """See Stop."""
        return _LineWatcher()


@dataclass(frozen=True)
class FirstOf:
    """A text ends where the first of several stops says so."""

    stops: tuple[Stop, ...]

    def watch(self) -> Watcher:
        """See Stop."""
        return _FirstWatcher([stop.watch() for stop in self.stops])


FUNCTION_ENDS: dict[str, Stop] = {
    "python": Unindented(),
    "cpp": Braces(),
    "java": Braces(),
    "javascript": Braces(),
    "go": Braces(),
    "rust": Braces(),
}
"""Language -> the end of the function that a prompt began."""


def stop_at(strings: Sequence[str] = (), language: str | None = None) -> Stop | None:
    """The stop for some strings and a language's rule; None for neither.

    Raises:
        UserError: a string is empty, or the language has no rule.
    """
    stops: list[Stop] = [StopStrings(tuple(strings))] if strings else []
    if language is not None:
        if language not in FUNCTION_ENDS:
            raise UserError(f"no stop rule for language {language!r}{did_you_mean(language, FUNCTION_ENDS)}")
        stops.append(FUNCTION_ENDS[language])
    return FirstOf(tuple(stops)) if len(stops) > 1 else stops[0] if stops else None


class _StringWatcher:
    def __init__(self, strings: tuple[str, ...]):
        self.strings = strings
        self.length = 0
        self.tail = ""
        """The longest end of the text that is the beginning of a stop string."""

    @property
    def held(self) -> int:
        return len(self.tail)

    def feed(self, letter: str) -> int | None:
        self.length += 1
        self.tail += letter
        while not any(string.startswith(self.tail) for string in self.strings):
            self.tail = self.tail[1:]
        found = [len(string) for string in self.strings if self.tail.endswith(string)]
        return self.length - max(found) if found else None

    def copy(self) -> "_StringWatcher":
        return copy.copy(self)


class _BraceWatcher:
    held = 0

    def __init__(self) -> None:
        self.length = 0
        self.open = 0

    def feed(self, letter: str) -> int | None:
        self.length += 1
        self.open += (letter == "{") - (letter == "}")
        return self.length if self.open < 0 else None

    def copy(self) -> "_BraceWatcher":
        return copy.copy(self)


class _LineWatcher:
    def __init__(self) -> None:
        self.length = 0
        self.line_start = 0
        self.indented = False
        self.held = 0

    def feed(self, letter: str) -> int | None:
        self.length += 1
        if letter == "\n":
            self.line_start, self.indented, self.held = self.length, False, 0
        elif letter in " \t" and self.length == self.line_start + 1:
            self.indented = True
        elif not self.indented:
            self.held = self.length - self.line_start
            return None if letter.isspace() else self.line_start
        return None

    def copy(self) -> "_LineWatcher":
        return copy.copy(self)


class _FirstWatcher:
    def __init__(self, watchers: Sequence[Watcher]):
        self.watchers = watchers

    @property
    def held(self) -> int:
        return max(watcher.held for watcher in self.watchers)

    def feed(self, letter: str) -> int | None:
        ends = [end for watcher in self.watchers if (end := watcher.feed(letter)) is not None]
        return min(ends, default=None)

    def copy(self) -> "_FirstWatcher":
        return _FirstWatcher([watcher.copy() for watcher in self.watchers])
