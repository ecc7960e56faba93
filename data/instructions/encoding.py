"""Samples to rows of tokens: encoded once, laid into rows whole, with a mark on every token that is learnt.

A sample is its prompt's tokens, its answer's and EOD, which closes it as it closes any document: so attention is cut
between the samples of a row. Prompt and answer are encoded each on its own, since a prompt stands alone when it is
answered. Answer and EOD are learnt; a sample's very first token is not, since nothing stands before it.

Rows are filled by best fit, longest sample first (as in "Fewer Truncations Improve Language Modeling", arXiv
2404.10830, but nothing is ever cut), or hold one sample each. What is open is padded with EOD and not learnt.

Covers: any number of samples that fits in memory: 5 bytes a token, some 100 bytes a sample while it is encoded.
Does not cover: answers longer than a row: they are dropped and counted.
"""

# Shapes: S sequence, R rows
import bisect
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.data.instructions.records import BadRecord, Record, Translation, read_records
from mindgeex.data.instructions.templates import Sample, Template, template_named
from mindgeex.data.instructions.xlcost import is_xlcost, read_pairs
from mindgeex.data.split import unit_hash
from mindgeex.data.tokenizers import Tokenizer

LongPrompts = Literal["drop", "truncate"]


@dataclass(frozen=True)
class EncodingConfig:
    """How records become rows."""

    packing: bool = True
    """Several samples in a row, none of them cut; false: one a row."""
    long_prompts: LongPrompts = "drop"
    """A sample longer than a row is dropped, or its prompt is cut from the left (truncate). One whose answer alone is
    longer is always dropped."""
    heldout_share: float = 0.02
    """Share of the records that are scored and not trained on; a hash of the question decides. 0: none."""

    def __post_init__(self) -> None:
        if not 0 <= self.heldout_share < 1:
            raise UserError(f"heldout_share is {self.heldout_share}: it must be at least 0 and below 1")
        if self.long_prompts not in ("drop", "truncate"):
            raise UserError(f"long_prompts is {self.long_prompts!r}: choose drop or truncate")


@dataclass(frozen=True, eq=False)
class Rows:
    """R rows, held without their padding."""

    tokens: np.ndarray
    """int32: the tokens of all rows, one behind the other."""
    learnt: np.ndarray
    """bool, for each token: whether it counts as a label."""
    offsets: np.ndarray
    """int64 [R + 1]: where each row begins."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def learnt_R(self) -> np.ndarray:
        """Labels that count, for each row; int64."""
        sums = np.concatenate([[0], np.cumsum(self.learnt, dtype=np.int64)])
        return np.diff(sums[self.offsets])

    def read(self, numbers: Iterable[int], width: int, eod_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Some of the rows, int32 [n, width], and which of their labels count, bool [n, width - 1]."""
        chosen = list(numbers)
        tokens = np.full((len(chosen), width), eod_id, np.int32)
        learnt = np.zeros((len(chosen), width), bool)
        for place, number in enumerate(chosen):
            begin, end = self.offsets[number], self.offsets[number + 1]
            tokens[place, : end - begin] = self.tokens[begin:end]
            learnt[place, : end - begin] = self.learnt[begin:end]
        return tokens, learnt[:, 1:]

    def digest(self) -> str:
        """SHA-256 of all that is in the rows, in hexadecimal."""
        digest = hashlib.sha256()
        for array in (self.tokens, self.learnt, self.offsets):
            digest.update(f"{array.dtype.str} {len(array)}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class EncodedTask:
    """The rows of one data set, and what is not in them."""

    train: Rows
    heldout: Rows
    samples: int
    """In the rows of training."""
    heldout_samples: int
    dropped: dict[str, int]
    """Reason -> samples: answer_too_long, prompt_too_long, empty_answer, not_a_program."""
    template: Template


def encode_task(
    path: Path, template: str | None, tokenizer: Tokenizer, width: int, config: EncodingConfig
) -> EncodedTask:
    """Reads and encodes a data set.

    Args:
        path: JSON lines or a folder of them (records.py), or a folder in XLCoST's layout (xlcost.py).
        template: its name; None: `codegeex_translation` for pairs of programs, else `plain`.
        tokenizer: of the checkpoint that will be trained.
        width: tokens of a row: seq_length + 1.
        config: how rows are made.

    Raises:
        UserError: a record is malformed or does not suit the template; nothing is left to train on.
    """
    dropped: Counter[str] = Counter()
    encoded: list[_Encoded] = []
    hashes: list[float] = []
    chosen = template_named(template) if template else None
    for record in read_pairs(path) if is_xlcost(path) else read_records(path):
        if record is None:
            dropped["not_a_program"] += 1
            continue
        if chosen is None:
            chosen = template_named("codegeex_translation" if isinstance(record.content, Translation) else "plain")
        hashed = unit_hash(0, "instruction", record.key)
        for sample in _samples(record, chosen):
            one = _encoded(sample, tokenizer, width, config.long_prompts)
            if isinstance(one, str):
                dropped[one] += 1
            else:
                encoded.append(one)
                hashes.append(hashed)
    if chosen is None or not encoded:
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())) or "none"
        raise UserError(
            f"{path}: no sample is left to train on (dropped: {told}): give other records, or a model with a longer "
            f"window than {width - 1} tokens"
        )
    is_heldout = _heldout(np.array(hashes), config.heldout_share)
    train, heldout = (
        _rows([encoded[at] for at in np.flatnonzero(is_heldout == side)], width, config.packing)
        for side in (False, True)
    )
    heldout_samples = int(is_heldout.sum())
    return EncodedTask(
        train, heldout, len(encoded) - heldout_samples, heldout_samples, dict(sorted(dropped.items())), chosen
    )


