"""Documents' tokens -> rows of seq_length + 1: a row's first seq_length tokens are the input, its last the labels.

`packed`: documents one behind the other, each closed by EOD, cut into rows; nothing is lost, and only the last row is
padded. `windows`: as CodeGeeX was trained; one document a row, padded with EOD; a longer one gives overlapping windows
`stride` apart and a last one that ends with it (CodeGeeX codegeex/data/data_utils.py, sliding_window, empty prompt).

Padding is EOD. A position whose input is EOD gets no weight in the loss; that is the trainer's affair.
"""

from collections.abc import Iterable, Iterator

import numpy as np

BLOCK_ROWS = 1024


def packed(documents: Iterable[np.ndarray], seq_length: int, eod_id: int) -> Iterator[np.ndarray]:
    """Blocks of rows, int32 [rows, seq_length + 1].

    Args:
        documents: each int32 [tokens], without EOD.
        seq_length: tokens of input a row.
        eod_id: closes a document and pads the last row.
    """
    width = seq_length + 1
    eod = np.array([eod_id], np.int32)
    pieces: list[np.ndarray] = []
    held = 0
    for document in documents:
        pieces += [document, eod]
        held += len(document) + 1
        if held >= BLOCK_ROWS * width:
            tokens = np.concatenate(pieces)
            whole = held // width * width
            yield tokens[:whole].reshape(-1, width)
            pieces, held = [tokens[whole:]], held - whole
    if held:
        padding = np.full(-held % width, eod_id, np.int32)
        yield np.concatenate([*pieces, padding]).reshape(-1, width)


def windows(documents: Iterable[np.ndarray], seq_length: int, eod_id: int, stride: int) -> Iterator[np.ndarray]:
    """One block of rows a document, int32 [rows, seq_length + 1].

    Args:
        documents: each int32 [tokens], without EOD.
        seq_length: tokens of input a row.
        eod_id: closes a document and pads.
        stride: tokens from the start of one window to the next; 200 as published.
    """
    width = seq_length + 1
    for document in documents:
        num_tokens = len(document) + 1
        last = max(0, num_tokens - width)
        starts = [*range(0, last, stride), last]
        padded = np.full(max(width, num_tokens), eod_id, np.int32)
        padded[: len(document)] = document
        yield np.stack([padded[start : start + width] for start in starts])
