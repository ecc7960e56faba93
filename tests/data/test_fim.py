"""Fill in the middle: the parts are the text, the order is the paper's, and the key alone decides."""

import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.config import build_config
from mindgeex.common.errors import UserError
from mindgeex.data.fim import FimRules, cut, encode_document, is_cut, token_ids
from mindgeex.data.tokenizers import Tokenizer, load_tokenizer, train_tokenizer

TAG = "# language: Python"
RULES = FimRules(rate=1.0)
TEXTS = ["def add(first, second):\n    return first + second  # 变量 🎉\n" * 9]
KEYS = [("1", "repo", f"file{number}.py") for number in range(400)]


def encoded(*arguments) -> list[int]:
    return encode_document(*arguments).tolist()


@pytest.fixture(scope="module", params=["bpe", "sentencepiece"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train_tokenizer(TEXTS, 330, tmp_path_factory.mktemp("fim") / "tokenizer", request.param, RULES.tokens)


def parts(ids: list[int], tokenizer: Tokenizer) -> tuple[str, dict[str, str]]:
    """What stands in front of the first special token, and behind each; read from the ids alone."""
    names = {tokenizer.special_id(name): name for name in RULES.tokens}
    places = [place for place, id in enumerate(ids) if id in names]
    found = {
        names[ids[start]]: tokenizer.decode_bytes(ids[start:end]).decode()
        for start, end in zip(places, [*places[1:], len(ids)], strict=True)
    }
    return tokenizer.decode_bytes(ids[: places[0]]).decode(), found


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60), number=st.integers(0, 10**6))
def test_prefix_middle_and_suffix_together_are_the_text(text, number):
    assert "".join(cut(text, (str(number),))) == text


@settings(max_examples=40, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60), number=st.integers(0, 10**6))
def test_the_ids_give_the_parts_back_in_the_order_of_the_paper(tokenizer, text, number):
    prefix, middle, suffix = cut(text, ("key", str(number)))
    psm = encoded(text, TAG, tokenizer, FimRules(rate=1.0, spm_rate=0.0), ("key", str(number)))
    spm = encoded(text, TAG, tokenizer, FimRules(rate=1.0, spm_rate=1.0), ("key", str(number)))
    names = RULES.tokens
    assert parts(psm, tokenizer) == (TAG + "\n", {names[0]: prefix, names[2]: suffix, names[1]: middle})
    assert parts(spm, tokenizer) == (TAG + "\n", {names[0]: "", names[2]: suffix, names[1]: prefix + middle})
    order = {tokenizer.special_id(name): name for name in names}
    assert [order[id] for id in psm if id in order] == [order[id] for id in spm if id in order]
    assert [order[id] for id in psm if id in order] == [names[0], names[2], names[1]]


def test_a_document_that_is_not_cut_is_encoded_as_ever(tokenizer):
    whole = tokenizer.encode(f"{TAG}\n{TEXTS[0]}", eod_in_text=False)
    assert encoded(TEXTS[0], TAG, tokenizer, FimRules(), KEYS[0]) == whole
    mixed = [encoded(TEXTS[0], TAG, tokenizer, FimRules(rate=0.5), key) == whole for key in KEYS]
    assert mixed == [not is_cut(FimRules(rate=0.5), key) for key in KEYS]
    assert encode_document(TEXTS[0], TAG, tokenizer, FimRules(), KEYS[0]).dtype == np.int32


def test_text_that_spells_the_tokens_or_eod_stays_ordinary(tokenizer):
    text = "<|fim_prefix|><|endoftext|><|fim_middle|>" * 3
    ids = encoded(text, TAG, tokenizer, RULES, KEYS[0])
    special = [tokenizer.special_id(name) for name in (*RULES.tokens, "<|endoftext|>")]
    assert [ids.count(id) for id in special] == [1, 1, 1, 0]


def test_the_shares_are_those_asked_for_and_every_place_is_cut():
    rules = FimRules(rate=0.7)
    assert sum(is_cut(rules, key) for key in KEYS) == pytest.approx(0.7 * len(KEYS), abs=0.1 * len(KEYS))
    pieces = [cut(string.ascii_lowercase, key) for key in KEYS]
    assert {len(prefix) for prefix, _, _ in pieces} >= set(range(20))
    assert {len(suffix) for _, _, suffix in pieces} >= set(range(20))
    assert sum(len(middle) for _, middle, _ in pieces) / len(KEYS) == pytest.approx(26 / 3, rel=0.15)


def test_the_choice_is_the_same_on_every_machine():
    assert cut(string.ascii_lowercase, ("1", "repo", "a.py")) == ("abcd", "efghijklmnopqrs", "tuvwxyz")
    assert [is_cut(FimRules(rate=0.5), key) for key in KEYS[:8]] == [False, True, False, True, True, True, False, False]


def test_a_tokenizer_without_the_tokens_is_refused_with_the_remedy(tmp_path):
    plain = train_tokenizer(TEXTS, 300, tmp_path / "plain")
    with pytest.raises(UserError, match=r"no special token <\|fim_prefix\|> .*mindgeex tokenizer train --special"):
        encoded(TEXTS[0], TAG, plain, RULES, KEYS[0])
    assert encoded(TEXTS[0], TAG, plain, FimRules(), KEYS[0]) == plain.encode(f"{TAG}\n{TEXTS[0]}")


def test_codegeex_s_unused_tokens_serve_and_its_whitespace_tokens_do_not(reference_data: Path):
    codegeex = load_tokenizer(reference_data / "tokenizers" / "codegeex")
    rules = FimRules(rate=1.0, tokens=tuple(f"<|extratoken_{number}|>" for number in (140, 141, 142)))
    ids = encoded(TEXTS[0], TAG, codegeex, rules, KEYS[0])
    assert token_ids(codegeex, rules) == (50396, 50397, 50398)
    assert [ids.count(id) for id in (50396, 50397, 50398)] == [1, 1, 1]
    with pytest.raises(UserError, match=r"no special token <\|extratoken_12\|>"):
        token_ids(
            codegeex, FimRules(rate=1.0, tokens=("<|extratoken_140|>", "<|extratoken_12|>", "<|extratoken_142|>"))
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": 1.5}, "fim.rate=1.5: must lie between 0 and 1"),
        ({"spm_rate": -0.1}, "fim.spm_rate=-0.1: must lie between 0 and 1"),
        ({"tokens": ("a", "b")}, "three different tokens"),
        ({"tokens": ("a", "b", "a")}, "three different tokens"),
    ],
)
def test_rules_that_make_no_sense_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        FimRules(**values)


def test_the_rules_are_read_from_yaml_s_types():
    assert build_config(FimRules, {"rate": 0.5, "tokens": ["a", "b", "c"]}, "x.yaml").tokens == ("a", "b", "c")
