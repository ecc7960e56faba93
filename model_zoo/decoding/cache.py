"""A model with a key/value cache: one pass over the prompts, then one token at a time.

On a CPU in float32 the passes run in C++ that this machine compiles (kernels/), elsewhere as MindSpore graphs
(graph.py). Both give the same numbers within rounding. Prompts of different lengths share a batch.
Covers: batches of any size, reordering and copying rows. Does not cover: going on beyond the window.
"""

# Shapes: B rows of a batch, V vocabulary
import logging
from collections.abc import Sequence

import mindspore as ms
import numpy as np

from mindgeex.model_zoo.attention import DotProductAttention
from mindgeex.model_zoo.decoding.graph import GraphDecoder
from mindgeex.model_zoo.decoding.kernels.decoder import NativeDecoder
from mindgeex.model_zoo.families import Model
from mindgeex.model_zoo.shared_library import CannotCompile

logger = logging.getLogger(__name__)


class Decoder:
    """One model and what it remembers of a batch of rows."""

    def __init__(self, model: Model):
        self.window = model.config.seq_length
        self.engine = _engine(model)

    @property
    def lengths(self) -> np.ndarray:
        """[B]: tokens in each row's cache."""
        return self.engine.lengths

    def prefill(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """Starts a new batch, a row a prompt (1 to `window` ids) -> logits [B, V] of each prompt's last token."""
        return self.engine.prefill(prompts)

    def step(self, ids_B: np.ndarray) -> np.ndarray:
        """Appends a token to every row -> logits [B, V]; those of a row whose window was full mean nothing."""
        return self.engine.step(ids_B)

    def reorder(self, rows: Sequence[int]) -> None:
        """Row i becomes a copy of what row rows[i] was; there may be more or fewer rows than before."""
        self.engine.reorder(rows)


def _engine(model: Model) -> NativeDecoder | GraphDecoder:
    """What fits the device and the model; a missing compiler is no error, but slower, and said."""
    attention = model.blocks[0].attention
    plain = isinstance(attention.core, DotProductAttention) and attention.core.dtype == ms.float32
    if ms.get_context("device_target") != "CPU" or not plain:
        return GraphDecoder(model)
    try:
        return NativeDecoder(model)
    except CannotCompile as reason:
        logger.warning("decoding runs as a MindSpore graph, several times slower: %s", reason)
        return GraphDecoder(model)
