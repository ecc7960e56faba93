"""Held-out sets, of the whole and by language, and how well a model predicts them: bits per byte, for any tokenizer.

`all`: the first rows of one fixed permutation of the held-out split. A language: its own held-out documents, encoded as
the build encoded them and packed with each other, of which some rows are taken by a fixed permutation.

Covers: rows shared by any number of workers, with figures equal to the last digit; sets of other origin, whose labels
have any weights. Does not cover: what scoring costs a label's neighbours; a language with less than MIN_BYTES held out.
"""

# Shapes: B batch, S sequence, R held-out rows
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mindgeex.common.config import build_config
from mindgeex.data.document import Document
from mindgeex.data.fim import FimRules, encode_document
from mindgeex.data.languages import language_tag
from mindgeex.data.mindrecord import Corpus
from mindgeex.data.order import Order
from mindgeex.data.packing import fill, plan_packed
from mindgeex.data.split import unit_hash
from mindgeex.data.tokenizers import Tokenizer
from mindgeex.train.feed import CorpusFeed, label_weights

ALL = "all"
"""The name of the set that is scored whatever the languages."""

HELDOUT_ORDER_SEED = 0
"""Of the permutations that choose rows: the same for every run on a corpus."""

MIN_BYTES = 2048
"""A figure about fewer bytes would say nothing: the language is left out."""

CANDIDATES = 4
"""A language's rows are chosen among about so many times as many."""

READ_BYTES = 1 << 30
"""Documents behind so many bytes of held-out text are not looked at: about ten seconds."""

Reduce = Callable[[np.ndarray], np.ndarray]
"""The sum of a float64 array over all workers."""


@dataclass(frozen=True, eq=False)
class HeldoutRows:
    """A set of rows that are scored."""

    rows_RS1: np.ndarray
    """int32."""
    weights_RS: np.ndarray
    """float32: how much each label counts in the figure."""
    text: bytes | None = None
    """What the scored labels spell, for a figure in bits per byte; None: in nats per token."""

    def __post_init__(self) -> None:
        if self.text is not None and not np.isin(self.weights_RS, (0, 1)).all():
            raise ValueError("bits per byte are of labels that count or do not: weights must be 0 or 1")

    def figure(self, nats_R: np.ndarray) -> float:
        """Bits per byte (an end of document spells none), or nats per token, from the rows' weighted sums."""
        if self.text is None:
            return float(nats_R.sum() / self.weights_RS.sum(dtype=np.float64))
        return float(nats_R.sum() / math.log(2) / len(self.text))


def heldout_sets(corpus: Corpus, rows: int, rows_per_language: int) -> dict[str, HeldoutRows]:
    """The sets of a corpus: `all`, then its languages by name.

    Args:
        corpus: has a held-out split.
        rows: at most so many in `all`.
        rows_per_language: at most so many of each language; 0: no languages.

    Raises:
        UserError: a file of the corpus is missing or altered.
    """
    feed, tokenizer = CorpusFeed(corpus, HELDOUT_ORDER_SEED), corpus.tokenizer()

    def scored(rows_RS1: np.ndarray) -> HeldoutRows:
        weights_RS = label_weights(rows_RS1, feed.eod_id, feed.pad_id)
        return HeldoutRows(rows_RS1, weights_RS, tokenizer.decode_bytes(rows_RS1[:, 1:][weights_RS > 0].tolist()))

    count = min(rows, corpus.num_rows("heldout"))
    batches = corpus.batches("heldout", count, HELDOUT_ORDER_SEED, epochs=1)
    sets = {ALL: scored(next(batches))}
    if rows_per_language:
        for language, documents in sorted(_candidates(corpus, rows_per_language * (corpus.seq_length + 1)).items()):
            found = scored(_packed_rows(_encoded(documents, tokenizer, corpus), corpus, feed, rows_per_language))
            if found.text is not None and len(found.text) >= MIN_BYTES:
                sets[language] = found
    return sets


def _candidates(corpus: Corpus, tokens: int) -> dict[str, list[Document]]:
    """Held-out documents by language, by a hash of their names: about CANDIDATES times so many tokens of each."""
    counts = corpus.manifest["splits"]["heldout"]["languages"]
    found: dict[str, list[Document]] = {}
    num_bytes = 0
    for document in corpus.documents("heldout"):
        share = CANDIDATES * tokens / max(1, counts[document.language]["tokens"])
        if share >= 1 or unit_hash(HELDOUT_ORDER_SEED, "scored", document.repo, document.path) < share:
            found.setdefault(document.language, []).append(document)
        num_bytes += len(document.text)
        if num_bytes > READ_BYTES:
            break
    return found


