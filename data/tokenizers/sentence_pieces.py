"""SentencePiece: loading `tokenizer.model`, and training a new one that keeps every text exactly.

Trained here: BPE with bytes to fall back on, no normalisation, no blank in front, runs of blanks kept, line ends and
tabs as ordinary characters, digits one by one, pieces of one script. `<unk>` is 0, EOD is 1, both special: text that
spells them is ordinary. SentencePiece writes a blank as U+2581, so a U+2581 in a text is encoded as its three bytes.

SentencePiece has no words of its own. As no piece crosses certain borders (`CROSSING`), a text may be cut there and
gives the same ids; a model that has such pieces gets every text whole.

Covers: models of others that keep every text, too; others are refused. Does not cover: normalisation, sampling.
"""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.common.files import atomic_folder
from mindgeex.data.tokenizers.words import EOD, WordTokenizer

MODEL = "tokenizer.model"
MAX_BYTES = 1 << 28
"""Of text to train on: SentencePiece holds all of it in memory."""
CHUNK_CHARS = 4096
"""A text is given to the trainer in pieces that end at a line end, if there is one; it would pass over longer ones."""
CHUNK = re.compile(rf"(?s).{{1,{CHUNK_CHARS}}}(?=\n)|.{{1,{CHUNK_CHARS}}}")
COVERAGE = 0.9995
"""Characters that make up this share of the text become pieces; the others are spelt in bytes."""

BLANK = "\u2581"
REQUIRED = f"\n\t\r{BLANK}"
"""Pieces even if the text has none: without its own piece, a blank would be spelt as the bytes of U+2581."""
OTHER = r"\x80-\U0010ffff"
WORD = re.compile(
    rf" *(?:[A-Za-z]++(?![{OTHER}])|[0-9]|[^A-Za-z0-9 {OTHER}]++(?![{OTHER}])|[^0-9 ]+)| +"
)  # fmt: skip
"""Blanks belong to what follows. ASCII letters, digits and signs are parted, except beside other characters."""
WHOLE = re.compile(r"(?s:.+)")
CROSSING = re.compile(rf"(?s)[^ ] |[^ ][0-9]|[0-9].|[A-Za-z][^A-Za-z{OTHER}]|[^A-Za-z {OTHER}][A-Za-z]")
"""Two characters that stand in two words."""
PROBE = "  a\n\t b \r\n\n    Ａﬁe\u0301\ufeff\u3000变量🎉\x00 "
"""What normalisation, or a vocabulary without bytes, would change."""


class SentencePieces(WordTokenizer):
    """Made by `load`."""

    def __init__(self, folder: Path, processor: Any):
        self._processor = processor
        ids = list(range(processor.vocab_size()))
        names = processor.id_to_piece(ids)
        is_byte = processor.is_byte(ids)
        special = {names[id]: id for id in ids if processor.is_control(id) or processor.is_unknown(id)}
        eod_id = special.get(EOD, processor.eos_id())
        if eod_id < 0:
            raise UserError(f"{folder}/{MODEL}: has neither {EOD} nor an end of sentence: nothing could end a document")
        pieces = {id: names[id].replace(BLANK, " ") for id in ids if not is_byte[id] and names[id] not in special}
        table = [bytes([int(names[id][1:-1], 16)]) if is_byte[id] else pieces.get(id, "").encode("utf-8") for id in ids]
        word = WHOLE if any(map(CROSSING.search, pieces.values())) else WORD
        self._blank_ids = processor.piece_to_id([f"<0x{byte:02X}>" for byte in BLANK.encode("utf-8")])
        super().__init__(folder, word, self._encode_word, table, special, eod_id, deciding(folder))

    def _encode_word(self, word: str) -> list[int]:
        first, *others = word.split(BLANK)
        ids: list[int] = self._processor.encode(first)
        for part in others:
            ids += [*self._blank_ids, *self._processor.encode(part)]
        return ids


