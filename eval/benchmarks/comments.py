"""Comment generation: say in English or Chinese what a solution does; smoothed BLEU against the task's own words.

The task is CodeFuseEval's, with its prompt (CODE_TEXT_TAG and the canonical solution); the rows it announced were
never published, so these are made from its HumanEval, whose `prompt_text` and `prompt_text_chinese` say what a
function is for. Of an answer, the text of the first comment counts, or its first paragraph if there is no comment.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from mindgeex.eval.benchmarks.benchmark import Dataset, TextBenchmark
from mindgeex.eval.benchmarks.codefuse import HUB, files
from mindgeex.eval.benchmarks.source import choose, open_source, text
from mindgeex.eval.bleu import smoothed_bleu
from mindgeex.eval.problem import Problem
from mindgeex.model_zoo.decoding.stops import Stop, StopStrings

TAGS = {"english": "Add a comment to the code as follows：\n ", "chinese": "为代码添加注释，代码如下:\n "}
FIELDS = {"english": "prompt_text", "chinese": "prompt_text_chinese"}
COMMENT = re.compile(r'"""(.*?)(?:"""|\Z)|\'\'\'(.*?)(?:\'\'\'|\Z)|((?:^[ \t]*#[^\n]*\n?)+)', re.DOTALL | re.MULTILINE)


class CommentGeneration(TextBenchmark):
    """Comment a solution."""

    name = "comment-generation"
    about = "comment a Python solution in English or Chinese (smoothed BLEU)"
    prompt_version = "codefuse-c2t-v1"
    languages = tuple(TAGS)
    default_languages = ("english",)
    rules = ("first-comment",)

    def load(self, languages: Sequence[str] = (), data: Path | str | None = None) -> Dataset:
        """See Benchmark.load; languages are those of the comments."""
        chosen = choose(languages or self.default_languages, self.languages)
        names = files("humaneval_python_cn", "code_completion")
        source = open_source(data, HUB, names)
        rows = list(source.rows(names))
        problems = [
            Problem(
                task_id=f"{language}/{text(row, 'task_id', where).split('/')[-1]}",
                language=language,
                prompt="",
                canonical_solution=text(row, FIELDS[language], where),
                asked=TAGS[language] + text(row, "canonical_solution", where),
            )
            for language in chosen
            for where, row in rows
        ]
        return Dataset(tuple(problems), source.sha256, source.described)

    def stop(self, problem: Problem) -> Stop:
        """Two blank lines; the published chat models end by themselves."""
        return StopStrings(("\n\n\n",))

    def score(self, problem: Problem, completion: str, passed: Sequence[bool]) -> float:
        """Smoothed BLEU of the comment."""
        return smoothed_bleu(problem.canonical_solution, first_comment(completion))


def first_comment(answer: str) -> str:
    """The words of the first comment, on one line; of the first paragraph if there is none."""
    found = COMMENT.search(answer)
    words = next(filter(None, found.groups()), "") if found else answer.strip().split("\n\n")[0]
    return " ".join(re.sub(r"^[ \t]*#+", "", words, flags=re.MULTILINE).split())


COMMENT_GENERATION = CommentGeneration()
