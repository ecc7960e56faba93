"""What every tokenizer here does alike: a text is cut into words, and a word's ids are looked up before they are made.

Source code repeats its words: after a few megabytes, more than nine in ten are known. The ids of a word are kept as the
bytes of an int32 array, so that a document's ids are one `join`, with no Python object a token.

Covers: encoding by words, decoding by a table. Does not cover: which words there are, and the ids of a new one; a
tokenizer says these (byte_bpe.py, sentence_pieces.py).
"""

import hashlib
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mindgeex.common.files import sha256_file

EOD = "<|endoftext|>"
KNOWN_WORDS = 1 << 18
"""Words remembered; with their ids, about 50 MB. When they are so many, it begins anew."""
KNOWN_CHARS = 64
"""Longer words are not remembered."""


class WordTokenizer:
    """A tokenizer whose words are found by a regular expression; one word's ids do not depend on its neighbours."""

    def __init__(
        self,
        folder: Path,
        word: re.Pattern[str],
        encode_word: Callable[[str], Sequence[int]],
        table: list[bytes],
        special: Mapping[str, int],
        eod_id: int,
        deciding: tuple[str, ...],
    ):
        """Used by the tokenizers' loaders.

        Args:
            folder: where its files are.
            word: matches every character of any text that `_encode` gives it, in words.
            encode_word: the ids of one word.
            table: the bytes of every id; none where the vocabulary leaves an id out.
            special: the ids that no text gives.
            eod_id: one of them, the end of a document.
            deciding: names of the files that decide the ids.
        """
        self.folder, self.eod_id, self._deciding = folder, eod_id, deciding
        self.vocab_size = len(table)
        """Ids are below this."""
        self._find, self._known = word.findall, _Known(encode_word)
        self._bytes, self._special = table, dict(special)
        self._names = {id: name.encode("utf-8") for name, id in special.items()}
        self._eod = array("i", [eod_id]).tobytes()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the files that decide the ids, in hexadecimal."""
        return fingerprint(self.folder, self._deciding)

    def files(self) -> tuple[str, ...]:
        """The names of the files in `folder` that make it up."""
        return self._deciding

    def special_id(self, name: str) -> int | None:
        """The id of a special token, one that no text gives; None if there is none of this name."""
        return self._special.get(name)

    def encode_array(self, text: str, *, eod_in_text: bool = True) -> np.ndarray:
        """The ids of a text, int32.

        Args:
            text: any text.
            eod_in_text: `<|endoftext|>` in the text means EOD, as in CodeGeeX's tokenizer. A corpus is encoded with
                False: then it is thirteen ordinary characters, and no file can end itself early. Other special
                tokens that a text spells are always ordinary characters.
        """
        parts = text.split(EOD) if eod_in_text else [text]
        return np.frombuffer(bytearray(self._eod).join(map(self._encode, parts)), np.int32)

    def encode(self, text: str, *, eod_in_text: bool = True) -> list[int]:
        """`encode_array` as a list."""
        ids: list[int] = self.encode_array(text, eod_in_text=eod_in_text).tolist()
        return ids

    def encode_batch(self, texts: Sequence[str], *, eod_in_text: bool = True) -> list[list[int]]:
        """`encode` of each text."""
        return [self.encode(text, eod_in_text=eod_in_text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text; special tokens are shown by their names, and bytes that are not UTF-8 as U+FFFD.

        Raises:
            ValueError: an id is not below vocab_size.
        """
        return b"".join(self._names.get(id) or self.token_bytes(id) for id in ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the text; special tokens give none.

        Raises:
            ValueError: an id is not below vocab_size.
        """
        return b"".join(map(self.token_bytes, ids))

    def token_bytes(self, id: int) -> bytes:
        """The bytes one id stands for; none for a special token and for an id the vocabulary leaves out.

        Raises:
            ValueError: the id is not below vocab_size.
        """
        if not 0 <= id < self.vocab_size:
            raise ValueError(f"token id {id} is not in 0..{self.vocab_size - 1}")
        return self._bytes[id]

    def _encode(self, text: str) -> bytes:
        """The ids of a text without EOD, as the bytes of an int32 array."""
        return b"".join(map(self._known.__getitem__, self._find(text)))


class _Known(dict[str, bytes]):
    """Word -> its ids, as the bytes of an int32 array; makes what it does not know."""

    def __init__(self, encode_word: Callable[[str], Sequence[int]]):
        super().__init__()
        self._encode_word = encode_word

    def __missing__(self, word: str) -> bytes:
        ids = array("i", self._encode_word(word)).tobytes()
        if len(word) <= KNOWN_CHARS:
            if len(self) >= KNOWN_WORDS:
                self.clear()
            self[word] = ids
        return ids


def fingerprint(folder: Path, names: Iterable[str]) -> str:
    """SHA-256 over these files of a folder, in hexadecimal."""
    lines = [f"{name} {sha256_file(folder / name)}" for name in names]
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()
