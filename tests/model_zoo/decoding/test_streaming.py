"""Pieces are whole characters, nothing that is shown is cut away later, and together they are the text."""

import random

import pytest

from mindgeex.model_zoo.decoding.stops import StopStrings, end_of, stop_at
from mindgeex.model_zoo.decoding.streaming import GrowingText

TEXT = "größer: 你好, 👩‍👩‍👧 and 𝒳\n    x = {1}\n\nend"


def pieces_of(data, cuts, stop=None, whole=True):
    growing = GrowingText(stop)
    pieces = []
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        pieces.append(growing.feed(data[begin:end]))
        if growing.ended:
            return pieces
    return [*pieces, growing.finish(whole=whole)]


@pytest.mark.parametrize("seed", range(20))
def test_wherever_tokens_end_the_pieces_are_the_text(seed):
    data = TEXT.encode()
    cuts = sorted(random.Random(seed).sample(range(1, len(data)), random.Random(seed).randint(1, len(data) - 1)))
    pieces = pieces_of(data, cuts)
    assert "".join(pieces) == TEXT
    assert "\ufffd" not in "".join(pieces)


def test_a_character_comes_out_with_its_last_byte():
    assert pieces_of("你x".encode(), [1, 2, 3]) == ["", "", "你", "x", ""]


@pytest.mark.parametrize(
    ("data", "whole", "text"),
    [
        (b"a\xffb", True, "a\ufffdb"),
        (b"a\xe4b", True, "a\ufffdb"),
        (b"a\xe4\xbd", True, "a\ufffd"),  # the document ends within a character: an error in it
        (b"a\xe4\xbd", False, "a"),  # only cut off
        (b"\xe4\xbd\xe4\xbd\xa0", True, "\ufffd你"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_only_bytes_that_are_wrong_become_replacement_characters(data, whole, text, size):
    assert "".join(pieces_of(data, range(size, len(data), size), whole=whole)) == text


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("strings", [("\n\n",), ("好, 👩x", "{1}\n"), ("nowhere",), ("end!", "\n\nend")])
def test_a_stop_is_found_and_nothing_of_it_was_shown(strings, size):
    stop, data = StopStrings(strings), TEXT.encode()
    shown = "".join(pieces_of(data, range(size, len(data), size), stop))
    assert shown == TEXT[: end_of(stop, TEXT)]


def test_what_may_begin_a_stop_waits_until_it_is_none():
    pieces = pieces_of(b"a\nb\n", [1, 2, 3], StopStrings(("\n\n",)))
    assert pieces == ["a", "", "\nb", "", "\n"]


def test_a_language_rule_shows_every_line_that_stays():
    pieces = pieces_of(b"  x\n\n  y\nz", [3, 4, 5, 8, 9], stop_at(language="python"))
    assert pieces == ["  x", "\n", "\n", "  y", "\n", ""]


def test_a_copy_goes_on_by_itself():
    first = GrowingText(StopStrings(("\n\n",)))
    first.feed(b"a\xe4")
    second = first.copy()
    assert first.feed(b"\xbd\xa0") == "你"
    assert second.feed(b"\xbd\xa1\n") == "佡"
    assert (first.finish(whole=True), second.finish(whole=True)) == ("", "\n")


def test_a_copy_watches_for_the_stop_by_itself():
    first = GrowingText(StopStrings(("\n\n",)))
    first.feed(b"a\n")
    second = first.copy()
    assert first.feed(b"x") == "\nx"
    assert second.feed(b"\n") == ""
    assert (first.ended, second.ended) == (False, True)
