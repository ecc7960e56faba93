"""CodeXGLUE code-to-text: say in a sentence what a function does; smoothed BLEU against its own documentation.

Lu et al., "CodeXGLUE" (2021), on CodeSearchNet. The prompt is the one of BigCode's harness: the
function without its docstring, then the beginning of a comment. The reference is CodeXGLUE's: the tokens of the
documentation, joined by spaces. Only the first line of an answer counts.
Covers: `<language>/test.jsonl[.gz]`, or the hub's Parquet files. Does not cover: the encoder-decoder setting of the
paper, whose models were trained on this data.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from mindgeex.eval.benchmarks.benchmark import Dataset, TextBenchmark
from mindgeex.eval.benchmarks.source import choose, open_source, text, texts
from mindgeex.eval.bleu import smoothed_bleu
from mindgeex.eval.problem import Problem
from mindgeex.model_zoo.decoding.stops import Stop, StopStrings

HUB = "google/code_x_glue_ct_code_to_text"
LANGUAGES = ("python", "java", "javascript", "php", "ruby", "go")
QUOTES = ('"""', "'''")
BEGINNINGS = {
    "python": '\n""" The goal of this function is to:\n',
    "ruby": "\n=begin The goal of this function is to:\n",
}
OTHER_BEGINNING = "\n/* The goal of this function is to:\n"


class CodeToText(TextBenchmark):
    """Describe a function."""

    name = "code-to-text"
    about = "CodeXGLUE code-to-text: describe a function in six languages (smoothed BLEU)"
    prompt_version = "bigcode-v1"
    languages = LANGUAGES
    default_languages = ("python",)

    def load(self, languages: Sequence[str] = (), data: Path | str | None = None) -> Dataset:
        """See Benchmark.load."""
        chosen = choose(languages or self.default_languages, self.languages)
        every = {name: (f"{name}/test.jsonl.gz", f"{name}/test.jsonl", f"{name}/test-*.parquet") for name in LANGUAGES}
        source = open_source(data, HUB, [name for language in chosen for name in every[language]])
        problems = []
        for language in chosen:
            for number, (where, row) in enumerate(source.rows(every[language])):
                code, docstring = text(row, "code", where), text(row, "docstring", where)
                tokens = texts(row, "docstring_tokens", where)
                bare = _without_docstring(code, docstring) if language == "python" else code
                problems.append(
                    Problem(
                        task_id=f"{language}/{number}",
                        language=language,
                        prompt="",
                        canonical_solution=" ".join(" ".join(tokens).replace("\n", "").split()),
                        asked=bare + BEGINNINGS.get(language, OTHER_BEGINNING),
                    )
                )
        return Dataset(tuple(problems), source.sha256, source.described)

    def stop(self, problem: Problem) -> Stop:
        """The end of the comment in Python, of the line elsewhere."""
        return StopStrings(QUOTES if problem.language == "python" else ("\n",))

    def score(self, problem: Problem, completion: str, passed: Sequence[bool]) -> float:
        """Smoothed BLEU of the first line."""
        return smoothed_bleu(problem.canonical_solution, completion.strip().split("\n")[0])


def _without_docstring(code: str, docstring: str) -> str:
    """A Python function without its docstring, by the rules of the harness (which InCoder's authors wrote)."""
    if docstring not in code:
        return code
    before, after = code.split(docstring, 1)
    quote = next((quote for quote in QUOTES if quote in before), None)
    if quote is not None:
        before = before[: before.index(quote)]
    # Some docstrings are in single quotes, of either kind.
    for pattern in (r"[^'\"]'\s*$", r"[^'\"]\"\s*$"):
        if found := re.search(pattern, before):
            before = before[: found.start()]
    for quote in QUOTES:
        after = after.replace(quote, "")
    return before.strip() + after


CODE_TO_TEXT = CodeToText()
