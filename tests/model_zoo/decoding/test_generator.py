"""Decoding with the cache gives what the whole network gives, in any batch; what ends a text; what is refused."""

import mindspore as ms
import numpy as np
import pytest

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.decoding.cache import Decoder
from mindgeex.model_zoo.decoding.generator import TextGenerator
from mindgeex.model_zoo.decoding.settings import Sampling
from mindgeex.model_zoo.decoding.stops import StopStrings, stop_at
from mindgeex.model_zoo.families import build_model
from tests.model_zoo.decoding.conftest import Letters, letters

NO_SEED = ms.Tensor(0, ms.int32)
GREEDY = Sampling(temperature=0.0, max_new_tokens=56)
VARIED = Sampling(temperature=1.5, max_new_tokens=20)


def texts(continuations):
    return [continuation.text for continuation in continuations]


def test_greedy_ids_equal_the_originals(generator, fixtures):
    expected = np.load(fixtures / "expected.npz")
    prompt, continued = expected["input_ids"][0, :8], expected["greedy_ids"][0, 8:]
    first, _ = generator.generate([letters(prompt), "x"], GREEDY)
    assert first.ids[: len(continued)] == tuple(continued)
    assert first.text == letters(first.ids)
    assert first.ended_by == "length"


def test_cached_and_uncached_greedy_ids_are_equal_to_the_end_of_the_window(generator, original, ids):
    cached = generator.generate([letters(ids[0, :8]), letters(ids[1, :30])], GREEDY)
    uncached = np.zeros((2, 64), np.int32)
    uncached[0, :8], uncached[1, :30] = ids[0, :8], ids[1, :30]
    for at in range(8, 64):
        chosen = original(ms.Tensor(uncached), NO_SEED).asnumpy()[:, at - 1].argmax(-1)
        uncached[0, at] = chosen[0]
        if at >= 30:
            uncached[1, at] = chosen[1]
    assert uncached[0, 8:].tolist() == list(cached[0].ids)
    assert uncached[1, 30:].tolist() == list(cached[1].ids)


@pytest.mark.parametrize("family", ["codegeex", "gpt_neox"])
def test_cached_and_uncached_greedy_ids_are_equal_for_200_steps(family):
    ms.set_seed(7)
    sizes = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 64, "vocab_size": 97}
    config = ModelConfig(family, **sizes, seq_length=256, dropout_rate=0.0, init_std=0.3, eod_id=-1)
    model = build_model(config).set_train(False)
    ids = np.zeros((1, 256), np.int32)
    ids[0, :5] = [3, 1, 4, 1, 5]
    for at in range(5, 210):
        ids[0, at] = model(ms.Tensor(ids), NO_SEED).asnumpy()[0, at - 1].argmax()
    assert len(set(ids[0, 5:210])) > 10, "a sequence that soon repeats itself proves nothing"
    decoder = Decoder(model)
    logits = decoder.prefill([ids[0, :5].tolist()])
    cached = []
    for _ in range(205):
        cached.append(int(logits[0].argmax()))
        logits = decoder.step(np.array(cached[-1:], np.int32))
    assert cached == ids[0, 5:210].tolist()


def test_a_row_does_not_depend_on_its_batch(generator, ids):
    first, second, third = letters(ids[0, :8]), letters(ids[1, :20]), letters(ids[1, :3])
    with_second = generator.generate([first, second], VARIED, seed=5)
    with_third = generator.generate([first, third], VARIED, seed=5)
    assert with_second[0] == with_third[0]
    assert with_second[1] != with_third[1]


def test_the_same_seed_gives_the_same_samples_and_another_does_not(generator):
    once, again, other = (texts(generator.generate(["abc"] * 2, VARIED, seed=seed)) for seed in (1, 1, 2))
    assert once == again
    assert once != other
    assert once[0] != once[1]


class Counted:
    """A decoder that notes what it is asked."""

    def __init__(self, decoder):
        self.decoder = decoder
        self.calls = []

    def prefill(self, prompts):
        self.calls.append(("prefill", len(prompts)))
        return self.decoder.prefill(prompts)

    def reorder(self, rows):
        self.calls.append(("reorder", tuple(rows)))
        self.decoder.reorder(rows)

    def step(self, ids_B):
        self.calls.append(("step", len(ids_B)))
        return self.decoder.step(ids_B)


def test_samples_do_not_depend_on_how_many_are_made_at_once_and_share_one_reading_of_the_prompt(generator, monkeypatch):
    few = generator.generate(["abc"] * 5, VARIED, seed=3)
    counted = Counted(generator.decoder)
    monkeypatch.setattr(generator, "decoder", counted)
    monkeypatch.setattr(generator, "max_rows", 100)
    many = generator.generate(["abc"] * 5, VARIED, seed=3)
    assert many == few
    assert counted.calls[:2] == [("prefill", 1), ("reorder", (0,) * 5)]
    assert set(counted.calls[2:]) == {("step", 5)}


def test_the_last_batch_is_filled_up_so_that_no_other_graph_is_needed(generator, monkeypatch):
    counted = Counted(generator.decoder)
    monkeypatch.setattr(generator, "decoder", counted)
    assert len(generator.generate(["abc", "x", "y"], VARIED)) == 3
    assert {rows for call, rows in counted.calls if call == "step"} == {2}
    assert [call for call in counted.calls if call[0] != "step"] == [
        ("prefill", 2),
        ("prefill", 1),
        ("reorder", (0, 0)),
    ]


def test_no_prompts_give_no_texts(generator):
    assert generator.generate([], GREEDY) == []


