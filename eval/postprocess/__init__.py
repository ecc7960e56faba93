"""What is kept of a completion: rule sets by name, each in a file of its own, each with a version.

The choice decides the score: a model whose answers repeat the whole function gets 37.8 % where they are taken as they
are, and 9.2 % where CodeGeeX's rules cut them. So a report shows every rule set side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mindgeex.eval.postprocess import codefuse, codegeex, raw, sanitize
from mindgeex.eval.problem import Kept, Problem


@dataclass(frozen=True)
class Rules:
    """One rule set."""

    version: str
    """Its name with a number that changes whenever the rules do."""
    about: str
    keep: Callable[[Problem, str], Kept]


RULES = {
    "codegeex": Rules("codegeex-v1", "CodeGeeX's rules, which only cut (and close a Java class)", codegeex.keep),
    "raw": Rules("raw-v1", "the whole completion behind the prompt", raw.keep),
    "codefuse": Rules(
        "codefuse-v1", "CodeFuseEval's: a Python function written anew replaces the prompt", codefuse.keep
    ),
    "sanitize": Rules("sanitize-v1", "cut at the end of the function, by its syntax tree", sanitize.keep),
}
"""Name as typed -> rules."""