def _encoded(documents: list[Document], tokenizer: Tokenizer, corpus: Corpus) -> list[np.ndarray]:
    """The ids of documents, as the build encoded them; a merge of unlike builds forgets which it cut in three."""
    config = corpus.manifest.get("config") or {}
    rules = build_config(FimRules, config.get("fim", {}), f"{corpus.folder}/manifest.json")
    seed = str(config.get("seed", ""))
    return [
        encode_document(d.text, language_tag(d.language), tokenizer, rules, (seed, d.repo, d.path)) for d in documents
    ]


def _packed_rows(encoded: list[np.ndarray], corpus: Corpus, feed: CorpusFeed, limit: int) -> np.ndarray:
    lengths = np.array([len(ids) for ids in encoded], np.int64)
    plans = plan_packed(lengths, corpus.seq_length, rows_per_shard=1 << 30)
    rows_RS1 = np.concatenate([fill(plan, _Listed(encoded), feed.eod_id, feed.pad_id) for plan in plans])
    count = min(limit, len(rows_RS1))
    return rows_RS1[Order(len(rows_RS1), HELDOUT_ORDER_SEED).rows(np.arange(count))]


@dataclass(frozen=True)
class _Listed:
    """Documents in memory, for `fill`."""

    encoded: list[np.ndarray]

    def copy(
        self, document: np.ndarray, start: np.ndarray, count: np.ndarray, place: np.ndarray, out: np.ndarray
    ) -> None:
        for number, source, length, target in zip(document, start, count, place, strict=True):
            out[target : target + length] = self.encoded[number][source : source + length]


class Evaluator:
    """Scores sets of rows with the current weights of a model."""

    def __init__(self, token_loss: Any, sets: Mapping[str, HeldoutRows], batch_rows: int):
        """Takes the sets.

        Args:
            token_loss: train/loss.py's TokenLoss, or what is called as it is.
            sets: name -> rows, all as long; the one named ALL gives the figure of the whole.
            batch_rows: rows that a worker computes at once; as in training, no second graph is compiled.
        """
        widths = {found.rows_RS1.shape[1] for found in sets.values()}
        if len(widths) != 1 or batch_rows < 1:
            raise ValueError(
                f"rows of {sorted(widths)} tokens, batch_rows={batch_rows}: one length, and at least 1 row"
            )
        self.token_loss, self.sets, self.batch_rows = token_loss, dict(sets), batch_rows
        self._rows_RS1 = np.concatenate([found.rows_RS1 for found in sets.values()])
        self._weights_RS = np.concatenate([found.weights_RS for found in sets.values()]).astype(np.float64)
        self._bounds = np.cumsum([len(found.rows_RS1) for found in sets.values()])[:-1]

    def scores(self, rank: int = 0, world: int = 1, reduce: Reduce = lambda nats_R: nats_R) -> dict[str, Any]:
        """The figures, the same on every worker.

        Args:
            rank: which of `world` we are; each computes its share of the rows.
            world: workers that call this together.
            reduce: sums over them.

        Returns:
            `heldout_bits_per_byte` of ALL, `heldout` {name: bits per byte} of the other sets that have a text, and
            `heldout_loss` {name: nats per token} of those without; what there is none of is absent.
        """
        nats_R = reduce(self._nats(rank, world))
        figures: dict[str, Any] = {}
        for (name, found), nats in zip(self.sets.items(), np.split(nats_R, self._bounds), strict=True):
            if found.text is None:
                figures.setdefault("heldout_loss", {})[name] = found.figure(nats)
            elif name == ALL:
                figures["heldout_bits_per_byte"] = found.figure(nats)
            else:
                figures.setdefault("heldout", {})[name] = found.figure(nats)
        return figures

    def _nats(self, rank: int, world: int) -> np.ndarray:
        """Weighted nats of this worker's rows, 0 for the others', float64 [R]: a sum over workers rounds nothing."""
        import mindspore as ms

        training = self.token_loss.training
        self.token_loss.set_train(False)
        nats_R = np.zeros(len(self._rows_RS1))
        seeds_B = ms.Tensor(np.zeros(self.batch_rows, np.int32))
        share = np.arange(rank, len(nats_R), world)
        for start in range(0, len(share), self.batch_rows):
            chosen = share[start : start + self.batch_rows]
            filled = np.resize(chosen, self.batch_rows)  # the last batch repeats rows, so that its shape is the others'
            nats_BS = self.token_loss(ms.Tensor(self._rows_RS1[filled]), seeds_B).asnumpy()
            nats_R[chosen] = (nats_BS[: len(chosen)] * self._weights_RS[chosen]).sum(axis=1)
        self.token_loss.set_train(training)
        return nats_R
