"""Text that grows by bytes: whole characters only, and nothing that may yet be cut away.

Covers: characters whose bytes lie in several tokens; bytes that are not UTF-8 (U+FFFD, as `bytes.decode` does with
"replace"); holding back what may be the beginning of a stop. Does not cover: characters made of several code points.
"""

import codecs

from mindgeex.model_zoo.decoding.stops import Stop


class GrowingText:
    """One continuation: bytes go in, the characters that are sure to stay come out, each once."""

    def __init__(self, stop: Stop | None):
        self.ended = False
        """A stop was found; nothing more is to be fed."""
        self._watcher = stop.watch() if stop else None
        self._bytes = b""
        """The beginning of a character."""
        self._held = ""
        self._shown = 0
        """Characters that came out."""

    def feed(self, new: bytes) -> str:
        """The bytes of the next token -> the characters that are now sure to stay."""
        return self._advance(new, last=False)

    def finish(self, *, whole: bool) -> str:
        """What is still held back.

        Args:
            whole: the text ends here by itself, so that an unfinished character is an error in it (U+FFFD); if it was
                only cut off, that character is left out.
        """
        rest = "" if self.ended else self._advance(b"", last=whole)
        rest, self._held = rest + self._held, ""
        return rest

    def copy(self) -> "GrowingText":
        """One that goes on from here by itself."""
        copied = GrowingText(None)
        copied.__dict__.update(self.__dict__)
        copied._watcher = self._watcher.copy() if self._watcher else None
        return copied

    def _advance(self, new: bytes, last: bool) -> str:
        characters, used = codecs.utf_8_decode(self._bytes + new, "replace", last)
        self._bytes = (self._bytes + new)[used:]
        pending, self._held = self._held + characters, ""
        keep = len(pending)
        if self._watcher:
            for letter in characters:
                end = self._watcher.feed(letter)
                if end is not None:
                    self.ended = True
                    return self._show(pending[: end - self._shown])
            keep -= self._watcher.held
        self._held = pending[keep:]
        return self._show(pending[:keep])

    def _show(self, characters: str) -> str:
        self._shown += len(characters)
        return characters
