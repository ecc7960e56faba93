"""MBPP: short Python programs from a sentence and a test; the 500 problems of its test split (task 11 to 510).

Austin et al., "Program Synthesis with Large Language Models" (2021). The prompt is the one of InCoder and of BigCode's
harness: a docstring with the sentence and the first test, no examples. The three tests of `test_list` decide.
Covers: mbpp.jsonl, or the hub's Parquet file. Does not cover: prompts with solved examples; the challenge tests.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.eval.benchmarks.assembly import assemble_plainly
from mindgeex.eval.benchmarks.benchmark import Benchmark, Code, Dataset
from mindgeex.eval.benchmarks.humaneval_x import unique
from mindgeex.eval.benchmarks.source import choose, open_source, text, texts
from mindgeex.eval.postprocess import codefuse
from mindgeex.eval.problem import Kept, Problem
from mindgeex.model_zoo.decoding.stops import Stop, StopStrings

HUB = "google-research-datasets/mbpp"
FILES = ("mbpp.jsonl.gz", "mbpp.jsonl", "full/test-*.parquet")
STOPS = StopStrings(("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```"))
TEST_SPLIT = range(11, 511)


class Mbpp(Benchmark):
    """Write a Python function from a sentence and a test."""

    name = "mbpp"
    about = "MBPP: write a Python function from a sentence and a test"
    prompt_version = "incoder-v1"
    languages = ("python",)
    default_languages = languages
    # Rules that continue the prompt's function make no sense: there is none.
    rules: tuple[str, ...] = ("raw", "codefuse", "sanitize")

    def load(self, languages: Sequence[str] = (), data: Path | str | None = None) -> Dataset:
        """See Benchmark.load."""
        choose(languages or self.default_languages, self.languages)
        source = open_source(data, HUB, FILES)
        problems = []
        for where, row in source.rows(FILES):
            if not isinstance(row.get("task_id"), int):
                raise UserError(f"{where}: key 'task_id' is missing or not a number")
            tests = texts(row, "test_list", where)
            if row["task_id"] not in TEST_SPLIT or not tests:
                continue
            prompt = f'"""\n{text(row, "text", where)}\n{tests[0]}\n"""\n'
            problems.append(
                Problem(
                    task_id=f"Mbpp/{row['task_id']}",
                    language="python",
                    prompt=prompt,
                    canonical_solution=text(row, "code", where),
                    test="\n".join([text(row, "test_setup_code", where), *tests]),
                    asked=prompt,
                    entry_point=called(row["code"], tests),
                    aliases=(str(row["task_id"]),),
                )
            )
        if not problems:
            raise UserError(f"{source.described}: holds no task from {TEST_SPLIT[0]} to {TEST_SPLIT[-1]}")
        return Dataset(unique(problems), source.sha256, source.described)

    def stop(self, problem: Problem) -> Stop:
        """The strings of the BigCode harness."""
        return STOPS

    def program(self, problem: Problem, kept: Kept) -> Code:
        """See assembly.py."""
        return assemble_plainly(problem, kept, problem.test)

    def programs(self, problem: Problem, completion: str, rules: str) -> tuple[Code, ...]:
        """CodeFuse has other rules for whole programs than for functions that are continued."""
        if rules == "codefuse":
            return (self.program(problem, codefuse.keep_block(completion)),)
        return super().programs(problem, completion, rules)


def called(code: str, tests: Sequence[str]) -> str:
    """The function that the tests call: the last one of the code whose name they contain."""
    names = re.findall(r"^def +(\w+)", code, re.MULTILINE)
    return next((name for name in reversed(names) if re.search(rf"\b{name}\b", "\n".join(tests))), "")


MBPP = Mbpp()
