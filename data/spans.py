"""Texts as sets of 64-bit hashes that a copy shares: spans of words, and shingles of tokens whose names do not matter.

A text's words are its runs of letters, digits and `_`, in lower case; a character of an East Asian script is a word of
its own, its punctuation none. 64 bits are exact enough: a terabyte of code has some 2e11 spans,
and the chance that one of them meets one of 400,000 of benchmarks by accident is 0.4 %.

Covers: any text; code of the languages whose names consist of letters, digits and `_`.
Does not cover: upper and lower case of letters outside ASCII.
"""

import functools
import re

import numpy as np

SHINGLE_TOKENS = 6
"""Tokens in a shingle of code."""

MIN_TEXT_WORDS = 2
"""A span with fewer words that are no numbers is a row of numbers."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


KEYWORDS = _words(
    "abs abstract all and any as assert async auto await bool boolean break byte case catch char class const "
    "continue def default defer del delete dict do double elif else end enum enumerate except export extends "
    "extern f32 f64 false final finally float float32 float64 fn for foreach from func function go goto i32 i64 "
    "if impl implements import in inline instanceof int integer interface is isinstance lambda len let list long "
    "loop map match max min mod mut namespace new nil none nonlocal not null nullptr of or package pass print "
    "private protected pub public raise range ref return reversed self set short signed sizeof sorted static std "
    "str string struct sum super switch template then this throw throws true try tuple type typedef typename "
    "typeof u32 u64 u8 undefined unsigned use using usize var vec vector virtual void volatile where while with "
    "yield zip"
)
"""Words of the languages: a copy with other names keeps them."""
PLAIN = KEYWORDS | _words(
    "append are args arr array arraylist arrays begin buffer builder but can charat chr cin cmp count cout data "
    "each eight elseif endl equals err error exception find first five four get has hash hashmap hashset have idx "
    "include index item items iter its join key keys last length line lines log main math name next nine node num "
    "number object off one ord other out override pack pow printf println ptr push push_back pushback put read "
    "res result results ret returns root seven six size size_t sort split sqrt start static_cast stdout "
    "stringbuilder strings strlen substr substring system temp ten test text that the three tmp to_string tolower "
    "tostring toupper two unwrap util val value values was will write zero"
)
"""Words that alone make no span worth a hit: also everybody's names, everyday English, and numbers in words."""
IMPORT = re.compile(
    r"^[ \t]*(?:import\b(?:[ \t]*\([^)]*\)|.*)|from[ \t]+\S+[ \t]+import\b.*|#[ \t]*include\b.*"
    r"|(?:using|use|package)\b.*;)[ \t\r]*$",
    re.MULTILINE,
)


# Tokens: text -> positions and 64-bit hashes, in numpy


def _byte_table(keep_signs: bool) -> bytes:
    """Letters to lower case, digits, `_` and non-ASCII bytes as they are, blanks (and signs) to 0."""
    word = {byte for byte in range(256) if byte >= 128 or chr(byte).isalnum() or byte == ord("_")}
    lower = bytes(range(256)).lower()
    return bytes(lower[b] if b in word or (keep_signs and 32 < b < 127) else 0 for b in range(256))


_WORDS, _SIGNS = _byte_table(False), _byte_table(True)
_IS_WORD = np.array([_WORDS[byte] != 0 for byte in range(256)])
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)
_MIX = np.uint64(0xD6E8FEB86659FD93)
_EAST_ASIAN = 0xE3
"""First byte in UTF-8 of U+3000; from there on, a character is a word of its own."""
_FOUR_BYTES = 0xF0
"""First byte of the characters of four bytes, the rest of which have three."""
_WIDE_SIGNS = re.compile(rb"\xe3\x80.|\xef[\xbc\xbd].", re.DOTALL)
"""East Asian punctuation, U+3000 to U+303F and U+FF00 to U+FF7F: no words."""


@functools.lru_cache(maxsize=4)
def _powers(base: int, size: int) -> np.ndarray:
    factors = np.full(size, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors)


def _scramble(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(32))) * _MIX
    return values ^ (values >> np.uint64(29))


