import json
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.data.tokenizers import Tokenizer, fingerprint, load_tokenizer, train_tokenizer, words
from mindgeex.data.tokenizers.byte_bpe import RUNS

STDLIB = Path(sysconfig.get_path("stdlib"))
REAL_FILES = ["argparse.py", "ast.py", "tokenize.py", "turtle.py", "pydoc.py"]


def real_texts() -> list[str]:
    return [(STDLIB / name).read_text(encoding="utf-8") for name in REAL_FILES]


@pytest.fixture(scope="module")
def codegeex(reference_data: Path) -> Tokenizer:
    return load_tokenizer(reference_data / "tokenizers" / "codegeex")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train_tokenizer(real_texts(), 1000, tmp_path_factory.mktemp("tokenizer") / "small")


def hugging_face(folder: Path) -> tokenizers.Tokenizer:
    """The same folder in Hugging Face's tokenizer, with its own pattern and its own handling of added tokens."""
    vocab = json.loads((folder / "vocab.json").read_text())
    added = json.loads((folder / "added_tokens.json").read_text())
    reference = tokenizers.Tokenizer(
        tokenizers.models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    )
    reference.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    # They get the ids that follow: as in the folder, if they are added in the order of their ids.
    names = sorted(added, key=added.__getitem__)
    assert [added[name] for name in names] == [len(vocab) + index for index in range(len(names))]
    reference.add_special_tokens([" " * RUNS[name] if name in RUNS else name for name in names])
    return reference


def test_codegeex_ids_are_identical_on_every_case(codegeex, reference_data):
    lines = (
        (reference_data / "fixtures" / "codegeex_tokenizer" / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    )
    cases = [json.loads(line) for line in lines]
    assert len(cases) == 122
    for case in cases:
        assert codegeex.encode(case["text"]) == case["ids"], case["text"]
        assert codegeex.decode(case["ids"]) == case["decoded"]
    assert (codegeex.vocab_size, codegeex.eod_id) == (50400, 50256)
    assert [codegeex.encode(" " * length) for length in range(2, 11)] == [[50264 + length] for length in range(2, 11)]


def test_codegeex_ids_equal_hugging_face_s_on_real_files(codegeex):
    reference = hugging_face(codegeex.folder)
    for text in real_texts():
        assert codegeex.encode(text) == reference.encode(text).ids


def test_trained_ids_equal_hugging_face_s_on_real_files(small):
    reference = hugging_face(small.folder)
    for text in [*real_texts(), (STDLIB / "this.py").read_text(), "x" + " " * 23 + "y\n\n  \n\t  z"]:
        ids = small.encode(text)
        assert ids == reference.encode(text).ids
        assert small.decode(ids) == text


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.sampled_from(" \t\n\rab_1é变🎉\u00a0\u3000'.") | st.characters(exclude_categories=["Cs"]), max_size=80)
)
def test_white_space_of_every_kind_equals_hugging_face_s(codegeex_and_reference, text):
    tokenizer, reference = codegeex_and_reference
    ids = tokenizer.encode(text, eod_in_text=False)
    assert tokenizer.decode_bytes(ids).decode() == text
    assert ids == reference.encode(text).ids


@pytest.fixture(scope="module")
def codegeex_and_reference(codegeex):
    return codegeex, hugging_face(codegeex.folder)


def test_text_that_spells_a_special_token(small):
    for name in ("<|extratoken_10|>", "<|extratoken_18|>"):
        assert small.decode(small.encode(f"a {name} b")) == f"a {name} b"
        assert not set(small.encode(name)) & set(range(small.eod_id, small.vocab_size))
    text = "a<|endoftext|>b<|endoftext|>"
    assert small.encode(text).count(small.eod_id) == 2
    ordinary = small.encode(text, eod_in_text=False)
    assert small.eod_id not in ordinary and small.decode(ordinary) == text
    assert small.encode_batch([text, ""], eod_in_text=False) == [ordinary, []]


def test_bytes_of_tokens_add_up(small):
    text = "naïve = '变量 🎉'\n" + " " * 12 + "end"
    ids = small.encode(text)
    assert b"".join(map(small.token_bytes, ids)) == small.decode_bytes(ids) == text.encode()
    assert small.token_bytes(small.eod_id) == b"" and small.decode([small.eod_id]) == "<|endoftext|>"
    assert small.decode_bytes([*ids, small.eod_id]) == text.encode()
    first_byte_of_two = small.encode("ï")[:1]
    assert len(small.token_bytes(first_byte_of_two[0])) >= 1
    with pytest.raises(ValueError, match=r"token id 1000 is not in 0\.\.999"):
        small.decode([1000])


def test_training_is_deterministic_and_has_the_size_asked_for(small, tmp_path):
    again = train_tokenizer(iter(real_texts()), 1000, tmp_path / "again")
    for name in ("vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json"):
        assert (again.folder / name).read_bytes() == (small.folder / name).read_bytes()
    assert again.fingerprint == small.fingerprint and len(again.fingerprint) == 64
    assert small.vocab_size == 1000 and small.eod_id == 990
    assert all(b"  " not in small.token_bytes(id) for id in range(990))
    assert [small.encode(" " * length) for length in range(2, 11)] == [[989 + length] for length in range(2, 11)]


def test_a_text_too_poor_for_the_size_gives_a_smaller_vocabulary(tmp_path):
    assert train_tokenizer(["abab"], 500, tmp_path / "poor").vocab_size < 300


def test_long_monotonous_texts_stay_fast(small):
    for text in ("\n" * 100_000 + "x", " " * 100_001 + "x", "a" * 100_000, "\t \t\n" * 30_000 + "x", '"' * 100_000):
        assert small.decode(small.encode(text)) == text


