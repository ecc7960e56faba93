"""Cut at the function, by its syntax tree: what a reader would take from an answer.

A fenced block is unpacked. If the answer defines the function anew, that definition (with what stands above it)
replaces the prompt's; otherwise the answer continues the prompt, up to the end of the function that the prompt began.
What follows either is dropped. Covers the six languages of HumanEval-X. Does not cover: helpers that stand below the
function; text above it that is no code, outside a fence. Where no tree can be had, the stop rule of the language cuts.
"""

import functools
import re

from mindgeex.common.grammars import Function, ParseTimeout, functions, parse
from mindgeex.eval.problem import Kept, Problem
from mindgeex.model_zoo.decoding.stops import FUNCTION_ENDS, end_of

FENCE = re.compile(r"^[ \t]*```([^\n]*)\n?", re.MULTILINE)
GO_HEADER = re.compile(r"^(?:package \w+|import (?:\([^)]*\)|\"[^\n]*))[ \t]*\n?", re.MULTILINE)
PUBLIC = re.compile(r"\bpublic\s+class\b")
CLASS = re.compile(r"^[^\n]*\bclass\s", re.MULTILINE)


def keep(problem: Problem, completion: str) -> Kept:
    """The function of a completion."""
    text = _unfenced(completion)
    try:
        return _anew(problem, text) or _continued(problem, text)
    except ParseTimeout:
        return Kept(problem.prompt, text[: end_of(FUNCTION_ENDS[problem.language], text)])


def _unfenced(completion: str) -> str:
    """The first fenced block; one fence alone, without a language and behind some text, ends what the prompt began."""
    fences = list(FENCE.finditer(completion))
    if not fences:
        return completion
    if len(fences) == 1 and not fences[0][1].strip() and completion[: fences[0].start()].strip():
        return completion[: fences[0].start()]
    return completion[fences[0].end() : fences[1].start() if len(fences) > 1 else len(completion)]


def _anew(problem: Problem, text: str) -> Kept | None:
    """The function as the text itself defines it."""
    name, above = _entry(problem)
    found = [function for function in _functions(text, problem.language) if name and function.name == name]
    if not found:
        return None
    source = text.encode("utf-8", "surrogatepass")
    code = _text(source[: found[0].end_byte])
    if problem.language == "java":
        if CLASS.search(code):
            shell = CLASS.search(above)
            # The file is called Main.java, so a public class of another name is an error.
            return Kept(above[: shell.start()] if shell else above, PUBLIC.sub("class", code) + "\n}")
        return Kept(above, _text(source[found[0].start_byte : found[0].end_byte]) + "\n}")
    if problem.language == "go":
        code = GO_HEADER.sub("", code)
    if problem.language == "rust":
        code = "".join(line for line in code.splitlines(True) if not (line.startswith("use ") and line in above))
    return Kept(above, code)


def _continued(problem: Problem, text: str) -> Kept:
    """The text up to the end of the function that the prompt began."""
    offset = len(problem.prompt.encode("utf-8", "surrogatepass"))
    whole = (problem.prompt + text).encode("utf-8", "surrogatepass")
    around = [
        function
        for function in _functions(problem.prompt + text, problem.language)
        if function.start_byte < offset < function.end_byte
    ]
    if not around:
        # A body that is broken, or none: nothing to go by but the rule that ended its generation.
        return Kept(problem.prompt, text[: end_of(FUNCTION_ENDS[problem.language], text)])
    code = _text(whole[offset : around[-1].end_byte])
    return Kept(problem.prompt, f"{code}\n}}" if problem.language == "java" else code)


@functools.lru_cache(maxsize=4096)
def _entry(problem: Problem) -> tuple[str, str]:
    """Name of the function to write, and what of the prompt stands above it."""
    offset = len(problem.prompt.encode("utf-8", "surrogatepass"))
    whole = problem.prompt + problem.canonical_solution
    around = [
        function
        for function in _functions(whole, problem.language)
        if function.start_byte < offset <= function.end_byte
    ]
    if not around:
        return problem.entry_point, ""
    start = problem.prompt.encode("utf-8", "surrogatepass")[: around[-1].start_byte]
    return around[-1].name, _text(start[: start.rfind(b"\n") + 1])


def _functions(text: str, language: str) -> list[Function]:
    parsed = parse(text, language)
    return functions(parsed) if parsed else []


def _text(source: bytes) -> str:
    return source.decode("utf-8", "replace")
