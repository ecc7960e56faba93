"""SentencePiece keeps every text, gives the ids of the library itself, and is trained alike every time."""

import io
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.data.tokenizers import Tokenizer, load_tokenizer, sentence_pieces, train_tokenizer

STDLIB = Path(sysconfig.get_path("stdlib"))
CHINESE = "# 计算两个数的和,并返回结果。\ndef 加(甲, 乙):\n\treturn 甲 + 乙  # 变量\n\n"
SPELT = "<s> </s> <unk> <|endoftext|> <|fim_prefix|> <0x0A> <0xE2> <pad>\n"
SPECIAL = ("<|fim_prefix|>",)


def real_texts() -> list[str]:
    names = ["argparse.py", "ast.py", "tokenize.py", "turtle.py", "pydoc.py"]
    return [(STDLIB / name).read_text(encoding="utf-8") for name in names]


def training_texts() -> list[str]:
    return [*real_texts(), CHINESE * 300, SPELT * 300, "\0▁", ""]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("pieces") / "tokenizer"
    return train_tokenizer(training_texts(), 2000, folder, "sentencepiece", SPECIAL)


@pytest.fixture(scope="module")
def library(tokenizer: Tokenizer) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(tokenizer.folder / "tokenizer.model"))


ALPHABET = st.sampled_from(" \t\n\r▁_ab1é变，。🎉\u3000\u00a0\ufeff\x00<>|'\"=(") | st.characters(
    exclude_categories=["Cs"]
)


@settings(max_examples=60, deadline=None)
@given(st.text(ALPHABET, max_size=80))
def test_every_text_comes_back_exactly(tokenizer, text):
    ids = tokenizer.encode(text, eod_in_text=False)
    assert tokenizer.decode_bytes(ids).decode() == tokenizer.decode(ids) == text
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert all(0 <= id < tokenizer.vocab_size for id in ids)


@settings(max_examples=60, deadline=None)
@given(st.text(ALPHABET.filter(lambda letter: letter != "▁"), max_size=80))
def test_ids_are_those_of_the_library_on_the_whole_text(tokenizer, library, text):
    assert tokenizer.encode(text, eod_in_text=False) == library.encode(text)


def test_ids_are_those_of_the_library_on_real_files(tokenizer, library):
    for text in [*real_texts(), CHINESE * 9, (STDLIB / "this.py").read_text(), " " * 100 + "x\n\n\t\t\ty"]:
        ids = tokenizer.encode(text)
        assert ids == library.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.encode_array(text).tolist() == ids


def test_a_model_whose_pieces_cross_words_is_given_whole_texts(tmp_path):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(real_texts()), model_writer=model, model_type="bpe", vocab_size=2000, byte_fallback=True,
        normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
        split_by_unicode_script=False, split_by_whitespace=False, max_sentence_length=1 << 20, minloglevel=2,
    )  # fmt: skip
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    other = load_tokenizer(tmp_path)
    library = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    assert any(b"a b" in other.token_bytes(id) or b"(self" in other.token_bytes(id) for id in range(other.vocab_size))
    for text in real_texts()[:2]:
        assert other.encode(text) == library.encode(text) and other.decode(other.encode(text)) == text
    assert other.eod_id == library.eos_id() == other.special_id("</s>")


def test_blanks_line_ends_and_tabs_are_pieces_and_digits_stand_alone(tokenizer):
    assert [tokenizer.token_bytes(id) for id in tokenizer.encode("2024")] == [b"2", b"0", b"2", b"4"]
    assert len(tokenizer.encode(" " * 8)) == 1
    for text in "\n\t\r":
        assert len(tokenizer.encode(text)) == 1
    assert len(tokenizer.encode("变量")) < len("变量".encode())


def test_text_that_spells_a_special_token_stays_ordinary(tokenizer):
    special = {tokenizer.special_id(name) for name in ("<unk>", "<|endoftext|>", "<|fim_prefix|>")}
    assert special == {0, 1, 2} and tokenizer.eod_id == 1
    ids = tokenizer.encode(SPELT, eod_in_text=False)
    assert not special & set(ids) and tokenizer.decode(ids) == SPELT
    assert tokenizer.encode("a<|endoftext|>b").count(1) == 1
    assert tokenizer.decode([1, 2]) == "<|endoftext|><|fim_prefix|>" and tokenizer.decode_bytes([0, 1, 2]) == b""
    assert tokenizer.special_id("<0x0A>") is None and tokenizer.special_id("return") is None


