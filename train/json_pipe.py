"""JSON values, a line each, over a pair of pipes, without ever waiting for the other side.

Covers: a reader that has stopped reading, a writer that is gone, lines that are no JSON, such as a login's greeting.
Does not cover: values that must not be lost when the other side dies.
"""

import contextlib
import json
import os
from typing import Any

PIECE_BYTES = 1 << 16


class JsonPipe:
    """Both directions of a conversation; `preface` is sent as it is before the first value."""

    def __init__(self, incoming: int, outgoing: int, preface: bytes = b""):
        self.incoming, self.outgoing = incoming, outgoing
        os.set_blocking(incoming, False)
        os.set_blocking(outgoing, False)
        self.received, self.unsent = b"", preface
        self.is_over = False
        """Whether the other side has hung up."""
        self.flush()

    def send(self, value: Any) -> None:
        """Sends it as soon as the other side takes it."""
        self.unsent += json.dumps(value).encode() + b"\n"
        self.flush()

    def flush(self) -> bool:
        """Sends what it can; whether nothing is left."""
        try:
            while self.unsent and not self.is_over:
                self.unsent = self.unsent[os.write(self.outgoing, self.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.is_over = True
        return not self.unsent

    def receive(self) -> list[dict[str, Any]]:
        """The objects that have come since."""
        try:
            while piece := os.read(self.incoming, PIECE_BYTES):
                self.received += piece
            self.is_over = True
        except BlockingIOError:
            pass
        except OSError:
            self.is_over = True
        *lines, self.received = self.received.split(b"\n")
        values = []
        for line in lines:
            with contextlib.suppress(ValueError):
                values.append(json.loads(line))
        return [value for value in values if isinstance(value, dict)]
