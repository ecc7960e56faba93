"""The old place of mindgeex.data.tokenizers, until its importers have moved."""

from mindgeex.data.tokenizers import EOD, Tokenizer, check_vocab_size, fingerprint, load_tokenizer, train_tokenizer
from mindgeex.data.tokenizers.byte_bpe import ABOUT, RUNS
from mindgeex.data.tokenizers.byte_bpe import DECIDING as FILES

WRITTEN = (*FILES, ABOUT)

__all__ = [
    "EOD", "FILES", "RUNS", "WRITTEN", "Tokenizer", "check_vocab_size", "fingerprint", "load_tokenizer",
    "train_tokenizer",
]  # fmt: skip
