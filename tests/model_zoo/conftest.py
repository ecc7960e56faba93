"""A small CodeGeeX with the original's random weights."""

import numpy as np
import pytest

from mindgeex.model_zoo.config import ModelConfig
from tests.model_zoo.foreign import load_foreign

ORIGINAL = ModelConfig(
    family="codegeex",
    num_layers=4,
    hidden_size=64,
    num_heads=4,
    vocab_size=512,
    seq_length=64,
    feed_forward_size=256,
    dropout_rate=0.0,
    eod_id=511,
)


@pytest.fixture(scope="session")
def fixtures(reference_data):
    return reference_data / "fixtures" / "codegeex_torch_tiny"


@pytest.fixture(scope="session")
def original(fixtures):
    """The model of the fixtures, in inference mode; one for all tests, since compiling its graph takes seconds."""
    return load_original(fixtures)


def load_original(fixtures, compute=None):
    import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE)
    return load_foreign(fixtures / "checkpoint.pt", ORIGINAL, compute)


@pytest.fixture
def ids():
    """Two rows of tokens without an end of document."""
    return np.random.default_rng(0).integers(0, 511, (2, 64)).astype(np.int32)
