"""Nothing is cut: the whole completion stands behind the prompt.

In Python a function written anew then replaces the unfinished one of the prompt; in other languages it is an error.
"""

from mindgeex.eval.problem import Kept, Problem


def keep(problem: Problem, completion: str) -> Kept:
    """Prompt and completion as they are."""
    return Kept(problem.prompt, completion)
