"""CodeFuseEval's rules for completions, except translations (process_humaneval_test of codefuseEval/evaluation.py).

Python: every line in column 0 is dropped except the first line of a function or a class, and what follows it is kept;
if the rest begins with a function, it stands alone, without the prompt, so helpers of the prompt are missing then. A
decorator or `async` before a function is lost, and a comment in column 0 that contains `def ` becomes code. More
modules are imported than in CodeGeeX's programs. Other languages: prompt and completion as they are.

Does not cover: what CodeFuse's model processors do before a generation is written to its file (fences, docstrings).
"""

import re

from mindgeex.eval.problem import Kept, Problem


def keep(problem: Problem, completion: str) -> Kept:
    """What the published assembly makes of a completion."""
    if problem.language != "python":
        return Kept(problem.prompt, completion)
    code = "\n".join(kept for line in completion.split("\n") if (kept := _line(line)) is not None)
    return Kept("" if code.startswith("def") else problem.prompt, code, "codefuse")


def _line(line: str) -> str | None:
    """The line, as far as it is kept."""
    indented = line[:1] in (" ", "\t")
    if "def " in line and not indented:
        return "def " + line.split("def ")[1]
    if "class" in line and line.strip().endswith(":"):
        return line
    return None if line.strip() and not indented else line


def keep_block(completion: str) -> Kept:
    """What process_test_for_mbpp makes of an answer that is a whole program: the first fenced block, if there is one.

    The word `python` becomes a space wherever it stands in the block, as published.
    """
    fenced = re.search(r"```(.*?)```", completion, re.DOTALL)
    return Kept("", fenced[1].replace("python", " ") if fenced else completion, "codefuse")
