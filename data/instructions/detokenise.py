r"""XLCoST's programs, which are tokens with blanks between, back to source code as people write it.

What the data set has, and what becomes of it:
- `NEW_LINE` is a line end, `INDENT` and `DEDENT` (Python) begin and end a block of four more blanks.
- The content of a string literal stands in pieces between the quotes; the pieces are joined, `▁` is a blank,
  `STRNEWLINE` and `TABSYMBOL` are `\n` and `\t` (the conventions of TransCoder's tokenizer, which XLCoST used). A
  literal of a line end alone is `"NEW_LINE"`, with the punctuation behind it in the same word.
- Outside of literals a blank stays between two tokens unless the second is one of `) ] , ;` or the first one of `( [`,
  or a name stands before a `(` or `[` or beside `++` or `--`, or the first is a sign (`-1`, `!x`), or one of them is
  `.` (not in PHP, where it joins strings), `::` or `->` (C, C++, PHP).
- In languages with braces a line ends behind `{`, `}` and `;`, a block is four blanks deeper, and braces of
  initialisers (behind `=`, `,`, `(`, `[`, `]`, `return`) stay on their line.

Covers: every token of the input is in the output, in order. Does not cover: comments (XLCoST has none), where the
original broke its lines.
"""

import itertools
import re
from collections.abc import Iterator

CLOSING = {")", "]", ",", ";"}
OPENING = {"(", "["}
KEYWORDS = {
    "and", "as", "assert", "await", "case", "catch", "do", "elif", "else", "except", "for", "foreach", "from", "if",
    "import", "in", "is", "lambda", "not", "or", "raise", "return", "switch", "throw", "until", "using", "while",
    "with", "yield",
}  # fmt: skip
"""Before a bracket these keep their blank."""
WORD = re.compile(r"[\w$]+\Z")
QUOTES = {'"', "'", '"""', "'''", "`"}
ESCAPES = {"▁": " ", "STRNEWLINE": r"\n", "TABSYMBOL": r"\t"}
LINE_END_LITERAL = re.compile(r'"NEW_LINE"(\S*)')
INLINE_BRACE_AFTER = {"=", ",", "(", "[", "]", "return", "{", "=>", ":"}
STAYS_BEHIND_BRACE = {";", ",", ")", "else", "catch", "finally", "while", "]", "."}
STEPS = {"++", "--"}
SIGNS = {"-", "!", "~"}
INDENT = "    "


def detokenise(line: str, language: str) -> str:
    """One program of XLCoST as source code, with a line end at its end.

    Args:
        line: its tokens.
        language: as XLCoST calls it: C, C++, C#, Java, Javascript, PHP, Python.
    """
    words = LINE_END_LITERAL.sub(lambda found: f'" STRNEWLINE " {" ".join(found[1])}', line).split()
    tokens = list(_literals(words, language))
    lines = _python_lines(tokens) if language == "Python" else _brace_lines(tokens)
    text = "\n".join(INDENT * depth + _joined(words, language) if words else "" for depth, words in lines)
    return text.strip("\n") + "\n"


def _literals(words: list[str], language: str) -> Iterator[str]:
    """The tokens with the pieces of every string literal joined; a quote that nothing closes is a token of its own."""
    at = 0
    while at < len(words):
        word = words[at]
        if word in QUOTES and not (word == "`" and language != "Javascript"):
            end = next((i for i in range(at + 1, len(words)) if words[i] == word and words[i - 1] != "\\"), None)
            if end is not None and not (len(word) == 1 and _crosses_line(words, at, end)):
                yield word + "".join(ESCAPES.get(piece, piece) for piece in _pieces(words[at + 1 : end])) + word
                at = end + 1
                continue
        yield word
        at += 1


def _pieces(words: list[str]) -> Iterator[str]:
    for word in words:
        yield from re.findall(r"▁|STRNEWLINE|TABSYMBOL|[^▁]+?(?=▁|STRNEWLINE|TABSYMBOL|\Z)", word)


def _crosses_line(words: list[str], start: int, end: int) -> bool:
    return "NEW_LINE" in words[start:end]


def _python_lines(tokens: list[str]) -> Iterator[tuple[int, list[str]]]:
    depth = 0
    words: list[str] = []
    for token in tokens:
        if token in ("NEW_LINE", "INDENT", "DEDENT"):
            if words:
                yield depth, words
                words = []
            depth = max(0, depth + {"NEW_LINE": 0, "INDENT": 1, "DEDENT": -1}[token])
        else:
            words.append(token)
    yield depth, words


def _brace_lines(tokens: list[str]) -> Iterator[tuple[int, list[str]]]:
    words: list[str] = []
    brackets: list[str] = []  # what is open: ( [ of expressions, { of blocks, = of initialisers
    for token, following in itertools.zip_longest(tokens, tokens[1:], fillvalue=""):
        depth = brackets.count("{")
        if token == "NEW_LINE":
            if words:
                yield depth, words
            words = []
            continue
        if token == "}" and brackets[-1:] == ["{"]:
            if words:
                yield depth, words
                words = []
            depth -= 1
        ends_block = token == "}" and brackets[-1:] == ["{"]
        if token in (")", "]", "}") and brackets:
            brackets.pop()
        if token in OPENING:
            brackets.append(token)
        elif token == "{":
            before = words[-1] if words else ""
            brackets.append("=" if before in INLINE_BRACE_AFTER or brackets[-1:] == ["="] else "{")
        words.append(token)
        is_end = token == ";" and brackets[-1:] in ([], ["{"]) or token == "{" and brackets[-1] == "{"
        if is_end or (ends_block and following not in STAYS_BEHIND_BRACE):
            yield depth, words
            words = []
    if words:
        yield brackets.count("{"), words


def _joined(words: list[str], language: str) -> str:
    tight = {"::"} | ({"."} if language != "PHP" else set())
    tight |= {"->"} if language in ("C", "C++", "PHP") else set()
    text = words[0]
    for earlier, before, word in zip(["", *words], words, words[1:], strict=False):
        is_glued = (
            word in CLOSING
            or before in OPENING
            or (word in OPENING and _ends_operand(before, literals=False))
            or word in tight
            or before in tight
            or (word == ":" and language == "Python")
            or (word in STEPS and WORD.match(before))
            or (before in STEPS and WORD.match(word))
            or (before in SIGNS and not _ends_operand(earlier) and not word.startswith(before))
        )
        if (word == "." or before == ".") and (before.isdigit() or word.isdigit()):
            is_glued = False
        text += word if is_glued else f" {word}"
    return text


def _ends_operand(word: str, literals: bool = True) -> bool:
    """Whether a `(` behind the word calls it, or a `-` subtracts from it."""
    if literals and word[:1] in QUOTES:
        return True
    return word in (")", "]") or (WORD.match(word) is not None and word not in KEYWORDS)
