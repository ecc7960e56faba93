"""Decoding with a key/value cache: one pass over the prompts, then one token at a time.

Prompts of different lengths share a batch: each row is padded on the right, and a row's position says how much of
its cache is real. Covers: greedy, temperature, top-k, top-p, several samples a prompt, seeds that reproduce a sample
whatever the batch, stop functions. Does not cover: beams, repetition penalty, going on beyond the window.
"""

# Shapes: B batch, P window, T queries (P, or 1 after the prompt), K keys (P), A heads, D head width, V vocabulary
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.codegeex import CodeGeeX
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.layers import MASKED_SCORE, Attention


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


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen."""

    temperature: float = 0.8
    """0 takes the most likely token."""
    top_k: int = 0
    """Only the k most likely tokens; 0 is all."""
    top_p: float = 0.95
    """Only the most likely tokens that together reach this probability; 1 is all."""
    max_new_tokens: int = 128

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature is {self.temperature}: it must be a number of at least 0 (0 is greedy)")
        if self.top_k < 0:
            raise UserError(f"top-k is {self.top_k}: it must be at least 0 (0 is all tokens)")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top-p is {self.top_p}: it must be greater than 0 and at most 1")
        if self.max_new_tokens < 1:
            raise UserError(f"max-new-tokens is {self.max_new_tokens}: it must be at least 1")


class Cache(nn.Cell):
    """Keys and values of every position of the window; takes the place of an attention's `memory`."""

    def __init__(self, config: ModelConfig, batch_size: int, name: str):
        super().__init__()
        shape = (batch_size, config.num_heads, config.seq_length, config.head_size)
        self.window = config.seq_length
        self.keys = Parameter(initializer("zeros", shape), name=f"{name}.keys", requires_grad=False)
        self.values = Parameter(initializer("zeros", shape), name=f"{name}.values", requires_grad=False)

    def construct(self, k_BATD: Tensor, v_BATD: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Stores what is new (the whole window, or one position of each row) and gives all there is."""
        if k_BATD.shape[2] == self.window:
            k_BAKD, v_BAKD = k_BATD, v_BATD
        else:
            here_B1K1 = (ops.arange(self.window) == positions_BT).expand_dims(1).expand_dims(-1)
            k_BAKD = ops.select(here_B1K1, k_BATD, self.keys)
            v_BAKD = ops.select(here_B1K1, v_BATD, self.values)
        ops.assign(self.keys, k_BAKD)
        ops.assign(self.values, v_BAKD)
        return k_BAKD, v_BAKD


class CachedModel(nn.Cell):
    """A model whose attentions remember; for a fixed number of rows."""

    def __init__(self, model: CodeGeeX, batch_size: int):
        super().__init__()
        self.model = model
        self.window = model.config.seq_length
        for name, cell in model.cells_and_names():
            if isinstance(cell, Attention):
                cell.memory = Cache(model.config, batch_size, f"cache.{name}")

    def construct(self, ids_BT: Tensor, positions_BT: Tensor, last_B: Tensor) -> Tensor:
        """Ids, where they stand, and which of the T queries is wanted of each row -> logits [B, V].

        A query sees every position up to its own, whatever lies between: a prompt is one document.
        """
        hidden_B1TK = (ops.arange(self.window) > positions_BT.expand_dims(-1)).expand_dims(1)
        mask_B1TK = hidden_B1TK.astype(ms.float32) * MASKED_SCORE
        x_BTH = self.model.hidden(ids_BT, positions_BT, mask_B1TK, ms.Tensor(0, ms.int32))
        rows_B = ops.arange(x_BTH.shape[0]) * x_BTH.shape[1] + last_B
        x_BH = ops.gather(x_BTH.reshape(-1, x_BTH.shape[2]), rows_B, 0)
        return self.model.logits(x_BH)


class TextGenerator:
    """Continues prompts with one model; graphs are compiled once per batch size."""

    def __init__(self, model: CodeGeeX, tokenizer: TokenizerLike):
        ms.set_context(mode=ms.GRAPH_MODE)
        self.model, self.tokenizer = model, tokenizer
        self.window = model.config.seq_length
        self.cached: CachedModel | None = None
        self.batch_size = 0

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
        lengths_B = np.array([len(prompt) for prompt in prompts], np.int32)
        ids_BP = np.full((len(prompts), self.window), self.tokenizer.eod_id, np.int32)
        for row, prompt in enumerate(prompts):
            ids_BP[row, : len(prompt)] = prompt
        positions_BP = np.broadcast_to(np.arange(self.window, dtype=np.int32), ids_BP.shape)
        logits_BV = self._run(ids_BP, positions_BP, lengths_B - 1)

        new_ids: list[list[int]] = [[] for _ in prompts]
        open_rows = set(range(len(prompts)))
        at_B = lengths_B.copy()
        for _ in range(sampling.max_new_tokens):
            next_B = np.full(len(prompts), self.tokenizer.eod_id, np.int32)
            for row in sorted(open_rows):
                next_B[row] = choose(logits_BV[row], sampling, generators[row])
                if next_B[row] == self.tokenizer.eod_id:
                    open_rows.discard(row)
                    continue
                new_ids[row].append(int(next_B[row]))
                text_ends = stop is not None and stop(self.tokenizer.decode(new_ids[row]))
                if text_ends or at_B[row] + 1 >= self.window:
                    open_rows.discard(row)
            if not open_rows:
                break
            at_B = np.minimum(at_B, self.window - 1)
            logits_BV = self._run(next_B[:, None], at_B[:, None], np.zeros_like(at_B))
            at_B = at_B + 1
        return new_ids

    def _run(self, ids_BT: np.ndarray, positions_BT: np.ndarray, last_B: np.ndarray) -> np.ndarray:
        """Logits [B, V] of the tokenizer's ids."""
        if self.cached is None or self.batch_size != len(ids_BT):
            self.batch_size = len(ids_BT)
            self.cached = CachedModel(self.model, self.batch_size).set_train(False)
        arguments = (ms.Tensor(np.ascontiguousarray(array), ms.int32) for array in (ids_BT, positions_BT, last_B))
        return self.cached(*arguments).asnumpy()[:, : self.tokenizer.vocab_size]


def choose(logits_V: np.ndarray, sampling: Sampling, generator: np.random.Generator) -> int:
    """The next token's id.

    Top-k keeps the k largest logits, then top-p the smallest set of most likely tokens whose probability reaches p
    (Holtzman et al. 2020); the rest is renormalised.
    """
    if sampling.temperature == 0:
        return int(np.argmax(logits_V))
    scaled_V = logits_V.astype(np.float64) / sampling.temperature
    order = np.argsort(-scaled_V, kind="stable")
    if sampling.top_k:
        order = order[: sampling.top_k]
    probabilities = np.exp(scaled_V[order] - scaled_V[order[0]])
    probabilities /= probabilities.sum()
    cumulative = np.cumsum(probabilities)
    kept = int(np.searchsorted(cumulative, sampling.top_p)) + 1
    kept = min(kept, len(order))
    drawn = np.searchsorted(cumulative[:kept], generator.random() * cumulative[kept - 1], side="right")
    return int(order[min(drawn, kept - 1)])