def test_vocabulary_too_small_is_refused(tmp_path):
    with pytest.raises(UserError, match="vocab_size=266 is too small"):
        train_tokenizer(["abc"], 266, tmp_path / "t")
    assert not list(tmp_path.iterdir())
    assert train_tokenizer(["abc"], 267, tmp_path / "t").vocab_size == 267


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_missing_file_is_named(small, tmp_path, name):
    copy(small.folder, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"no {name}"):
        load_tokenizer(tmp_path)


def test_damaged_folders_are_refused(small, tmp_path):
    copy(small.folder, tmp_path)
    (tmp_path / "vocab.json").write_text('{"a": 1')
    with pytest.raises(UserError, match="vocab.json, line 1"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text('["a"]')
    with pytest.raises(UserError, match="expected a mapping"):
        load_tokenizer(tmp_path)
    copy(small.folder, tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    vocab["Ġreturn"], vocab["in"] = vocab["in"], vocab["Ġreturn"]
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    with pytest.raises(UserError, match="ids must follow the order of merges"):
        load_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_bytes(b"\xff \xfe\n")
    with pytest.raises(UserError, match="merges.txt: cannot be read: 'utf-8'"):
        load_tokenizer(tmp_path)
    copy(small.folder, tmp_path)
    added = json.loads((tmp_path / "added_tokens.json").read_text())
    del added["<|extratoken_12|>"]
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    with pytest.raises(UserError, match=r"<\|extratoken_12\|> is missing"):
        load_tokenizer(tmp_path)


def test_plain_gpt2_folder_has_no_whitespace_tokens(small, tmp_path):
    copy(small.folder, tmp_path)
    (tmp_path / "added_tokens.json").unlink()
    plain = load_tokenizer(tmp_path)
    assert plain.vocab_size == 991
    text = "def f():\n        return 1\n"
    assert plain.decode(plain.encode(text)) == text
    assert len(plain.encode(text)) > len(small.encode(text))


def copy(source: Path, target: Path) -> None:
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())


LINES = st.lists(
    st.text(st.sampled_from("ab'sdmtlvre 12_=(){}#\"\t\x0b\x0c\x1c\x85é变🎉\u3000"), max_size=12), max_size=12
).map("\n".join)


@settings(max_examples=60, deadline=None)
@given(LINES)
def test_lines_with_and_without_other_letters_are_parted_without_a_trace(codegeex_and_reference, text):
    tokenizer, reference = codegeex_and_reference
    assert tokenizer.encode(text, eod_in_text=False) == reference.encode(text).ids


@settings(max_examples=60, deadline=None)
@given(LINES)
def test_a_plain_gpt2_folder_cuts_its_words_as_tiktoken_does(plain, text):
    assert plain.encode(text, eod_in_text=False) == plain._encode_any(text)


@pytest.fixture(scope="module")
def plain(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    copy(small.folder, folder)
    (folder / "added_tokens.json").unlink()
    return load_tokenizer(folder)


def test_an_array_holds_the_same_ids_and_is_the_caller_s_own(small):
    for text in ["", "x", real_texts()[0], "a<|endoftext|>b", "é<|endoftext|>"]:
        ids = small.encode_array(text)
        assert ids.dtype == np.int32 and ids.tolist() == small.encode(text)
        ids[:] = -1
        assert -1 not in small.encode(text)


def test_more_words_than_are_remembered_give_the_same_ids(small):
    text = " ".join(f"{number * 7919 % 1000003:x}" for number in range(words.KNOWN_WORDS))
    assert small.encode(text, eod_in_text=False) == small._encode_any(text)
    assert len(small._known) <= words.KNOWN_WORDS
    long = "x" * 500_000
    assert small.encode(long) == small._encode_any(long) and long not in small._known


def test_special_tokens_are_told_by_name_and_no_text_gives_them(tmp_path):
    names = ("<|fim_prefix|>", "<|mine|>")
    tokenizer = train_tokenizer(real_texts()[:1], 500, tmp_path / "t", special=names)
    ids = [tokenizer.special_id(name) for name in names]
    assert ids == [498, 499] and tokenizer.vocab_size == 500
    assert tokenizer.special_id("<|endoftext|>") == tokenizer.eod_id
    assert tokenizer.special_id("<|extratoken_10|>") is None and tokenizer.special_id("print") is None
    assert not set(tokenizer.encode("".join(names), eod_in_text=False)) & set(ids)
    assert tokenizer.decode(ids) == "".join(names) and tokenizer.decode_bytes(ids) == b""


@pytest.mark.parametrize("names", [("<|endoftext|>",), ("<|extratoken_12|>",), ("a", "a"), ("",), ("<unk>",)])
def test_special_tokens_with_a_name_that_is_taken_are_refused(tmp_path, names):
    with pytest.raises(UserError, match="choose another name"):
        train_tokenizer(["abc"], 500, tmp_path / "t", special=names)


def test_the_files_that_make_it_up_are_all_that_a_copy_needs(small, tmp_path):
    assert small.files() == ("vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json")
    for name in small.files():
        (tmp_path / name).write_bytes((small.folder / name).read_bytes())
    assert load_tokenizer(tmp_path).fingerprint == small.fingerprint == fingerprint(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    assert load_tokenizer(tmp_path).files() == small.files()[:3]
    assert fingerprint(tmp_path) == small.fingerprint


def test_a_folder_that_is_no_tokenizer_says_what_one_is(tmp_path):
    for function in (load_tokenizer, fingerprint):
        with pytest.raises(UserError, match=r"no vocab.json, no tokenizer.model: .* folder with vocab.json and merges"):
            function(tmp_path)
    for name in ("vocab.json", "tokenizer.model"):
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(UserError, match=r"holds both vocab.json and tokenizer.model: remove one"):
        load_tokenizer(tmp_path)
