"""Exact duplicates: the first in source order stays.

Two files are the same if they differ only in line ends, blanks at line ends, and blank lines at the beginning and end.
Does not cover: near duplicates, or duplicates of an evaluation set.
"""

import hashlib


def digest(text: str) -> bytes:
    """SHA-256 of the normalised text, 32 bytes."""
    lines = (line.rstrip() for line in text.splitlines())
    return hashlib.sha256("\n".join(lines).strip("\n").encode("utf-8", "surrogatepass")).digest()


class Seen:
    """Remembers digests: 32 bytes and a set's overhead each, about 100 MB a million."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def is_new(self, value: bytes) -> bool:
        """True the first time a digest is asked for."""
        if value in self._digests:
            return False
        self._digests.add(value)
        return True