TRAIN = """
import sys
from pathlib import Path
from mindgeex.data.tokenizers import train_tokenizer
from tests.data.test_sentencepiece import SPECIAL, training_texts
train_tokenizer(iter(training_texts()), 2000, Path(sys.argv[1]), "sentencepiece", SPECIAL)
"""


def test_training_gives_the_same_bytes_in_every_process(tokenizer, tmp_path):
    root = Path(__file__).parents[2]
    for number in range(2):
        command = ["taskset", "-c", "0"] if number and Path("/usr/bin/taskset").exists() else []
        command += [sys.executable, "-c", TRAIN, str(tmp_path / str(number))]
        environment = {"PYTHONHASHSEED": str(number), "OMP_NUM_THREADS": str(1 + number)}
        subprocess.run(command, check=True, cwd=root, env=environment)
        again = load_tokenizer(tmp_path / str(number))
        model = (again.folder / "tokenizer.model").read_bytes()
        assert model == (tokenizer.folder / "tokenizer.model").read_bytes()
        assert again.fingerprint == tokenizer.fingerprint


def test_the_size_really_reached_is_told(tmp_path):
    large = train_tokenizer(real_texts(), 100_864, tmp_path / "large", "sentencepiece")
    assert 2000 < large.vocab_size < 100_864
    assert large.files() == ("tokenizer.model",) == tuple(path.name for path in large.folder.iterdir())
    small = train_tokenizer(["abc abd\n" * 50], 267, tmp_path / "small", "sentencepiece")
    assert small.vocab_size == 267 and small.decode(small.encode("xyz é")) == "xyz é"


@pytest.mark.parametrize(
    ("texts", "vocab_size", "message"),
    [
        (["abc"], 261, "vocab_size=261 is too small: bytes and special tokens take 262"),
        (["".join(map(chr, range(0x4E00, 0x5200)))], 400, r"too small for the characters .* at least 1\d\d\d"),
        ([], 400, "nothing to learn from"),
        (["", "\n\n"], 400, "nothing to learn from"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_says_what_to_do(texts, vocab_size, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train_tokenizer(texts, vocab_size, tmp_path / "t", "sentencepiece")
    assert not (tmp_path / "t").exists()


def test_the_size_an_error_names_is_enough(tmp_path):
    texts = ["".join(map(chr, range(0x4E00, 0x5200)))]
    with pytest.raises(UserError) as error:
        train_tokenizer(texts, 400, tmp_path / "t", "sentencepiece")
    enough = int(str(error.value).partition("at least ")[2].partition(",")[0])
    assert train_tokenizer(texts, enough, tmp_path / "t", "sentencepiece").vocab_size <= enough


def test_more_than_memory_should_hold_is_refused(tmp_path):
    block = "x = 1\n" * (1 << 20)
    blocks = (block for _ in range(sentence_pieces.MAX_BYTES // len(block) + 1))
    with pytest.raises(UserError, match="more than 268 MB to learn from"):
        train_tokenizer(blocks, 400, tmp_path / "t", "sentencepiece")


@pytest.mark.parametrize("damage", [lambda model: b"", lambda model: b"abc", lambda model: model[: len(model) // 2]])
def test_a_damaged_model_is_a_user_error(tokenizer, tmp_path, damage):
    (tmp_path / "tokenizer.model").write_bytes(damage((tokenizer.folder / "tokenizer.model").read_bytes()))
    with pytest.raises(UserError, match=r"tokenizer.model: cannot be read as a SentencePiece model"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("options", [{}, {"normalization_rule_name": "identity"}, {"byte_fallback": True}])
def test_a_model_that_would_change_texts_is_refused(tmp_path, options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(real_texts()),
        model_writer=model,
        vocab_size=600,
        max_sentence_length=1 << 20,
        minloglevel=2,
        **options,
    )
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    with pytest.raises(UserError, match="does not keep texts exactly"):
        load_tokenizer(tmp_path)


def test_long_monotonous_texts_stay_fast(tokenizer):
    for text in ("\n" * 100_000 + "x", " " * 100_001 + "x", "a" * 100_000, "▁" * 20_000, "变" * 50_000, '"' * 100_000):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_what_goes_wrong_in_the_texts_is_not_hidden(tmp_path):
    def texts():
        yield "abc"
        raise KeyError("a broken source")

    with pytest.raises(KeyError, match="a broken source"):
        train_tokenizer(texts(), 400, tmp_path / "t", "sentencepiece")
