"""Bytes to text, for files, members of archives and rows alike.

Covers: UTF-8 with or without a byte order mark, UTF-16 and UTF-32 with one, names in any bytes.
Does not cover: other encodings (never guessed: a wrong guess is worse than a drop).
"""

import codecs
import os

READ_LIMIT_BYTES = 16 << 20
"""A larger file is dropped as `too_large` without being read into memory, whatever the size rule says."""

_MARKS = (  # the longer first: UTF-32's mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def decode(raw: bytes) -> str | None:
    """The text without its byte order mark, line ends untouched; None for what is not text, NUL included."""
    mark, encoding = next(((mark, name) for mark, name in _MARKS if raw.startswith(mark)), (b"", "utf-8"))
    try:
        text = raw[len(mark) :].decode(encoding) if mark else raw.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def printable(path: str) -> str:
    """The path as valid Unicode: bytes of a file name that are not UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace") if not path.isascii() else path
