"""Text from a prompt: one pass over the prompts, then a token at a time.

Covers: several prompts at once, seeds that reproduce a sample whatever the batch, stop functions. Does not cover:
beams, repetition penalty, going on beyond the window.
"""

# Shapes: B batch, V vocabulary
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.families import Model
from mindgeex.model_zoo.decoding.cache import Decoder
from mindgeex.model_zoo.decoding.sampling import Sampling, choose


class TokenizerLike(Protocol):
    """What decoding needs of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Ids are below this; the model may have more rows, which are never chosen."""

    @property
    def eod_id(self) -> int:
        """The id that ends a document."""

    def encode(self, text: str) -> list[int]:
        """Text to ids."""

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text."""


class TextGenerator:
    """Continues prompts with one model; graphs are compiled once per batch size."""

    def __init__(self, model: Model, tokenizer: TokenizerLike):
        self.decoder, self.tokenizer = Decoder(model), tokenizer
        self.window = self.decoder.window

    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seed: int = 0,
        stop: Callable[[str], bool] | None = None,
        long_prompts: Literal["refuse", "truncate"] = "refuse",
    ) -> list[str]:
        """One continuation a prompt; row i draws from a generator of its own, made from (seed, i).

        A row ends at the end of a document (left out), when `stop` says so of its text (kept), at
        `max_new_tokens`, or at the end of the window. A prompt that leaves no room for `max_new_tokens` (half a
        window, where they are more) is cut from the left if `long_prompts` is "truncate".

        Raises:
            UserError: a prompt is empty, or leaves no room in the window and is not to be truncated.
        """
        ids = [self.tokenizer.encode(prompt) for prompt in prompts]
        if long_prompts == "truncate":
            room = min(sampling.max_new_tokens, self.window // 2)
            ids = [prompt_ids[-(self.window - room) :] for prompt_ids in ids]
        for prompt_ids in ids:
            if not 0 < len(prompt_ids) < self.window:
                raise UserError(
                    f"a prompt of {len(prompt_ids)} tokens: it must have at least 1 and, to leave room for an answer, "
                    f"fewer than the model's window of {self.window}"
                )
        new_ids = self.continue_ids(ids, sampling, seed, stop)
        return [self.tokenizer.decode(row) for row in new_ids]

    def continue_ids(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seed: int = 0,
        stop: Callable[[str], bool] | None = None,
    ) -> list[list[int]]:
        """As `generate`, on ids."""
        generators = [np.random.Generator(np.random.Philox(key=[seed, row])) for row in range(len(prompts))]
        logits_BV = self.decoder.prefill(prompts)[:, : self.tokenizer.vocab_size]

        new_ids: list[list[int]] = [[] for _ in prompts]
        open_rows = set(range(len(prompts)))
        for _ in range(sampling.max_new_tokens):
            next_B = np.full(len(prompts), self.tokenizer.eod_id, np.int32)
            for row in sorted(open_rows):
                next_B[row] = choose(logits_BV[row], sampling, generators[row])
                if next_B[row] == self.tokenizer.eod_id:
                    open_rows.discard(row)
                    continue
                new_ids[row].append(int(next_B[row]))
                text_ends = stop is not None and stop(self.tokenizer.decode(new_ids[row]))
                if text_ends or self.decoder.lengths[row] + 1 >= self.window:
                    open_rows.discard(row)
            if not open_rows:
                break
            logits_BV = self.decoder.step(next_B)[:, : self.tokenizer.vocab_size]
        return new_ids
