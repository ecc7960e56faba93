"""Stops are found wherever tokens begin and end, and the rules of the languages are the published ones."""

import pytest

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.decoding.stops import FUNCTION_ENDS, StopStrings, end_of, stop_at


@pytest.mark.parametrize(
    ("strings", "text", "kept"),
    [
        (("\n\n",), "a\nb\n\nc", "a\nb"),
        (("\n\n",), "a\n \nb", None),
        (("aab",), "aaab", "a"),
        (("abac",), "ababac", "ab"),
        (("xyz", "y"), "axyz", "ax"),
        (("bc", "abc"), "zabc", "z"),
        (("é",), "caféx", "caf"),
        (("a",), "a", ""),
    ],
)
def test_a_text_is_cut_before_the_stop_that_is_complete_first(strings, text, kept):
    end = end_of(StopStrings(strings), text)
    assert (None if end is None else text[:end]) == kept


def test_what_may_become_a_stop_is_held_and_no_more():
    watcher = StopStrings(("abac", "\n\n")).watch()
    held = [(watcher.feed(letter), watcher.held)[1] for letter in "xaba\nb"]
    assert held == [0, 1, 2, 3, 1, 0]


def test_a_copy_goes_on_by_itself():
    for stop in (StopStrings(("ab",)), stop_at(["ab", "ba"], "cpp")):
        first = stop.watch()
        first.feed("a")
        second = first.copy()
        assert first.feed("x") is None
        assert second.feed("b") == 0
        assert first.feed("b") is None


@pytest.mark.parametrize(
    ("language", "text", "kept"),
    [
        ("python", "    return 1", None),
        ("python", "    return 1\n\n    # more\n", None),
        ("python", "    return 1\n \n\t\n", None),
        ("python", "    return 1\n\ndef g", "    return 1\n\n"),
        ("python", "    return 1\n# end", "    return 1\n"),
        ("python", "    return 1\n\r\n", None),
        ("python", "    return 1\n\r x", "    return 1\n"),
        ("python", "x", ""),
        ("cpp", "    if (a) { b(); }\n", None),
        ("cpp", "    return 1;\n}\nint main", "    return 1;\n}"),
        ("java", "        if (a) { return 1; }}}", "        if (a) { return 1; }}"),
        ("javascript", "  return {}\n", None),
        ("go", "}", "}"),
        ("rust", "    S { a }\n}\n}", "    S { a }\n}"),
    ],
)
def test_the_end_of_a_function(language, text, kept):
    end = end_of(FUNCTION_ENDS[language], text)
    assert (None if end is None else text[:end]) == kept


def published(language, text):
    """CodeGeeX's rule as REFERENCE of it says, on the whole text."""
    if language != "python":
        return text.count("{") + 1 == text.count("}")
    lines = any(line.strip() and line[0] not in " \t" for line in text.split("\n"))
    return lines or any(stop in text for stop in ("\ndef", "\nclass", "\nif", "\n#", "\nprint"))


@pytest.mark.parametrize("language", ["python", "cpp"])
def test_a_function_ends_with_the_character_at_which_the_published_rule_first_says_so(language):
    texts = ["    for (;;) { x; }\n    return 1;\n}\n\nint main() {}\n", "\n  \n    x = {}\n\n    y\n\nprint(1)\n", "a"]
    for text in texts:
        first = next((n for n in range(len(text) + 1) if published(language, text[:n])), None)
        watcher = FUNCTION_ENDS[language].watch()
        assert next((n for n, letter in enumerate(text, 1) if watcher.feed(letter) is not None), None) == first


def test_strings_and_a_language_together_end_at_the_first():
    assert end_of(stop_at(["//"], "cpp"), "a // b }") == 2
    assert end_of(stop_at(["//"], "cpp"), "a } // b") == 3
    assert stop_at() is None


@pytest.mark.parametrize(
    ("strings", "language", "message"),
    [
        (["a", ""], None, "a stop string is empty"),
        ([], "pyton", "no stop rule for language 'pyton'; did you mean 'python'"),
    ],
)
def test_stops_without_meaning_are_refused(strings, language, message):
    with pytest.raises(UserError, match=message):
        stop_at(strings, language)
