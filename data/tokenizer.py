"""Byte-level BPE with CodeGeeX's whitespace tokens: encode, decode, and training a new one.

A tokenizer is a folder in GPT-2's format: `vocab.json` (token -> id), `merges.txt` (in order), and `added_tokens.json`
with `<|extratoken_10|>` ... `<|extratoken_18|>`, which stand for runs of 2 to 10 blanks; longer runs are cut into tens
from the left, and a single blank stays with the word behind it. Without those tokens the folder is plain GPT-2.

Covers: ids equal to CodeGeeX's tokenizer; decoding bytes that are not UTF-8; text that spells a special token.
Does not cover: SentencePiece, other pre-tokenizers, normalisation.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.common.files import atomic_folder, read_json, sha256_file

EOD = "<|endoftext|>"
FILES = ("vocab.json", "merges.txt", "added_tokens.json")
WRITTEN = (*FILES, "tokenizer_config.json")
"""All that `train_tokenizer` puts into its folder; the last one is for other programs."""
RUNS = {f"<|extratoken_{8 + length}|>": length for length in range(2, 11)}
"""Name of a whitespace token -> how many blanks it stands for (CodeGeeX codegeex/tokenizer/tokenizer.py)."""

WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"
GPT2_PATTERN = rf"{WORDS}|\s+(?!\S)|\s+"
BLANK = r"(?:[^\S ]| (?! ))"
RUN_PATTERN = rf" {{2,10}}|{WORDS}|{BLANK}+(?!\S)|\s"
"""GPT-2's pattern after runs of blanks have been taken out: other white space never takes two blanks in a row. The runs
are matched here, not as tiktoken's special tokens, because those are tried in no fixed order and a run of ten can match
as five of two."""


class Tokenizer:
    """Made by `load_tokenizer`."""

    def __init__(self, folder: Path, ranks: dict[bytes, int], named: dict[str, int], has_runs: bool):
        import tiktoken

        self.folder = folder
        self.eod_id = named[EOD]
        self.vocab_size = 1 + max(*ranks.values(), *named.values())
        """Ids are below this."""
        self._bytes = [b""] * self.vocab_size
        for token, id in ranks.items():
            self._bytes[id] = token
        for name, id in named.items():
            if name not in RUNS:
                self._bytes[id] = name.encode("utf-8")
        pattern = RUN_PATTERN if has_runs else GPT2_PATTERN
        # Possessive quantifiers match the same and keep long lines linear.
        fast = pattern.replace("+|", "++|")
        self._bpe = tiktoken.Encoding(str(folder), pat_str=fast, mergeable_ranks=ranks, special_tokens={})

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the tokenizer's files, in hexadecimal."""
        return fingerprint(self.folder)

    def encode(self, text: str, *, eod_in_text: bool = True) -> list[int]:
        """The ids of a text.

        Args:
            text: any text.
            eod_in_text: `<|endoftext|>` in the text means EOD, as in CodeGeeX's tokenizer. A corpus is encoded with
                False: then it is thirteen ordinary characters, and no file can end itself early. Other special
                tokens that a text spells are always ordinary characters.
        """
        if not eod_in_text or EOD not in text:
            return self._bpe.encode_ordinary(text)
        first, *others = text.split(EOD)
        ids = self._bpe.encode_ordinary(first)
        for part in others:
            ids += [self.eod_id, *self._bpe.encode_ordinary(part)]
        return ids

    def encode_batch(self, texts: Sequence[str], *, eod_in_text: bool = True) -> list[list[int]]:
        """`encode` of each text."""
        return [self.encode(text, eod_in_text=eod_in_text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text; EOD is shown as `<|endoftext|>`, and bytes that are not UTF-8 as U+FFFD.

        Raises:
            ValueError: an id is not below vocab_size.
        """
        return b"".join(self._lookup(id) for id in ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the text; EOD gives none."""
        return b"".join(self.token_bytes(id) for id in ids)

    def token_bytes(self, id: int) -> bytes:
        """The bytes one id stands for; none for EOD and for an id the vocabulary leaves out."""
        return b"" if id == self.eod_id else self._lookup(id)

    def _lookup(self, id: int) -> bytes:
        if not 0 <= id < self.vocab_size:
            raise ValueError(f"token id {id} is not in 0..{self.vocab_size - 1}")
        return self._bytes[id]


def load_tokenizer(folder: Path) -> Tokenizer:
    """Reads a tokenizer's folder.

    Raises:
        UserError: a file is missing or is not what it should be, by name.
    """
    for name in FILES[:2]:
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no {name}: a tokenizer is a folder with vocab.json and merges.txt")
    vocab = _string_to_id(folder / "vocab.json")
    added = _string_to_id(folder / "added_tokens.json") if (folder / "added_tokens.json").is_file() else {}
    named = {**({EOD: vocab[EOD]} if EOD in vocab else {}), **added}
    if EOD not in named:
        raise UserError(f"{folder}: {EOD} is in neither vocab.json nor added_tokens.json: add it")
    missing = [name for name in RUNS if name not in added]
    if missing and len(missing) < len(RUNS):
        raise UserError(f"{folder}/added_tokens.json: whitespace token {missing[0]} is missing: have all nine or none")
    ranks = {token: id for name, id in vocab.items() if name != EOD for token in [_to_bytes(name, folder)]}
    _check_merges(folder, vocab, ranks)
    if not missing:
        # A vocabulary may hold runs of blanks of its own; the whitespace tokens go first, so they never occur.
        ranks.update({b" " * length: added[name] for name, length in RUNS.items()})
    return Tokenizer(folder, ranks, named, has_runs=not missing)


def train_tokenizer(texts: Iterable[str], vocab_size: int, folder: Path) -> Tokenizer:
    """Trains a byte-level BPE with CodeGeeX's whitespace tokens and EOD, and writes its folder. Deterministic.

    Args:
        texts: what to learn from.
        vocab_size: all tokens: 256 bytes, the merges, EOD, nine whitespace tokens. Texts with too few different
            pairs give a smaller vocabulary.
        folder: where to write; replaced if there.

    Raises:
        UserError: vocab_size leaves no room for a merge.
    """
    import tokenizers
    from tokenizers import pre_tokenizers, trainers

    check_vocab_size(vocab_size)
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(" {2,10}"), "removed"),
        pre_tokenizers.Split(tokenizers.Regex(GPT2_PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1 - len(RUNS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    with atomic_folder(folder) as partial:
        model = json.loads(bpe.to_str())["model"]
        vocab = {**model["vocab"], EOD: len(model["vocab"])}
        added = {name: vocab[EOD] + 1 + index for index, name in enumerate(RUNS)}
        merges = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
        (partial / "merges.txt").write_text("\n".join(merges) + "\n", encoding="utf-8")
        _dump(partial / "vocab.json", vocab)
        _dump(partial / "added_tokens.json", added)
        about = {
            "tokenizer_class": "GPT2Tokenizer",
            "add_prefix_space": False,
            "errors": "replace",
            **dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), EOD),
            "vocab_size": len(vocab) + len(added),
            "whitespace_tokens": {name: " " * length for name, length in RUNS.items()},
        }
        (partial / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return load_tokenizer(folder)


def check_vocab_size(vocab_size: int) -> None:
    """Raises UserError if a tokenizer to train would have no room for a merge."""
    smallest = 256 + 1 + 1 + len(RUNS)
    if vocab_size < smallest:
        raise UserError(
            f"vocab_size={vocab_size} is too small: bytes, EOD and whitespace take {smallest - 1}; 4096 is usual"
        )


def fingerprint(folder: Path) -> str:
    """SHA-256 over the files that decide the ids, in hexadecimal."""
    lines = [f"{name} {sha256_file(folder / name)}" for name in FILES if (folder / name).is_file()]
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()


def _alphabet() -> dict[str, int]:
    """GPT-2's one character a byte: printable Latin-1 is itself, the others follow from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + i): byte for i, byte in enumerate(others)}}


_BYTE_OF = _alphabet()


def _to_bytes(token: str, folder: Path) -> bytes:
    try:
        return bytes(map(_BYTE_OF.__getitem__, token))
    except KeyError as error:
        raise UserError(f"{folder}/vocab.json: token {token!r} has {error}, no byte of GPT-2's alphabet") from None


def _string_to_id(path: Path) -> dict[str, int]:
    value: Any = read_json(path)
    if not isinstance(value, dict) or not all(isinstance(id, int) and id >= 0 for id in value.values()):
        raise UserError(f"{path}: expected a mapping of tokens to ids")
    return value


def _check_merges(folder: Path, vocab: dict[str, int], ranks: dict[bytes, int]) -> None:
    """Checks the order: tiktoken merges in the order of ids, so the ids must be in the order of the merges."""
    if len(set(ranks.values())) < len(vocab) - (EOD in vocab) or any(bytes([byte]) not in ranks for byte in range(256)):
        raise UserError(f"{folder}/vocab.json: needs all 256 single bytes and no id twice")
    try:
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder}/merges.txt: cannot be read: {error}") from None
    merged = dict.fromkeys(line.replace(" ", "") for line in lines if line.count(" ") == 1 and line[0:9] != "#version:")
    ids = [vocab.get(token, -1) for token in merged]
    if ids != sorted(ids) or -1 in ids or len(ids) != len(ranks) - 256:
        raise UserError(
            f"{folder}: vocab.json and merges.txt do not belong together: ids must follow the order of merges"
        )


def _dump(path: Path, value: dict[str, int]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