def deciding(folder: Path) -> tuple[str, ...]:
    """The names of the files that decide the ids."""
    return (MODEL,)


def load(folder: Path) -> SentencePieces:
    """Reads a tokenizer's folder.

    Raises:
        UserError: the model cannot be read, has no end of document, or would change texts.
    """
    import sentencepiece

    path = folder / MODEL
    try:
        model = path.read_bytes()
        if not model:
            raise RuntimeError("it is empty")
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be read as a SentencePiece model: {error}") from None
    tokenizer = SentencePieces(folder, processor)
    if tokenizer.decode_bytes(tokenizer.encode(PROBE)) != PROBE.encode("utf-8"):
        raise UserError(
            f"{path}: does not keep texts exactly (it normalises, puts a blank in front, or has no bytes to fall back "
            "on): take another model, or make one with `mindgeex tokenizer train --kind sentencepiece`"
        )
    return tokenizer


def smallest(special: Sequence[str]) -> int:
    """The smallest vocabulary: bytes, `<unk>`, EOD, the required characters, special tokens, one piece."""
    return 256 + 2 + len(REQUIRED) + len(special) + 1


def train(texts: Iterable[str], vocab_size: int, folder: Path, special: Sequence[str]) -> None:
    """Trains on the texts and writes the folder.

    Args:
        texts: what to learn from, `MAX_BYTES` at most: all of it is held in memory.
        vocab_size: all tokens: 256 bytes, `<unk>`, EOD, the special ones, the pieces. Texts with too few different
            pairs give a smaller vocabulary.
        folder: where to write; replaced if there.
        special: names of further control symbols, which get the ids from 2 on.

    Raises:
        UserError: nothing or too much to learn from, or more different characters than vocab_size has room for.
    """
    import sentencepiece

    model, feed = io.BytesIO(), _Feed(texts)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=feed,
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            byte_fallback=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            character_coverage=COVERAGE,
            required_chars=REQUIRED,
            control_symbols=list(special),
            unk_id=0,
            eos_id=1,
            bos_id=-1,
            pad_id=-1,
            eos_piece=EOD,
            max_sentence_length=4 * CHUNK_CHARS,
            num_threads=1,  # it is written into the model
            minloglevel=2,
        )
    except RuntimeError as error:
        raise feed.failure or _explained(str(error), vocab_size) from None
    with atomic_folder(folder) as partial:
        (partial / MODEL).write_bytes(model.getvalue())


class _Feed(Iterator[str]):
    """The chunks of the texts. Keeps the exception that ended them: SentencePiece makes a RuntimeError of any."""

    def __init__(self, texts: Iterable[str]):
        self._chunks = _chunks(texts)
        self.failure: BaseException | None = None

    def __next__(self) -> str:
        try:
            return next(self._chunks)
        except StopIteration:
            raise
        except BaseException as error:
            self.failure = error
            raise


def _chunks(texts: Iterable[str]) -> Iterator[str]:
    """The texts in pieces. NUL and U+2581, which the trainer does not take, are left out or are blanks."""
    total = 0
    for text in texts:
        total += len(text.encode("utf-8", "replace"))
        if total > MAX_BYTES:
            raise UserError(
                f"more than {MAX_BYTES / 1e6:.0f} MB to learn from, and SentencePiece holds all of it in memory: "
                "give it a sample (--max-bytes), or train a byte-level BPE (--kind bpe)"
            )
        yield from CHUNK.findall(text.replace("\0", "").replace(BLANK, " "))


def _explained(message: str, vocab_size: int) -> Exception:
    """SentencePiece's errors as those that a user can put right; others as they are."""
    if "sentences_.empty()" in message:
        return UserError("nothing to learn from: the texts are empty: give a larger corpus, or a larger --max-bytes")
    if needed := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return UserError(
            f"vocab_size={vocab_size} is too small for the characters of this text: take at least "
            f"{int(needed[1]) + 1}, or train a byte-level BPE (--kind bpe)"
        )
    return RuntimeError(message)
