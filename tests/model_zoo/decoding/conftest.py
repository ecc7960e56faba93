"""A tokenizer one can read, and one text generator for all tests of it: its graphs take seconds to compile."""

import pytest

from mindgeex.model_zoo.decoding.generator import TextGenerator
from tests.model_zoo.conftest import load_original


def letters(ids):
    """The text of which `Letters` makes these ids."""
    return "".join(map(chr, ids))


class Letters:
    """Ids as code points: a real, if small, tokenizer of the 512 first."""

    vocab_size = 512

    def __init__(self, eod_id=511):
        self.eod_id = eod_id

    def encode(self, text):
        return [ord(letter) for letter in text]

    def decode_bytes(self, ids):
        return letters(ids).encode()


@pytest.fixture(scope="session")
def generator(fixtures):
    """Used with two rows, so that its graphs are compiled once."""
    return TextGenerator(load_original(fixtures), Letters(), max_rows=2)
