"""Text from a prompt: one pass over the prompts, then a token at a time.

Covers: several prompts, several samples of one (which is read once), batches of a bounded size, seeds that reproduce a
sample whatever the batch, stops, streaming, beams. Does not cover: going on beyond the window.
"""

# Shapes: B rows of a batch, V vocabulary
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.decoding.beams import beam_search
from mindgeex.model_zoo.decoding.cache import Decoder
from mindgeex.model_zoo.decoding.choice import choose
from mindgeex.model_zoo.decoding.continuation import Continuation, EndedBy, TokenizerLike
from mindgeex.model_zoo.decoding.settings import Beams, Sampling
from mindgeex.model_zoo.decoding.stops import Stop
from mindgeex.model_zoo.decoding.streaming import GrowingText
from mindgeex.model_zoo.families import Model

LongPrompts = Literal["refuse", "truncate"]


class TextGenerator:
    """Continues prompts with one model; graphs are compiled once per batch size."""

    def __init__(self, model: Model, tokenizer: TokenizerLike, max_rows: int = 16):
        """At most `max_rows` samples are made at once.

        Raises:
            UserError: the tokenizer has ids that the model has no row for, or max_rows is no number of rows.
        """
        if max_rows < 1:
            raise UserError(f"max-rows is {max_rows}: at least 1")
        if tokenizer.vocab_size > model.config.vocab_size:
            raise UserError(
                f"the tokenizer has {tokenizer.vocab_size} ids, the model rows for {model.config.vocab_size}: "
                "they do not belong together"
            )
        self.decoder, self.tokenizer, self.max_rows = Decoder(model), tokenizer, max_rows
        self.window = self.decoder.window

    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seed: int = 0,
        stop: Stop | None = None,
        long_prompts: LongPrompts = "refuse",
    ) -> list[Continuation]:
        """One continuation a prompt; row i draws from a generator of its own, made from (seed, i).

        A row ends at the end of a document, where `stop` says so, at `max_new_tokens`, or at the end of the window. A
        prompt that leaves no room for `max_new_tokens` (half a window, where they are more) is cut from the left if
        `long_prompts` is "truncate". A prompt that several rows share is read once a batch.

        Raises:
            UserError: a prompt is empty, or leaves no room in the window and is not to be truncated.
        """
        ids = [self.encode(prompt, sampling.max_new_tokens, long_prompts) for prompt in prompts]
        rows = [_Row(index, row_ids, sampling, seed, stop, self.window) for index, row_ids in enumerate(ids)]
        batches = -(-len(rows) // self.max_rows)
        size = -(-len(rows) // max(1, batches))
        for start in range(0, len(rows), max(1, size)):
            for _ in self._run(rows[start : start + size], sampling, size):
                pass
        return [row.continuation for row in rows]

    def stream(
        self,
        prompt: str,
        sampling: Sampling,
        seed: int = 0,
        stop: Stop | None = None,
        long_prompts: LongPrompts = "refuse",
    ) -> Iterator[str]:
        """The continuation that `generate` gives of a single prompt, in pieces, as soon as they are sure to stay.

        A piece never ends within a character, and what may be the beginning of a stop is held back.

        Raises:
            UserError: as `generate`, at once.
        """
        ids = self.encode(prompt, sampling.max_new_tokens, long_prompts)
        return self._pieces(_Row(0, ids, sampling, seed, stop, self.window), sampling)

    def search(
        self, prompt: str, beams: Beams, stop: Stop | None = None, long_prompts: LongPrompts = "refuse"
    ) -> list[Continuation]:
        """The `beams.num_return` best continuations that beam search finds, the best first.

        Raises:
            UserError: as `generate`.
        """
        ids = self.encode(prompt, beams.max_new_tokens, long_prompts)
        return beam_search(self.decoder, self.tokenizer, ids, beams, stop)

    def encode(self, prompt: str, max_new_tokens: int, long_prompts: LongPrompts) -> tuple[int, ...]:
        """A prompt's ids, cut from the left if that is asked and needed."""
        ids = self.tokenizer.encode(prompt)
        if long_prompts == "truncate":
            room = min(max_new_tokens, max(1, self.window // 2))
            ids = ids[-(self.window - room) :]
        if not 0 < len(ids) < self.window:
            raise UserError(
                f"a prompt of {len(ids)} tokens: it must have at least 1 and, to leave room for an answer, "
                f"fewer than the model's window of {self.window}"
                + ("" if not ids else ": shorten it, or have it cut from the left (long prompts: truncate)")
            )
        return tuple(ids)

    def _pieces(self, row: "_Row", sampling: Sampling) -> Iterator[str]:
        for _ in self._run([row], sampling, 1):
            if piece := row.pieces[-1]:
                yield piece

    def _run(self, rows: Sequence["_Row"], sampling: Sampling, size: int) -> Iterator[None]:
        """Continues rows until all have ended; pauses after every token.

        The last batch may have fewer rows than `size`; copies fill it up, so that no other graph is compiled for it.
        """
        prompts = list(dict.fromkeys(row.prompt for row in rows))
        source = [prompts.index(row.prompt) for row in rows] + [0] * (size - len(rows))
        logits_BV = self.decoder.prefill(prompts)
        if source != list(range(len(prompts))):
            self.decoder.reorder(source)
            logits_BV = logits_BV[source]
        while True:
            live = [index for index, row in enumerate(rows) if row.ended_by is None]
            next_B = np.full(size, self.tokenizer.eod_id, np.int32)
            next_B[live] = choose(
                logits_BV[live, : self.tokenizer.vocab_size],
                sampling,
                [rows[index].generator for index in live],
                [rows[index].history for index in live],
            )
            for index in live:
                rows[index].append(int(next_B[index]), self.tokenizer)
            yield
            if all(row.ended_by for row in rows):
                return
            logits_BV = self.decoder.step(next_B)


class _Row:
    """One sample while it grows."""

    def __init__(
        self, index: int, prompt: tuple[int, ...], sampling: Sampling, seed: int, stop: Stop | None, window: int
    ):
        self.prompt = prompt
        self.most = min(sampling.max_new_tokens, window - len(prompt))
        self.generator = np.random.Generator(np.random.Philox(key=[seed, index]))
        self.text = GrowingText(stop)
        self.pieces: list[str] = []
        self.ended_by: EndedBy | None = None
        self._length = len(prompt)
        self._ids = np.zeros(len(prompt) + self.most, np.int32)
        self._ids[: len(prompt)] = prompt

    @property
    def history(self) -> np.ndarray:
        """The ids of prompt and continuation so far."""
        return self._ids[: self._length]

    @property
    def continuation(self) -> Continuation:
        """What came of it."""
        if self.ended_by is None:
            raise RuntimeError("the row has not ended")
        new = self.history[len(self.prompt) :]
        return Continuation("".join(self.pieces), tuple(map(int, new)), self.ended_by)

    def append(self, id: int, tokenizer: TokenizerLike) -> None:
        """The next id; ends the row where that is its end."""
        if id == tokenizer.eod_id:
            self.ended_by = "eod"
            self.pieces.append(self.text.finish(whole=True))
            return
        self._ids[self._length] = id
        self._length += 1
        piece = self.text.feed(tokenizer.decode_bytes([id]))
        if self.text.ended:
            self.ended_by = "stop"
        elif self._length == len(self._ids):
            self.ended_by = "length"
            piece += self.text.finish(whole=False)
        self.pieces.append(piece)