def tokens(raw: bytes, signs: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words, and if wanted signs of one character, in order.

    Returns:
        Hash [N] uint64, first byte [N], and byte after the last [N] of each token.
    """
    if not (ascii_only := raw.isascii()):
        raw = _WIDE_SIGNS.sub(b"   ", raw)
    padded = np.frombuffer(b"\0" + raw.translate(_SIGNS if signs else _WORDS) + b"\0", np.uint8)
    word = _IS_WORD[padded] if signs else padded != 0
    first = word.copy()
    first[1:] &= ~word[:-1]
    if not ascii_only:
        east_asian = padded >= _EAST_ASIAN
        first |= east_asian
        first[3:] |= word[3:] & east_asian[:-3] & (padded[:-3] < _FOUR_BYTES)
        first[4:] |= word[4:] & (padded[:-4] >= _FOUR_BYTES)
    last = word.copy()
    last[:-1] &= ~word[1:] | first[1:]
    if signs:
        alone = (padded != 0) & ~word
        first |= alone
        last |= alone
    starts, ends = np.flatnonzero(first), np.flatnonzero(last) + 1
    size = 1 << max(17, len(padded).bit_length())
    sums = np.zeros(len(padded) + 1, np.uint64)
    np.cumsum(padded * _powers(_BASE, size)[: len(padded)], out=sums[1:])
    hashes = (sums[ends] - sums[starts]) * _powers(_INVERSE, size)[starts]
    return _scramble(hashes), starts - 1, ends - 1


def windows(hashes: np.ndarray, size: int) -> np.ndarray:
    """The hash of each `size` tokens in a row."""
    count = max(0, len(hashes) - size + 1)
    total = np.zeros(count, np.uint64)
    for offset in range(size):
        total += hashes[offset : offset + count] * _powers(_BASE, 64)[offset + 1]
    return _scramble(total)


@functools.lru_cache(maxsize=1 << 16)
def _is_content(word: str) -> bool:
    letters = word.strip("_0123456789")
    return letters not in PLAIN and (len(letters) > 2 or word > "\u3000")


def _in_windows(marks: list[bool], size: int) -> np.ndarray:
    """How many of each `size` in a row are marked."""
    sums = np.concatenate([[0], np.cumsum(marks)])
    return sums[size:] - sums[:-size]


def content_spans(text: str, size: int) -> np.ndarray:
    """Hashes of the spans of a benchmark's text that are not plain."""
    found = []
    for piece in IMPORT.split(text):
        raw = piece.encode("utf-8", "surrogatepass")
        hashes, starts, ends = tokens(raw)
        if len(hashes) < size:
            continue
        words = [raw[a:b].decode("utf-8", "replace").lower() for a, b in zip(starts, ends, strict=True)]
        content = _in_windows([_is_content(word) for word in words], size)
        texts = _in_windows([not word[0].isdigit() for word in words], size)
        found.append(windows(hashes, size)[(content >= 1) & (texts >= MIN_TEXT_WORDS)])
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64)


@functools.cache
def _keyword_hashes() -> np.ndarray:
    return np.sort(tokens(" ".join(sorted(KEYWORDS)).encode())[0])


def is_in(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Which of the values are in an ordered array, which is not empty."""
    return ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values


def _since_last(values: np.ndarray) -> np.ndarray:
    """How many tokens ago each token stood last; 0: never."""
    order = np.argsort(values, kind="stable")
    gaps = np.diff(order, prepend=order[:1])
    gaps[1:][values[order[1:]] != values[order[:-1]]] = 0
    since = np.empty_like(gaps)
    since[order] = gaps
    return since


def renamed_shingles(code: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Shingles in which a name is only the distance to where it stood last in the same shingle.

    Returns:
        Hash of each shingle [max(0, N - SHINGLE_TOKENS + 1)], and first byte of each token [N].
    """
    hashes, starts, _ = tokens(code, signs=True)
    raw = np.frombuffer(b"\0\0" + code, np.uint8)
    here, before, before2 = raw[starts + 2], raw[starts + 1], raw[starts]
    member = (before == ord(".")) & (before2 != ord("."))
    member |= (before == ord(">")) & (before2 == ord("-")) | (before == ord(":")) & (before2 == ord(":"))
    named = _IS_WORD[here] & ~((here >= ord("0")) & (here <= ord("9"))) & ~member
    named &= ~is_in(hashes, _keyword_hashes())
    since = np.where(named, _since_last(hashes), 0)
    fixed = np.where(named, _MIX, hashes)
    count = max(0, len(hashes) - SHINGLE_TOKENS + 1)
    total = np.zeros(count, np.uint64)
    for offset in range(SHINGLE_TOKENS):
        ago = since[offset : offset + count]
        value = fixed[offset : offset + count] + np.where(ago <= offset, ago, 0).astype(np.uint64)
        total += _scramble(value) * _powers(_BASE, 64)[offset + 1]
    return _scramble(total), starts
