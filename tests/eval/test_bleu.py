"""Smoothed BLEU has the numbers of CodeXGLUE's published evaluator, which no other BLEU has."""

import math

import pytest

from mindgeex.eval.bleu import smoothed_bleu


@pytest.mark.parametrize(
    "reference, candidate, published",
    [  # computed with CodeXGLUE's evaluator.py
        ("Return the sum of two numbers.", "Returns the sum of the two numbers", 0.4061492579932463),
        ("Opens a file, e.g. a.txt (read-only).", "open file", 0.004764448014328882),
        ("Sort x in 1,000 steps", "Sort x in 1,000 steps", 1.0),
        ("Delete it", "", 0.1353352832366127),
    ],
)
def test_the_numbers_are_those_of_the_published_evaluator(reference, candidate, published):
    assert smoothed_bleu(reference, candidate) == pytest.approx(published, rel=1e-12)


def test_the_formula_by_hand():
    """4 of 5 words, 2 of 4 pairs, 0 of 3 triples, 0 of 2 quadruples; one word shorter than the reference."""
    precision = (4 / 5) * (3 / 5) * (1 / 4) * (1 / 3)
    wanted = precision**0.25 * math.exp(1 - 7 / 6)
    assert smoothed_bleu("a b c d e f", "a b x d e") == pytest.approx(wanted)


def test_case_and_what_follows_a_tab_do_not_count():
    assert smoothed_bleu("Sort the list\tand more", "sort THE list") == 1.0


def test_characters_of_chinese_are_words():
    assert smoothed_bleu("返回两个数的和", "返回两个数的和") == 1.0
    assert smoothed_bleu("返回两个数的和", "返回三个数的差") == pytest.approx(
        ((5 / 7) * (4 / 7) * (2 / 6) * (1 / 5)) ** 0.25, rel=1e-9
    )