def _heldout(hashes: np.ndarray, share: float) -> np.ndarray:
    """Which samples are held out; with two questions or more, both sides get one."""
    low, high = hashes.min(), hashes.max()
    if share == 0 or low == high:
        return np.zeros(len(hashes), bool)
    return (hashes < max(share, np.nextafter(low, 1))) & (hashes < high)


def pack(lengths: np.ndarray, width: int) -> np.ndarray:
    """The row of each item, int64: best fit, the longest first; rows are numbered by their first item.

    Args:
        lengths: int64, each at least 1 and at most `width`.
        width: of a row.
    """
    row_of = np.zeros(len(lengths), np.int64)
    open_rows: list[tuple[int, int]] = []  # room and number of every row that is not full, ascending
    num_rows = 0
    for item in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[item])
        place = bisect.bisect_left(open_rows, (length, -1))
        room, row = open_rows.pop(place) if place < len(open_rows) else (width, num_rows)
        num_rows = max(num_rows, row + 1)
        row_of[item] = row
        if room > length:
            bisect.insort(open_rows, (room - length, row))
    _, first = np.unique(row_of, return_index=True)
    rank = np.empty(num_rows, np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(num_rows)
    return rank[row_of]


@dataclass(frozen=True, eq=False, slots=True)
class _Encoded:
    tokens: np.ndarray
    """int32, with EOD."""
    prompt: int
    """So many of them are not learnt."""


def _samples(record: Record, template: Template) -> Iterator[Sample]:
    try:
        yield from template.samples(record.content)
    except BadRecord as error:
        raise UserError(f"{record.where}: {error} (template is {template.name})") from None


def _encoded(sample: Sample, tokenizer: Tokenizer, width: int, long_prompts: LongPrompts) -> _Encoded | str:
    """The sample's tokens, or the reason to drop it."""
    if not sample.answer:
        return "empty_answer"
    answer = tokenizer.encode_array(sample.answer, eod_in_text=False)
    if len(answer) + 2 > width:
        return "answer_too_long"
    prompt = tokenizer.encode_array(sample.prompt, eod_in_text=False)
    room = width - len(answer) - 1
    if len(prompt) > room and long_prompts == "drop":
        return "prompt_too_long"
    prompt = prompt[max(0, len(prompt) - room) :]
    return _Encoded(np.concatenate([prompt, answer, np.array([tokenizer.eod_id], np.int32)]), max(1, len(prompt)))


def _rows(samples: list[_Encoded], width: int, packing: bool) -> Rows:
    lengths = np.array([len(sample.tokens) for sample in samples], np.int64)
    row_of = pack(lengths, width) if packing else np.arange(len(samples))
    order = np.argsort(row_of, kind="stable")
    tokens = np.concatenate([np.zeros(0, np.int32), *(samples[at].tokens for at in order)])
    prompts = np.array([samples[at].prompt for at in order], np.int64)
    ends = np.cumsum(lengths[order])
    begins = ends - lengths[order]
    edges = np.zeros(len(tokens) + 1, np.int64)  # +1 where learning begins, -1 where a sample ends
    np.add.at(edges, begins + prompts, 1)
    np.add.at(edges, ends, -1)
    sizes = np.bincount(row_of, lengths).astype(np.int64)
    return Rows(tokens, np.cumsum(edges[:-1]) > 0, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
