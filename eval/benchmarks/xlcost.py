"""XLCoST code translation: a program in one of seven languages, to be written in another; compared with the reference.

Zhu et al., "XLCoST" (2022), program level. The data has no tests, so texts are compared: BLEU of the words and marks of
both programs, smoothed as in bleu.py, a program at a time. The paper's CodeBLEU is another figure; the two are not
comparable. The files hold tokens with `NEW_LINE`, `INDENT` and `DEDENT` among them, which become lines again here. The
prompt has the form in which CodeGeeX was fine-tuned on this data.
Covers: `pair_data_tok_full/<A>-<B>/test-<A>-<B>-tok.*` below the folder. Does not cover: snippets, CodeBLEU.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.eval.benchmarks.benchmark import Dataset, TextBenchmark
from mindgeex.eval.benchmarks.source import Source, choose, open_source
from mindgeex.eval.bleu import smoothed_bleu
from mindgeex.eval.problem import Problem
from mindgeex.model_zoo.decoding.stops import Stop, StopStrings

TITLES = {
    "cpp": ("C++", "cpp"),
    "java": ("Java", "java"),
    "python": ("Python", "py"),
    "csharp": ("C#", "cs"),
    "javascript": ("Javascript", "js"),
    "php": ("PHP", "php"),
    "c": ("C", "c"),
}
"""Language -> its name in folders and prompts, and the ending of its files."""
PAIRS = tuple(f"{first}-{second}" for first in TITLES for second in TITLES if first != second)


class XlcostTranslation(TextBenchmark):
    """Translate a program between two of seven languages."""

    name = "xlcost-translation"
    about = "XLCoST: translate programs between C++, Java, Python, C#, JavaScript, PHP and C (BLEU)"
    prompt_version = "xlcost-v1"
    languages = PAIRS
    default_languages = ("python-cpp",)
    rules = ("whole",)

    def load(self, languages: Sequence[str] = (), data: Path | str | None = None) -> Dataset:
        """See Benchmark.load; languages are pairs, such as python-cpp."""
        chosen = choose(languages or self.default_languages, self.languages, "pair")
        pairs = [(first, second) for first, _, second in (pair.partition("-") for pair in chosen)]
        source = open_source(data, None, [name for pair in pairs for name in _files(*pair, pair[0])])
        problems = []
        for first, second in pairs:
            given, wanted = (_programs(source, first, second, language) for language in (first, second))
            if len(given) != len(wanted):
                raise UserError(f"{source.folder}: {len(given)} programs in {first}, but {len(wanted)} in {second}")
            titles = TITLES[first][0], TITLES[second][0]
            for number, (program, reference) in enumerate(zip(given, wanted, strict=True)):
                problems.append(
                    Problem(
                        task_id=f"{first}-{second}/{number}",
                        language=second,
                        prompt="",
                        canonical_solution=reference,
                        asked=f"code translation\n{titles[0]}:\n{program}\n{titles[1]}:\n",
                        group=f"{titles[0]} to {titles[1]}",
                    )
                )
        return Dataset(tuple(problems), source.sha256, source.described)

    def stop(self, problem: Problem) -> Stop:
        """Where the next example would begin."""
        return StopStrings(("\ncode translation\n",))

    def score(self, problem: Problem, completion: str, passed: Sequence[bool]) -> float:
        """BLEU of one program."""
        return smoothed_bleu(_spaced(problem.canonical_solution), _spaced(completion))


def _files(first: str, second: str, language: str) -> list[str]:
    """Where a pair's programs of one language lie; a pair has one folder for both directions."""
    a, b = TITLES[first][0], TITLES[second][0]
    ending = TITLES[language][1]
    names = [f"{one}-{other}/test-{one}-{other}-tok.{ending}" for one, other in ((a, b), (b, a))]
    return [f"{below}{name}" for below in ("", "pair_data_tok_full/", "**/pair_data_tok_full/") for name in names]


def _programs(source: Source, first: str, second: str, language: str) -> list[str]:
    lines = source.lines(_files(first, second, language))
    return [_laid_out(line.strip()) for line in lines]


def _laid_out(tokens: str) -> str:
    """A program from a line of tokens."""
    lines: list[str] = []
    depth = 0
    words: list[str] = []
    for token in [*tokens.split(" "), "NEW_LINE"]:
        if token == "NEW_LINE":
            if words:
                lines.append("    " * depth + " ".join(words))
            words = []
        elif token in ("INDENT", "DEDENT"):
            depth = max(0, depth + (1 if token == "INDENT" else -1))
        else:
            words.append(token)
    return "\n".join(lines)


def _spaced(code: str) -> str:
    """Words and marks with a space between, on one line, so that spacing does not count."""
    return " ".join(re.findall(r"\w+|[^\s\w]", code))


XLCOST_TRANSLATION = XlcostTranslation()
