"""What goes into decoding and what comes out: a tokenizer, and a continuation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

EndedBy = Literal["eod", "stop", "length"]


class TokenizerLike(Protocol):
    """What decoding needs of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Ids are below this; the model may have more rows, which are never chosen."""

    @property
    def eod_id(self) -> int:
        """The id that ends a document."""

    def encode(self, text: str) -> list[int]:
        """Text to ids."""

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Ids to the bytes of their text; a token may hold a part of a character."""


@dataclass(frozen=True)
class Continuation:
    """What a prompt was continued with."""

    text: str
    """Without the prompt, the end of the document, and what a stop cuts away."""
    ids: tuple[int, ...]
    """All ids chosen, without the end of the document; those of what a stop cut away are among them."""
    ended_by: EndedBy
    """The model's end of document, a stop, or the length: max_new_tokens or the end of the window."""
    score: float | None = None
    """Beam search: the sum of the log-probabilities of ids and end of document / their number^length_penalty."""
