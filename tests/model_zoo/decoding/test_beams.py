"""Beam search finds what transformers' finds, and with enough beams the best there is."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from mindgeex.model_zoo.decoding.beams import beam_search
from mindgeex.model_zoo.decoding.generator import TextGenerator
from mindgeex.model_zoo.decoding.settings import Beams, Sampling
from mindgeex.model_zoo.decoding.stops import StopStrings
from tests.model_zoo.decoding.conftest import Letters, letters
from tests.model_zoo.foreign import load_foreign

VARIANTS = [
    {"length_penalty": 1.0},
    {"length_penalty": 0.0},
    {"length_penalty": 3.0},
    {"length_penalty": -1.0},
    {"length_penalty": 1.0, "early_stopping": True},
    {"length_penalty": 1.0, "repetition_penalty": 1.4},
    {"length_penalty": 1.0, "max_new_tokens": 200},
]

HUGGING_FACE = """
import json, sys
import numpy as np, torch
from transformers import AutoModelForCausalLM
folder, variants = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(folder).eval()
prompt = torch.from_numpy(np.load(folder + "/expected.npz")["input_ids"][:1, :8].astype(np.int64))
common = dict(max_new_tokens=24, do_sample=False, pad_token_id=0, attention_mask=torch.ones_like(prompt))
greedy = model.generate(prompt, **common, eos_token_id=511)[0, 8:].tolist()
eos = next(id for at, id in enumerate(greedy) if at > 4 and id not in greedy[:at])
found = []
for variant in variants:
    variant["max_new_tokens"] = min(variant.get("max_new_tokens", 24), 56)
    out = model.generate(prompt, **{**common, **variant}, eos_token_id=eos, num_beams=4, num_return_sequences=3,
                         return_dict_in_generate=True, output_scores=True)
    found.append({"ids": out.sequences[:, 8:].tolist(), "scores": out.sequences_scores.tolist()})
penalised = model.generate(prompt, **common, eos_token_id=511, repetition_penalty=1.3)[0, 8:].tolist()
print(json.dumps({"prompt": prompt[0].tolist(), "greedy": greedy, "eos": eos, "beams": found, "penalised": penalised}))
"""


@pytest.fixture(scope="module")
def neox(reference_data):
    """Always used with at most four rows."""
    return TextGenerator(load_foreign(reference_data / "fixtures" / "gpt_neox_hf_tiny"), Letters(), max_rows=1)


@pytest.fixture(scope="module")
def transformers(reference_data, interop):
    """What transformers' generate gives; in a process of its own, since PyTorch and MindSpore share no memory well."""
    command = [sys.executable, "-c", HUGGING_FACE, str(reference_data / "fixtures" / "gpt_neox_hf_tiny")]
    ran = subprocess.run([*command, json.dumps(VARIANTS)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout)


@pytest.mark.parametrize("number", range(len(VARIANTS)), ids=lambda number: str(VARIANTS[number]))
def test_the_best_texts_and_their_scores_are_those_of_transformers(neox, transformers, number, monkeypatch):
    monkeypatch.setattr(neox.tokenizer, "eod_id", transformers["eos"])
    settings = {"max_new_tokens": 24, **VARIANTS[number]}
    found = neox.search(letters(transformers["prompt"]), Beams(num_beams=4, num_return=3, **settings))
    expected, eos = transformers["beams"][number], transformers["eos"]
    ended = [eos in ids for ids in expected["ids"]]  # what follows it is filled up with it
    assert [one.ended_by for one in found] == ["eod" if end else "length" for end in ended]
    assert [list(one.ids) for one in found] == [ids[: ids.index(eos)] if eos in ids else ids for ids in expected["ids"]]
    np.testing.assert_allclose([one.score for one in found], expected["scores"], atol=1e-4)


def test_some_texts_of_transformers_end_and_some_do_not(transformers):
    ends = [transformers["eos"] in ids for variant in transformers["beams"] for ids in variant["ids"]]
    assert set(ends) == {True, False}


@pytest.mark.parametrize(("name", "penalty"), [("greedy", 1.0), ("penalised", 1.3)])
def test_greedy_ids_are_those_of_transformers(neox, transformers, name, penalty):
    sampling = Sampling(temperature=0.0, max_new_tokens=24, repetition_penalty=penalty)
    [found] = neox.generate([letters(transformers["prompt"])], sampling)
    assert list(found.ids) == transformers[name]


class Table:
    """A decoder whose logits are a function of the ids so far: no network, so every text can be tried."""

    window = 32

    def __init__(self, vocab_size=5, seed=0):
        self.vocab_size, self.seed = vocab_size, seed
        self.rows = []

    def logits(self, ids):
        return np.random.default_rng([self.seed, *ids]).normal(0, 2, self.vocab_size).astype(np.float32)

    def prefill(self, prompts):
        self.rows = [tuple(prompt) for prompt in prompts]
        return np.stack([self.logits(row) for row in self.rows])

    def step(self, ids_B):
        self.rows = [(*row, int(id)) for row, id in zip(self.rows, ids_B, strict=True)]
        return np.stack([self.logits(row) for row in self.rows])

    def reorder(self, rows):
        self.rows = [self.rows[row] for row in rows]


class Five(Letters):
    vocab_size = 5


def every_text(table, prompt, length, length_penalty):
    """Score and ids of all texts of `length` ids, or fewer and the end of the document (id 0)."""
    found = []
    for count in range(1, length + 1):
        for ids in itertools.product(range(1, 5), repeat=count - 1):
            for last in range(5) if count == length else (0,):
                text, score = (*ids, last), 0.0
                for at, id in enumerate(text):
                    logits = table.logits((*prompt, *text[:at])).astype(np.float64)
                    score += logits[id] - np.log(np.exp(logits).sum())
                found.append((score / count**length_penalty, tuple(id for id in text if id)))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_with_as_many_beams_as_texts_the_best_are_found(seed, length_penalty):
    table, prompt = Table(seed=seed), (2, 3)
    beams = Beams(num_beams=300, num_return=10, length_penalty=length_penalty, max_new_tokens=4)
    found = beam_search(table, Five(eod_id=0), prompt, beams)
    expected = every_text(table, prompt, 4, length_penalty)[:10]
    assert [one.ids for one in found] == [ids for _, ids in expected]
    np.testing.assert_allclose([one.score for one in found], [score for score, _ in expected], rtol=1e-9)


def test_one_beam_is_greedy():
    table, ids = Table(seed=1), (2,)
    for _ in range(8):
        ids += (int(table.logits(ids).argmax()),)
    [found] = beam_search(table, Five(eod_id=-1), (2,), Beams(num_beams=1, max_new_tokens=8))
    assert found.ids == ids[1:]


def test_a_beam_ends_at_a_stop_and_is_cut_there():
    table = Table(seed=2)
    free = beam_search(table, Five(eod_id=0), (1,), Beams(num_beams=3, num_return=3, max_new_tokens=6))
    string = letters(max(free, key=lambda one: len(one.ids)).ids[1:3])
    found = beam_search(
        table, Five(eod_id=0), (1,), Beams(num_beams=3, num_return=3, max_new_tokens=6), StopStrings((string,))
    )
    assert any(one.ended_by == "stop" for one in found)
    for one in found:
        assert string not in one.text
        assert one.text == letters(one.ids)[: letters(one.ids).find(string) if one.ended_by == "stop" else None]


def test_a_window_that_is_nearly_full_bounds_the_text():
    found = beam_search(Table(seed=4), Five(eod_id=0), (1,) * 30, Beams(num_beams=2, max_new_tokens=100))
    assert len(found[0].ids) <= 2
