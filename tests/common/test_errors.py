"""Suggestions for a misspelt word."""

import pytest

from mindgeex.common.errors import did_you_mean


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("pyton", ["python", "go"], "; did you mean 'python'?"),
        ("zzz", ["python", "go"], "; known: python, go"),
        ("zzz", [], ""),
        ("b", iter(["a1", "b1"]), "; did you mean 'b1'?"),
    ],
)
def test_the_nearest_word_or_all_of_them(word: str, known: list[str], expected: str) -> None:
    assert did_you_mean(word, known) == expected
