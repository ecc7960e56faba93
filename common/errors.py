"""The one exception for mistakes a user can fix."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input, a missing tool, a full disk: what is wrong, where, the value, and what to do next.

    The command line prints the message without a traceback and exits with code 2. Everything that is
    our own mistake stays an ordinary exception and keeps its traceback.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known word, else the list of known words.

    Returns:
        Text to append to an error message; never empty when `known` is not.
    """
    candidates = list(known)
    near = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(candidates)}" if candidates else ""
