"""OpenAI's HumanEval: 164 Python functions, with the prompt, the stops and the assembly of its own harness.

Chen et al., "Evaluating Large Language Models Trained on Code" (2021), section 3.2. No language tag, no imports but the
prompt's. Covers: HumanEval.jsonl[.gz], or the hub's Parquet file.
"""

from collections.abc import Sequence
from pathlib import Path

from mindgeex.eval.benchmarks.assembly import assemble_plainly
from mindgeex.eval.benchmarks.benchmark import Benchmark, Code, Dataset
from mindgeex.eval.benchmarks.humaneval_x import unique
from mindgeex.eval.benchmarks.source import choose, open_source, text
from mindgeex.eval.problem import Kept, Problem
from mindgeex.model_zoo.decoding.stops import Stop, StopStrings

HUB = "openai/openai_humaneval"
FILES = ("HumanEval.jsonl.gz", "HumanEval.jsonl", "openai_humaneval/test-*.parquet")
STOPS = StopStrings(("\nclass", "\ndef", "\n#", "\nif", "\nprint"))


class HumanEval(Benchmark):
    """Continue a Python function."""

    name = "humaneval"
    about = "OpenAI HumanEval: continue a Python function"
    prompt_version = "openai-v1"
    languages = ("python",)
    default_languages = languages
    rules = ("raw", "codegeex", "codefuse", "sanitize")

    def load(self, languages: Sequence[str] = (), data: Path | str | None = None) -> Dataset:
        """See Benchmark.load."""
        choose(languages or self.default_languages, self.languages)
        source = open_source(data, HUB, FILES)
        problems = []
        for where, row in source.rows(FILES):
            entry = text(row, "entry_point", where)
            problems.append(
                Problem(
                    task_id=text(row, "task_id", where),
                    language="python",
                    prompt=text(row, "prompt", where),
                    canonical_solution=text(row, "canonical_solution", where),
                    test=f"{text(row, 'test', where)}\ncheck({entry})\n",
                    asked=text(row, "prompt", where),
                    entry_point=entry,
                )
            )
        return Dataset(unique(problems), source.sha256, source.described)

    def stop(self, problem: Problem) -> Stop:
        """The five strings of the paper."""
        return STOPS

    def program(self, problem: Problem, kept: Kept) -> Code:
        """See assembly.py."""
        return assemble_plainly(problem, kept, problem.test)


HUMANEVAL = HumanEval()
