"""Encoding speed beside Hugging Face's tokenizers, on one core, one document at a time, with identical ids.

    python -m tests.benchmarks.tokenizer [FOLDER]

FOLDER holds vocab.json and merges.txt; without it, a vocabulary of 4,096 is trained first. The text is the running
Python's standard library. Both encoders see the same documents in the same process, in turns.
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

from mindgeex.data.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from tests.data.test_tokenizer import hugging_face

ROUNDS = 5
TEXT_BYTES = 4_000_000


def main() -> None:
    """Prints both rates and their ratio."""
    texts = library_texts(TEXT_BYTES)
    size = sum(len(text.encode()) for text in texts)
    with tempfile.TemporaryDirectory() as scratch:
        if len(sys.argv) > 1:
            ours = load_tokenizer(Path(sys.argv[1]))
        else:
            ours = train_tokenizer(texts, 4096, Path(scratch) / "tokenizer")
        compare(ours, texts, size)


def compare(ours: Tokenizer, texts: Sequence[str], size: int) -> None:
    """Times both in alternating rounds, after checking that they agree."""
    peer = hugging_face(ours.folder)
    for text in texts:
        if ours.encode(text) != peer.encode(text).ids:
            raise SystemExit("the ids differ: no speed is worth measuring")
    rounds = [(seconds(ours.encode, texts), seconds(peer.encode, texts)) for _ in range(ROUNDS)]
    rate = size / 1e6 / statistics.median(mine for mine, _ in rounds)
    peer_rate = size / 1e6 / statistics.median(theirs for _, theirs in rounds)
    ratios = sorted(theirs / mine for mine, theirs in rounds)
    print(f"{len(texts)} documents, {size / 1e6:.1f} MB, vocabulary {ours.vocab_size:,}, one core, {ROUNDS} rounds")
    print(f"mindgeex                {rate:6.2f} MB/s")
    print(f"Hugging Face tokenizers {peer_rate:6.2f} MB/s")
    print(f"ratio                   {statistics.median(ratios):6.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")


def seconds(encode: Callable[[str], object], texts: Sequence[str]) -> float:
    """Wall time of encoding every text."""
    started = time.perf_counter()
    for text in texts:
        encode(text)
    return time.perf_counter() - started


def library_texts(limit_bytes: int) -> list[str]:
    """Files of the standard library, in the order of their paths, up to about so many bytes."""
    texts, total = [], 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*/*.py")):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        texts.append(text)
        total += len(text.encode())
        if total >= limit_bytes:
            break
    return texts


if __name__ == "__main__":
    main()
