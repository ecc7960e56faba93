import dataclasses
import pickle

import pytest

from mindgeex.common.errors import UserError
from mindgeex.data.document import Document
from mindgeex.data.filters import Rules, alphabetic, first_reason, short_lines, size
from mindgeex.data.generated import GENERATED_RULES


def doc(text: str, path: str = "a.py") -> Document:
    return Document(text, "python", "repo", path)


@pytest.mark.parametrize(
    ("num_bytes", "reason"), [(1023, "too_small"), (1024, None), (102_400, None), (102_401, "too_large")]
)
def test_size_bounds_are_included(num_bytes, reason):
    rule = size(Rules().min_bytes, Rules().max_bytes)
    assert rule(doc("a" * num_bytes)) == reason
    assert rule(doc("é" * (num_bytes // 2) + "a" * (num_bytes % 2))) == reason  # bytes, not characters


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a" * 100, None),
        ("a" * 101, "long_lines"),
        ("a" * 100 + "\n", None),
        ("a" * 200 + "\n\n", None),
        ("a" * 201 + "\n\n", "long_lines"),
        (("a" * 100 + "\n") * 50, None),
        (("a" * 100 + "\n") * 50 + "a" * 101, "long_lines"),
        ("", None),
    ],
)
def test_average_line_may_have_100_characters(text, reason):
    assert short_lines(100)(doc(text)) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a" * 40 + "1" * 60, None),
        ("a" * 39 + "1" * 61, "few_letters"),
        ("变" * 40 + "1" * 60, None),
        ("变" * 39 + "1" * 61, "few_letters"),
        ("Z" * 4 + " " * 3 + "\n" * 3, None),
        ("_" * 10, "few_letters"),
        ("", None),
    ],
)
def test_letters_are_two_fifths_of_all_characters(text, reason):
    assert alphabetic(0.40)(doc(text)) == reason


def test_prose_may_have_long_lines_but_keeps_to_the_other_rules():
    paragraph = Document("The words of a paragraph stand on one line. " * 50, "english", "repo", "a.txt")
    assert first_reason(paragraph, Rules().filters()) is None
    assert first_reason(dataclasses.replace(paragraph, language="python"), Rules().filters()) == "long_lines"
    assert first_reason(dataclasses.replace(paragraph, text="1 " * 1000), Rules().filters()) == "few_letters"
    assert first_reason(dataclasses.replace(paragraph, text="short"), Rules().filters()) == "too_small"


def test_the_first_rule_that_drops_gives_the_reason():
    assert first_reason(doc("1" * 1023), Rules().filters()) == "too_small"
    assert first_reason(doc("1" * 2000), Rules().filters()) == "long_lines"
    assert first_reason(doc("1\n" * 2000), Rules().filters()) == "few_letters"
    assert first_reason(doc("# do not edit\n" + "word\n" * 300), Rules().filters()) == "generated_header"
    assert first_reason(doc("1", "vendor/package-lock.json"), Rules().filters()) == "lock_file"
    assert first_reason(doc("1", "vendor/a.py"), Rules().filters()) == "vendored"
    assert first_reason(doc("# do not edit\n" + "word\n" * 300), Rules(drop_generated=False).filters()) is None
    assert first_reason(doc("word\n" * 300, "vendor/a.py"), Rules(keep_vendored=True).filters()) is None


def test_rules_travel_to_workers_and_their_name_and_text_rules_do():
    assert pickle.loads(pickle.dumps(Rules(min_bytes=5))) == Rules(min_bytes=5)
    assert pickle.loads(pickle.dumps(GENERATED_RULES)) == GENERATED_RULES


def test_impossible_thresholds_are_refused():
    with pytest.raises(UserError, match="rules.min_bytes=10, rules.max_bytes=5"):
        Rules(min_bytes=10, max_bytes=5)
    with pytest.raises(UserError, match="min_alphabetic_share=40"):
        Rules(min_alphabetic_share=40)
