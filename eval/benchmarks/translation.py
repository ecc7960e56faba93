"""HumanEval-X translation: a solved problem in one language, to be written in another.

Covers: the 20 pairs of Python, C++, Java, JavaScript and Go in CodeGeeX's paper, and the 10 with Rust. The prompt is
the published one (codegeex/benchmark/utils.py): no language tag and no comment, the source's declaration and solution,
the target's declaration. The program has the target's prompt before the solution, as published. Does not cover: Rust
as target where the problem needs crates.

Rust in either place follows the same form, which nobody published: prompts with Rust are of this project.
"""

from collections.abc import Sequence
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.eval.benchmarks import humaneval_x
from mindgeex.eval.benchmarks.assembly import assemble
from mindgeex.eval.benchmarks.benchmark import Benchmark, Code, Dataset
from mindgeex.eval.benchmarks.source import choose
from mindgeex.eval.problem import Kept, Problem

TITLES = {
    "python": "Python",
    "cpp": "C++",
    "java": "Java",
    "javascript": "JavaScript",
    "go": "Go",
    "rust": "Rust",
}
"""How a prompt names a language."""
PAPER = ("python", "cpp", "java", "javascript", "go")
PAPER_PAIRS = tuple(f"{source}-{target}" for source in PAPER for target in PAPER if source != target)
RUST_PAIRS = tuple(pair for other in PAPER for pair in (f"{other}-rust", f"rust-{other}"))


class Translation(Benchmark):
    """Translate a function between two of six languages."""

    name = "humaneval-x-translation"
    about = "HumanEval-X translation: the 20 pairs of CodeGeeX's paper, and those with Rust"
    prompt_version = "codegeex-translation-v1"
    languages = PAPER_PAIRS + RUST_PAIRS
    default_languages = ("python-cpp",)

    def load(self, languages: Sequence[str] = (), data: Path | str | None = None) -> Dataset:
        """See Benchmark.load; languages are pairs, such as python-cpp."""
        pairs = [pair.split("-") for pair in choose(languages or self.default_languages, self.languages, "pair")]
        source = humaneval_x.open_problems(data)
        used = dict.fromkeys(language for pair in pairs for language in pair)
        rows = {language: humaneval_x.read(source, language) for language in used}
        by_number = {
            language: {row["task_id"].split("/")[-1]: (where, row) for where, row in own}
            for language, own in rows.items()
        }
        problems = []
        for first, second in pairs:
            for where, row in rows[first]:
                number = row["task_id"].split("/")[-1]
                if number not in by_number[second]:
                    raise UserError(f"{where}: {row['task_id']} has no counterpart in {TITLES[second]}")
                place, target = by_number[second][number]
                solved = humaneval_x.make(target, second, place)
                problems.append(
                    Problem(
                        task_id=f"{first}-{second}/{number}",
                        language=second,
                        prompt=solved.prompt,
                        canonical_solution=solved.canonical_solution,
                        test=solved.test,
                        asked=(
                            f"code translation\n{TITLES[first]}:\n{row['declaration']}\n"
                            f"{row['canonical_solution'].rstrip()}\n{TITLES[second]}:\n{target['declaration']}"
                        ),
                        group=f"{TITLES[first]} to {TITLES[second]}",
                        setup=solved.setup,
                        imports=solved.imports,
                        # The published files name a translation by its source, some tools by its target.
                        aliases=(row["task_id"], target["task_id"]),
                    )
                )
        return Dataset(humaneval_x.unique(problems), source.sha256, source.described)

    def obstacle(self, problem: Problem) -> str | None:
        """Libraries that are not installed."""
        return humaneval_x.missing_libraries(problem)

    def known_defect(self, problem: Problem) -> str | None:
        """That of the problem in the target's language, whose tests are run."""
        return humaneval_x.KNOWN_DEFECTS.get(problem.aliases[1])

    def is_flaky(self, problem: Problem) -> bool:
        """See Benchmark.is_flaky."""
        return problem.aliases[1] in humaneval_x.FLAKY

    def program(self, problem: Problem, kept: Kept) -> Code:
        """See assembly.py."""
        return assemble(problem, kept)


TRANSLATION = Translation()
