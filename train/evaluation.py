"""The held-out loss in bits per byte, which does not depend on the tokenizer, and what xz reaches on the same bytes."""

# Shapes: B batch, S sequence, R held-out rows, V vocabulary
import lzma
import math
from dataclasses import dataclass

import numpy as np

from mindgeex.data.mindrecord import Corpus
from mindgeex.data.tokenizers import Tokenizer

HELDOUT_ORDER_SEED = 0
"""The scored rows are the first of this permutation of the held-out split: the same for every run on a corpus."""


@dataclass(frozen=True)
class HeldoutRows:
    """The rows that are scored, and the bytes that their scored tokens spell."""

    rows_RS1: np.ndarray
    scored_RS: np.ndarray
    """True where the input is not an end of document, as in training."""
    text: bytes

    @property
    def xz_bits_per_byte(self) -> float:
        """Compressed bits per byte of `text` with `xz -9`."""
        return 8 * len(lzma.compress(self.text, preset=9)) / len(self.text)


def heldout_rows(corpus: Corpus, limit: int, tokenizer: Tokenizer, eod_id: int) -> HeldoutRows:
    """At most `limit` rows of the held-out split."""
    batches = corpus.batches("heldout", 1, seed=HELDOUT_ORDER_SEED, epochs=1)
    count = min(limit, corpus.num_rows("heldout"))
    rows = np.concatenate([next(batches) for _ in range(count)])
    scored = rows[:, :-1] != eod_id
    return HeldoutRows(rows, scored, tokenizer.decode_bytes(rows[:, 1:][scored].tolist()))


class Evaluator:
    """Scores the held-out rows with the current weights of a model."""

    def __init__(self, token_loss, rows: HeldoutRows, batch_size: int, eod_id: int):  # noqa: ANN001
        self.token_loss, self.rows, self.batch_size, self.eod_id = token_loss, rows, batch_size, eod_id

    def bits_per_byte(self) -> float:
        """Negative log2-likelihood of the scored tokens over the bytes they spell (an end of document spells none)."""
        import mindspore as ms

        training = self.token_loss.training
        self.token_loss.set_train(False)
        nats = 0.0
        for start in range(0, len(self.rows.rows_RS1), self.batch_size):
            rows_BS1 = self.rows.rows_RS1[start : start + self.batch_size]
            padding = np.full((self.batch_size - len(rows_BS1), rows_BS1.shape[1]), self.eod_id, np.int32)
            batch = np.concatenate([rows_BS1, padding])
            nats_BS, weights_BS = self.token_loss(ms.Tensor(batch), ms.Tensor(0, ms.int32))
            nats += float((nats_BS.asnumpy().astype(np.float64) * weights_BS.asnumpy()).sum())
        self.token_loss.set_train(training)
        return nats / math.log(2) / len(self.rows.text)
