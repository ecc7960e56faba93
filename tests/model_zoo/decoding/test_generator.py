"""Decoding with the cache gives what the whole network gives, in any batch, and sampling follows its definition."""

import math

import mindspore as ms
import numpy as np
import pytest

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.decoding.generator import TextGenerator
from mindgeex.model_zoo.decoding.sampling import Sampling, choose
from tests.model_zoo.conftest import load_original

GREEDY = Sampling(temperature=0.0, max_new_tokens=56)


class Letters:
    """Ids as code points: a real, if small, tokenizer of the 512 first."""

    vocab_size = 512
    eod_id = 511

    def encode(self, text):
        return [ord(letter) for letter in text]

    def decode(self, ids):
        return "".join(chr(id) for id in ids)


@pytest.fixture(scope="module")
def generator(fixtures):
    """Always used with two rows, so that its graphs are compiled once."""
    return TextGenerator(load_original(fixtures), Letters())


def test_greedy_ids_equal_the_originals(generator, fixtures):
    expected = np.load(fixtures / "expected.npz")
    prompt, continued = expected["input_ids"][0, :8], expected["greedy_ids"][0, 8:]
    rows = generator.continue_ids([prompt.tolist(), [5]], GREEDY)
    assert rows[0][: len(continued)] == continued.tolist()


def test_cached_and_uncached_greedy_ids_are_equal_to_the_end_of_the_window(generator, original, ids):
    cached = generator.continue_ids([ids[0, :8].tolist(), ids[1, :30].tolist()], GREEDY)
    uncached = np.zeros((2, 64), np.int32)
    uncached[0, :8], uncached[1, :30] = ids[0, :8], ids[1, :30]
    for at in range(8, 64):
        chosen = original(ms.Tensor(uncached), ms.Tensor(0, ms.int32)).asnumpy()[:, at - 1].argmax(-1)
        uncached[0, at] = chosen[0]
        if at >= 30:
            uncached[1, at] = chosen[1]
    assert uncached[0, 8:].tolist() == cached[0]
    assert uncached[1, 30:].tolist() == cached[1]


def test_a_row_does_not_depend_on_its_batch(generator, ids):
    first, second, third = ids[0, :8].tolist(), ids[1, :20].tolist(), ids[1, :3].tolist()
    sampling = Sampling(temperature=1.0, max_new_tokens=20)
    with_second = generator.continue_ids([first, second], sampling, seed=5)
    with_third = generator.continue_ids([first, third], sampling, seed=5)
    assert with_second[0] == with_third[0]
    assert with_second[1] != with_third[1]


def test_the_same_seed_gives_the_same_samples_and_another_does_not(generator):
    sampling = Sampling(temperature=1.5, max_new_tokens=20)
    once, again, other = (generator.generate(["abc"] * 2, sampling, seed=seed) for seed in (1, 1, 2))
    assert once == again
    assert once != other
    assert once[0] != once[1]


def test_stop_ends_a_row_and_keeps_what_it_saw(generator):
    texts = generator.generate(["abc", "xyz"], GREEDY, stop=lambda text: len(text) >= 5)
    assert [len(text) for text in texts] == [5, 5]


@pytest.mark.parametrize("prompt", ["", "x" * 64, "x" * 1000])
def test_a_prompt_that_leaves_no_room_is_refused(generator, prompt):
    with pytest.raises(UserError, match=f"a prompt of {len(prompt)} tokens.*window of 64"):
        generator.generate([prompt], GREEDY)


def test_a_long_prompt_is_cut_from_the_left_if_asked(generator):
    ending = "".join(chr(100 + i) for i in range(44))
    sampling = Sampling(temperature=0.0, max_new_tokens=20)
    long, short = ("x" * 500 + ending, ending)
    cut = generator.generate([long, short], sampling, long_prompts="truncate")
    assert cut[0] == cut[1]
    assert len(cut[0]) == 20


def test_top_k_and_top_p_keep_the_most_likely_tokens():
    logits = np.log(np.array([0.1, 0.4, 0.2, 0.3]))
    generator = np.random.default_rng(0)

    def drawn(**settings):
        return {choose(logits, Sampling(temperature=1.0, **settings), generator) for _ in range(500)}

    assert drawn(top_p=1.0) == {0, 1, 2, 3}
    assert drawn(top_k=2, top_p=1.0) == {1, 3}
    assert drawn(top_p=0.65) == {1, 3}
    assert drawn(top_p=0.75) == {1, 2, 3}
    assert choose(logits, Sampling(temperature=0.0), generator) == 1


def test_sampling_frequencies_are_the_probabilities():
    logits = np.log(np.array([0.5, 0.25, 0.25]))
    generator = np.random.default_rng(0)
    draws = [choose(logits, Sampling(temperature=1.0, top_p=1.0), generator) for _ in range(20_000)]
    assert np.abs(np.bincount(draws) / 20_000 - [0.5, 0.25, 0.25]).max() < 5 * 0.5 / np.sqrt(20_000)


@pytest.mark.parametrize(
    "settings", [{"temperature": -1}, {"temperature": math.nan}, {"top_k": -1}, {"top_p": 0}, {"max_new_tokens": 0}]
)
def test_settings_without_meaning_are_refused(settings):
    with pytest.raises(UserError, match=str(next(iter(settings.values())))):
        Sampling(**settings)
