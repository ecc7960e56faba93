"""Beam search: the most probable continuations, as far as a bounded number of beginnings shows them.

As transformers' generate(num_beams=...) does it: of every step's best 2 x num_beams candidates the first num_beams may
complete, the others only go on; a complete one scores its log-probability / length^penalty, end of document counted.
Covers: length penalty, early stopping, repetition penalty, stops. Does not cover: sampling, groups of beams, several
prompts at once, early_stopping="never".
"""

# Shapes: B beams (1 at the start), V vocabulary
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mindgeex.model_zoo.decoding.cache import Decoder
from mindgeex.model_zoo.decoding.choice import check_numbers, most_likely, penalise
from mindgeex.model_zoo.decoding.continuation import Continuation, EndedBy, TokenizerLike
from mindgeex.model_zoo.decoding.settings import Beams
from mindgeex.model_zoo.decoding.stops import Stop
from mindgeex.model_zoo.decoding.streaming import GrowingText


@dataclass(frozen=True)
class _Beam:
    """A beginning that is followed, or a candidate for one."""

    source: int
    """The row it continues."""
    log_probability: float
    ids: tuple[int, ...]
    text: str
    growing: GrowingText
    ended_by: EndedBy | None

    def scored(self, length_penalty: float) -> Continuation:
        """As an answer; it must have ended."""
        assert self.ended_by is not None
        length = len(self.ids) + (self.ended_by == "eod")
        return Continuation(self.text, self.ids, self.ended_by, self.log_probability / length**length_penalty)


def beam_search(
    decoder: Decoder, tokenizer: TokenizerLike, prompt: Sequence[int], beams: Beams, stop: Stop | None = None
) -> list[Continuation]:
    """The `beams.num_return` best continuations of one prompt (1 to window - 1 ids), with scores, the best first."""
    most = min(beams.max_new_tokens, decoder.window - len(prompt))
    running = [_Beam(0, 0.0, (), "", GrowingText(stop), None)]
    complete: list[Continuation] = []
    logits_BV = decoder.prefill([prompt])
    for length in range(1, most + 1):
        candidates = _best(logits_BV[:, : tokenizer.vocab_size], running, prompt, beams)
        grown = [
            _grown(running[source], source, id, score, tokenizer, last=length == most)
            for source, id, score in candidates
        ]
        complete += [beam.scored(beams.length_penalty) for beam in grown[: beams.num_beams] if beam.ended_by]
        complete = sorted(complete, key=_score, reverse=True)[: beams.num_beams]
        running = [beam for beam in grown if beam.ended_by is None][: beams.num_beams]
        if not running:
            break
        if len(complete) == beams.num_beams:
            reachable = running[0].log_probability / length**beams.length_penalty
            if beams.early_stopping or reachable <= _score(complete[-1]):
                break
        # Every step has the same number of rows, so that one graph serves all: copies of the first fill up.
        rows = [beam.source for beam in running] + [running[0].source] * (beams.num_beams - len(running))
        ids = [beam.ids[-1] for beam in running] + [running[0].ids[-1]] * (beams.num_beams - len(running))
        decoder.reorder(rows)
        logits_BV = decoder.step(np.array(ids, np.int32))
    return complete[: beams.num_return]


def _best(
    logits_BV: np.ndarray, running: Sequence[_Beam], prompt: Sequence[int], beams: Beams
) -> list[tuple[int, int, float]]:
    """Row, id and log-probability of the best candidates, the best first."""
    check_numbers(logits_BV)
    scores_BV = logits_BV[: len(running)].astype(np.float64)
    scores_BV -= scores_BV.max(axis=1, keepdims=True)
    scores_BV -= np.log(np.exp(scores_BV).sum(axis=1, keepdims=True))
    for scores_V, beam in zip(scores_BV, running, strict=True):
        if beams.repetition_penalty != 1.0:
            penalise(scores_V, np.array([*prompt, *beam.ids]), beams.repetition_penalty)
        scores_V += beam.log_probability
    scores_N = scores_BV.reshape(-1)
    best = most_likely(scores_N, min(2 * beams.num_beams, len(scores_N)))
    best = best[np.argsort(-scores_N[best], kind="stable")]
    vocab_size = scores_BV.shape[1]
    return [(int(at // vocab_size), int(at % vocab_size), float(scores_N[at])) for at in best]


def _grown(beam: _Beam, source: int, id: int, score: float, tokenizer: TokenizerLike, *, last: bool) -> _Beam:
    """A beam with one more token."""
    growing = beam.growing.copy()
    if id == tokenizer.eod_id:
        return _Beam(source, score, beam.ids, beam.text + growing.finish(whole=True), growing, "eod")
    text = beam.text + growing.feed(tokenizer.decode_bytes([id]))
    ended_by: EndedBy | None = "stop" if growing.ended else "length" if last else None
    if ended_by == "length":
        text += growing.finish(whole=False)
    return _Beam(source, score, (*beam.ids, id), text, growing, ended_by)


def _score(continuation: Continuation) -> float:
    assert continuation.score is not None
    return continuation.score