def test_a_text_ends_before_a_stop_string_that_spans_tokens(generator):
    whole = generator.generate(["abc"] * 2, GREEDY)[0].text
    string = whole[7:10]
    assert len(whole) == 56
    assert whole.find(string) == 7
    first, second = generator.generate(["abc"] * 2, GREEDY, stop=StopStrings((string, "never there")))
    assert first == second
    assert (first.text, first.ended_by, len(first.ids)) == (whole[:7], "stop", 10)


def test_a_row_that_has_ended_waits_for_the_others(generator):
    whole = texts(generator.generate(["abc", "xyz"], GREEDY))
    string = next(whole[0][at] for at in range(3, 56) if whole[0][at] not in whole[1] + whole[0][:at])
    ended, going_on = generator.generate(["abc", "xyz"], GREEDY, stop=StopStrings((string,)))
    assert ended.ended_by == "stop"
    assert len(ended.text) < 56
    assert (going_on.text, going_on.ended_by) == (whole[1], "length")


def test_every_id_is_decoded_once(generator, monkeypatch):
    decoded, decode_bytes = [], generator.tokenizer.decode_bytes
    monkeypatch.setattr(generator.tokenizer, "decode_bytes", lambda ids: decoded.extend(ids) or decode_bytes(ids))
    first, second = generator.generate(["abc", "xyz"], GREEDY, stop=StopStrings(("never there",)))
    assert sorted(decoded) == sorted(first.ids + second.ids)


def test_the_end_of_the_document_ends_a_text_and_is_no_part_of_it(generator, monkeypatch):
    whole = generator.generate(["abc", "xyz"], GREEDY)[0].ids
    at = next(at for at in range(3, 56) if whole[at] not in whole[:at])
    monkeypatch.setattr(generator.tokenizer, "eod_id", whole[at])
    first = generator.generate(["abc", "xyz"], GREEDY)[0]
    assert (first.ids, first.text, first.ended_by) == (whole[:at], letters(whole[:at]), "eod")


class Script:
    """A decoder that recites: at every step the next id of a list is the likeliest; then the others, by `scores`."""

    def __init__(self, ids, scores=()):
        self.script, self.scores = list(ids), dict(scores)

    def prefill(self, prompts):
        return self.step([0] * len(prompts))

    def reorder(self, rows):
        pass

    def step(self, ids_B):
        logits_BV = np.zeros((len(ids_B), 512), np.float32)
        for id, score in self.scores.items():
            logits_BV[:, id] = score
        if self.script:
            logits_BV[:, self.script.pop(0)] = 9.0
        return logits_BV


@pytest.mark.parametrize(("ids", "ended_by"), [((97, 98, 511), "eod"), ((97, 98), "length")])
def test_what_a_stop_held_back_comes_at_the_end(generator, monkeypatch, ids, ended_by):
    sampling, stop = Sampling(temperature=0.0, max_new_tokens=len(ids)), StopStrings(("bcd",))
    monkeypatch.setattr(generator, "decoder", Script(ids))
    [found] = generator.generate(["x"], sampling, stop=stop)
    assert (found.text, found.ended_by) == ("ab", ended_by)
    monkeypatch.setattr(generator, "decoder", Script(ids))
    assert list(generator.stream("x", sampling, stop=stop)) == ["a", "b"]


def test_the_penalty_counts_the_prompt_and_what_followed(generator, monkeypatch):
    monkeypatch.setattr(generator, "decoder", Script((), {5: 3.0, 7: 2.9, 9: 2.0}))
    [found] = generator.generate(["\x05"], Sampling(temperature=0.0, max_new_tokens=4, repetition_penalty=2.0))
    assert found.ids == (7, 9, 5, 5)


def test_streamed_pieces_are_the_text(generator):
    stop = stop_at(["never there"])
    pieces = list(generator.stream("abc", VARIED, seed=9, stop=stop))
    assert len(pieces) > 10
    assert "".join(pieces) == generator.generate(["abc"], VARIED, seed=9, stop=stop)[0].text


def test_a_stream_that_is_given_up_leaves_nothing_behind(generator):
    expected = generator.generate(["abc"], GREEDY)
    next(generator.stream("xyz", VARIED))
    assert generator.generate(["abc"], GREEDY) == expected


def test_a_penalty_for_repetition_leads_away_from_what_was_there(generator):
    def repeated(penalty):
        settings = Sampling(temperature=0.0, repetition_penalty=penalty, max_new_tokens=40)
        ids = generator.generate(["abc", "xyz"], settings)[0].ids
        return len(ids) - len(set(ids))

    assert repeated(5.0) < repeated(1.0)


@pytest.mark.parametrize("prompt", ["", "x" * 64, "x" * 1000])
def test_a_prompt_that_leaves_no_room_is_refused(generator, prompt):
    for ask in (lambda: generator.generate([prompt], GREEDY), lambda: generator.stream(prompt, GREEDY)):
        with pytest.raises(UserError, match=f"a prompt of {len(prompt)} tokens.*window of 64"):
            ask()


def test_a_long_prompt_is_cut_from_the_left_if_asked(generator):
    ending = "".join(chr(100 + i) for i in range(44))
    sampling = Sampling(temperature=0.0, max_new_tokens=20)
    cut = generator.generate(["x" * 500 + ending, ending], sampling, long_prompts="truncate")
    assert cut[0] == cut[1]
    assert len(cut[0].text) == 20


def test_a_tokenizer_with_more_ids_than_the_model_has_rows_is_refused(original):
    class Larger(Letters):
        vocab_size = 600

    with pytest.raises(UserError, match="the tokenizer has 600 ids, the model rows for 512"):
        TextGenerator(original, Larger())


def test_no_rows_at_once_are_refused(original):
    with pytest.raises(UserError, match="max-rows is 0: at least 1"):
        TextGenerator(original, Letters(), max_rows=0)
