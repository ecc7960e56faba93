"""Text to ids and back: byte-level BPE with CodeGeeX's whitespace tokens, or SentencePiece.

A tokenizer is a folder: `vocab.json`, `merges.txt` and `added_tokens.json` (byte_bpe.py), or `tokenizer.model`
(sentence_pieces.py). Both keep any text exactly.

Covers: telling the two apart, loading, training. Does not cover: tokenizer.json, tokenizers that normalise.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.data.tokenizers import byte_bpe, sentence_pieces, words
from mindgeex.data.tokenizers.words import EOD

__all__ = [
    "EOD", "WRITTEN", "Kind", "Tokenizer", "check_vocab_size", "fingerprint", "load_tokenizer", "train_tokenizer",
]  # fmt: skip

Kind = Literal["bpe", "sentencepiece"]
WRITTEN = (*byte_bpe.DECIDING, byte_bpe.ABOUT, sentence_pieces.MODEL)
"""All that `train_tokenizer` may put into its folder."""
_TRAINABLE = {"bpe": byte_bpe, "sentencepiece": sentence_pieces}


class Tokenizer(Protocol):
    """What every tokenizer can do; words.py says it in full."""

    folder: Path
    eod_id: int
    vocab_size: int
    """Ids are below this."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the files that decide the ids, in hexadecimal."""

    def files(self) -> tuple[str, ...]:
        """The names of the files in `folder` that make it up."""

    def special_id(self, name: str) -> int | None:
        """The id of a special token, one that no text gives; None if there is none of this name."""

    def encode_array(self, text: str, *, eod_in_text: bool = True) -> np.ndarray:
        """The ids of a text, int32; a corpus is encoded with `eod_in_text=False`."""

    def encode(self, text: str, *, eod_in_text: bool = True) -> list[int]:
        """The ids of a text."""

    def encode_batch(self, texts: Sequence[str], *, eod_in_text: bool = True) -> list[list[int]]:
        """`encode` of each text."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text, with the names of special tokens, and U+FFFD for bytes that are not UTF-8."""

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the text; special tokens give none."""

    def token_bytes(self, id: int) -> bytes:
        """The bytes one id stands for."""


def load_tokenizer(folder: Path) -> Tokenizer:
    """Reads a tokenizer's folder; its files tell its kind.

    Raises:
        UserError: a file is missing or is not what it should be, by name.
    """
    return _kind_of(folder).load(folder)


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, folder: Path, kind: Kind = "bpe", special: Sequence[str] = ()
) -> Tokenizer:
    """Trains a tokenizer and writes its folder. Deterministic: equal texts in the same order give equal files.

    Args:
        texts: what to learn from. Byte-level BPE streams them; SentencePiece holds them in memory and refuses more than
            `sentence_pieces.MAX_BYTES`.
        vocab_size: all tokens. Texts with too few different pairs give a smaller vocabulary; see the result's.
        folder: where to write; replaced if there.
        kind: which of the two.
        special: names of further tokens that no text gives, such as those of fim.py.

    Raises:
        UserError: vocab_size is too small, a special name is taken, or the texts cannot be learnt from.
    """
    check_vocab_size(vocab_size, kind, special)
    _TRAINABLE[kind].train(texts, vocab_size, folder, special)
    return load_tokenizer(folder)


def check_vocab_size(vocab_size: int, kind: Kind = "bpe", special: Sequence[str] = ()) -> None:
    """Raises UserError if a tokenizer to train would have no room for a merge, or a special name is taken."""
    taken = {EOD, "<unk>", *byte_bpe.RUNS}
    for index, name in enumerate(special):
        if not name or name in taken or name in special[:index]:
            raise UserError(f"special token {name!r}: is empty, taken or named twice: choose another name")
    smallest = _TRAINABLE[kind].smallest(special)
    if vocab_size < smallest:
        raise UserError(
            f"vocab_size={vocab_size} is too small: bytes and special tokens take {smallest - 1}; 4096 is usual"
        )


def fingerprint(folder: Path) -> str:
    """SHA-256 over the files that decide the ids, in hexadecimal, without loading them.

    Raises:
        UserError: the folder is no tokenizer.
    """
    return words.fingerprint(folder, _kind_of(folder).deciding(folder))


def _kind_of(folder: Path) -> ModuleType:
    is_bpe, is_pieces = (folder / byte_bpe.DECIDING[0]).is_file(), (folder / sentence_pieces.MODEL).is_file()
    if is_bpe and is_pieces:
        raise UserError(f"{folder}: holds both {byte_bpe.DECIDING[0]} and {sentence_pieces.MODEL}: remove one")
    if not is_pieces and not any((folder / name).is_file() for name in byte_bpe.DECIDING[:2]):
        raise UserError(
            f"{folder}: no vocab.json, no tokenizer.model: a tokenizer is a folder with vocab.json and merges.txt, "
            "or with tokenizer.model"
        )
    return sentence_pieces if is_pieces else byte_bpe
