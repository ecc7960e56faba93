"""Encoding speed beside Hugging Face's GPT2TokenizerFast, on one core, one document at a time, with identical ids.

    python -m tests.benchmarks.tokenizer [FOLDER]

FOLDER holds vocab.json and merges.txt; without it, a vocabulary of 4,096 is trained first. The text is files of this
Python's standard library and packages. All encode the same documents in the same process, in turns. CodeGeeX encoded
with GPT2TokenizerFast, one document at a time; without transformers, the `tokenizers` below it takes its place.
SentencePiece is timed beside its own library, too.
"""

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mindgeex.data.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from tests.data.test_tokenizer import hugging_face

ROUNDS = 5
TEXT_BYTES = 8_000_000


def main() -> None:
    """Prints the rates and their ratios."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    texts = library_texts(TEXT_BYTES)
    with tempfile.TemporaryDirectory() as scratch:
        if len(sys.argv) > 1:
            ours = load_tokenizer(Path(sys.argv[1]))
        else:
            ours = train_tokenizer(texts, 4096, Path(scratch) / "tokenizer")
        compare(ours, texts, *peer_of(ours))
        pieces = train_tokenizer(texts, ours.vocab_size, Path(scratch) / "pieces", "sentencepiece")
        compare(pieces, texts, "sentencepiece", library_of(pieces))


def peer_of(ours: Tokenizer) -> tuple[str, Callable[[str], list[int]]]:
    """Name and encoder of what CodeGeeX used, with the same vocabulary."""
    reference = hugging_face(ours.folder)
    try:
        from transformers import GPT2TokenizerFast
    except ImportError:
        return "tokenizers (no transformers)", lambda text: list(reference.encode(text).ids)
    fast: Any = GPT2TokenizerFast(tokenizer_object=reference, model_max_length=1 << 40)
    return "GPT2TokenizerFast", lambda text: list(fast(text)["input_ids"])


def library_of(ours: Tokenizer) -> Callable[[str], list[int]]:
    """The library's own encoder, with the same model."""
    import sentencepiece

    encode: Callable[[str], list[int]] = sentencepiece.SentencePieceProcessor(
        model_file=str(ours.folder / "tokenizer.model")
    ).encode
    return encode


def compare(ours: Tokenizer, texts: Sequence[str], name: str, peer: Callable[[str], list[int]]) -> None:
    """Times both in alternating rounds, after checking that they agree; the first round remembers nothing yet."""
    size = sum(len(text.encode()) for text in texts)
    cold = seconds(ours.encode_array, texts)
    for text in texts:
        if ours.encode(text) != peer(text):
            raise SystemExit("the ids differ: no speed is worth measuring")
    rounds = [(seconds(ours.encode_array, texts), seconds(peer, texts)) for _ in range(ROUNDS)]
    rate = size / 1e6 / statistics.median(mine for mine, _ in rounds)
    peer_rate = size / 1e6 / statistics.median(theirs for _, theirs in rounds)
    ratios = sorted(theirs / mine for mine, theirs in rounds)
    print(f"{len(texts)} documents, {size / 1e6:.1f} MB, vocabulary {ours.vocab_size:,}, one core, {ROUNDS} rounds")
    print(f"{'mindgeex':<28} {rate:6.2f} MB/s ({size / 1e6 / cold:.2f} the first time)")
    print(f"{name:<28} {peer_rate:6.2f} MB/s")
    print(f"{'ratio':<28} {statistics.median(ratios):6.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")


def seconds(encode: Callable[[str], object], texts: Sequence[str]) -> float:
    """Processor time of encoding every text."""
    started = time.process_time()
    for text in texts:
        encode(text)
    return time.process_time() - started


def library_texts(limit_bytes: int) -> list[str]:
    """Files of the standard library and of installed packages, half of each, in the order of their paths."""
    texts = []
    for place in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")):
        total = 0
        for path in sorted(Path(place).glob("*/*.py")):
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            texts.append(text)
            total += len(text.encode())
            if total >= limit_bytes // 2:
                break
    return texts


if __name__ == "__main__":
    main()
