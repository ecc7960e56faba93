"""Byte-level BPE with CodeGeeX's whitespace tokens: loading a folder, and training a new one.

A folder in GPT-2's format: `vocab.json` (token -> id), `merges.txt` (in order), and `added_tokens.json` with special
tokens and `<|extratoken_10|>` ... `<|extratoken_18|>`, which stand for runs of 2 to 10 blanks; longer runs are cut into
tens from the left, and a single blank stays with the word behind it. Without those nine the folder is plain GPT-2.

Covers: ids equal to CodeGeeX's tokenizer; bytes that are not UTF-8; text that spells a special token.
Does not cover: other pre-tokenizers, normalisation.
"""

import itertools
import json
import re
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.common.files import atomic_folder, read_json
from mindgeex.data.tokenizers.words import EOD, WordTokenizer

DECIDING = ("vocab.json", "merges.txt", "added_tokens.json")
"""The files that decide the ids; the last one may be absent."""
ABOUT = "tokenizer_config.json"
"""For other programs."""
RUNS = {f"<|extratoken_{8 + length}|>": length for length in range(2, 11)}
"""Name of a whitespace token -> how many blanks it stands for (CodeGeeX codegeex/tokenizer/tokenizer.py)."""

WORDS = r"'(?:[sdmt]|ll|ve|re)| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+"
GPT2_PATTERN = rf"{WORDS}|\s+(?!\S)|\s+"
BLANK = r"(?:[^\S ]| (?! ))"
RUN_PATTERN = rf" {{2,10}}|{WORDS}|{BLANK}+(?!\S)|\s"
"""GPT-2's pattern after runs of blanks have been taken out: other white space never takes two blanks in a row. The runs
are matched here, not as tiktoken's special tokens, because those are tried in no fixed order and a run of ten can match
as five of two."""
CUT = re.compile(r"(?<=[!-~])(?=\n)")
"""Between a line and its line end, always a border of words: there ASCII and other lines may be parted."""


class ByteBPE(WordTokenizer):
    """Made by `load`."""

    def __init__(self, folder: Path, ranks: dict[bytes, int], named: dict[str, int], has_runs: bool):
        import tiktoken

        special = {name: id for name, id in named.items() if name not in RUNS or not has_runs}
        table = [b""] * (1 + max(*ranks.values(), *named.values()))
        for token, id in ranks.items():
            table[id] = token
        # Possessive quantifiers match the same and keep long lines linear.
        pattern = (RUN_PATTERN if has_runs else GPT2_PATTERN).replace("+|", "++|")
        bpe = tiktoken.Encoding(str(folder), pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        self._encode_any = bpe.encode_ordinary
        word = ascii_words(pattern)
        super().__init__(folder, word, bpe.encode_ordinary, table, special, named[EOD], deciding(folder))

    def files(self) -> tuple[str, ...]:
        """The names of the files in `folder` that make it up, with what other programs read."""
        return (*super().files(), *((ABOUT,) if (self.folder / ABOUT).is_file() else ()))

    def _encode(self, text: str) -> bytes:
        """`re` finds the words of ASCII lines; the others are left to tiktoken, which knows all letters."""
        if text.isascii():
            return super()._encode(text)
        runs = itertools.groupby(CUT.split(text), str.isascii)
        return b"".join(
            super(ByteBPE, self)._encode("".join(lines)) if plain else self._encode_other("".join(lines))
            for plain, lines in runs
        )

    def _encode_other(self, text: str) -> bytes:
        return array("i", self._encode_any(text)).tobytes()


def ascii_words(pattern: str) -> re.Pattern[str]:
    """The pattern for `re`, which has no Unicode classes; right for ASCII text."""
    return re.compile(pattern.replace(r"\p{L}", "A-Za-z").replace(r"\p{N}", "0-9"), re.ASCII)


def deciding(folder: Path) -> tuple[str, ...]:
    """The names of the files that decide the ids."""
    return tuple(name for name in DECIDING if (folder / name).is_file())


def load(folder: Path) -> ByteBPE:
    """Reads a tokenizer's folder.

    Raises:
        UserError: a file is missing or is not what it should be, by name.
    """
    for name in DECIDING[:2]:
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no {name}: a byte-level BPE is a folder with vocab.json and merges.txt")
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
    return ByteBPE(folder, ranks, named, has_runs=not missing)


def smallest(special: Sequence[str]) -> int:
    """The smallest vocabulary: bytes, EOD, whitespace, special tokens, one merge."""
    return 256 + 1 + len(RUNS) + len(special) + 1


def train(texts: Iterable[str], vocab_size: int, folder: Path, special: Sequence[str]) -> None:
    """Trains on the texts and writes the folder; streams, and holds each different word once.

    Args:
        texts: what to learn from.
        vocab_size: all tokens: 256 bytes, the merges, EOD, nine whitespace tokens, the special ones. Texts with too few
            different pairs give a smaller vocabulary.
        folder: where to write; replaced if there.
        special: names of further special tokens, which get the last ids.
    """
    import tokenizers
    from tokenizers import pre_tokenizers, trainers

    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(" {2,10}"), "removed"),
        pre_tokenizers.Split(tokenizers.Regex(GPT2_PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1 - len(RUNS) - len(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    with atomic_folder(folder) as partial:
        model = json.loads(bpe.to_str())["model"]
        vocab = {**model["vocab"], EOD: len(model["vocab"])}
        added = {name: len(vocab) + index for index, name in enumerate((*RUNS, *special))}
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
        (partial / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


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
