"""What a benchmark is, so that the runner knows nothing of any one: problems, prompts, programs, scores.

A benchmark loads problems, says what a model is asked and when its answer ends, and turns an answer into programs to
execute (or none, where the text itself is scored) and their verdicts into a number between 0 and 1.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mindgeex.eval.languages import LANGUAGES
from mindgeex.eval.postprocess import RULES
from mindgeex.eval.problem import Kept, Problem
from mindgeex.model_zoo.decoding.stops import FUNCTION_ENDS, Stop

Code = tuple[str, str]
"""Everything before the tests, and the tests."""
ALL_RULES = ("codegeex", "raw", "codefuse", "sanitize")


@dataclass(frozen=True)
class Dataset:
    """The problems to solve and where they came from."""

    problems: tuple[Problem, ...]
    sha256: dict[str, str]
    """File name -> SHA-256 of its bytes."""
    source: str


class Benchmark(ABC):
    """A benchmark; each file of this folder makes one or several."""

    name: str
    """As typed."""
    about: str
    """One line for a list of benchmarks."""
    prompt_version: str
    """Changes whenever a prompt does: scores of different versions are not comparable."""
    languages: tuple[str, ...]
    """What may be chosen: languages, pairs of them, or splits."""
    default_languages: tuple[str, ...]
    rules: tuple[str, ...] = ALL_RULES
    """Names of the post-processing that makes sense here; the first one gives the headline figure."""
    measure: str = "pass@k"
    """What the figure is called; anything else than pass@k is a mean of scores."""

    @abstractmethod
    def load(self, languages: Sequence[str] = (), data: Path | str | None = None) -> Dataset:
        """The problems of some languages.

        Args:
            languages: which; none for the default.
            data: a folder, `hub` or `hub:OWNER/NAME` for the Hugging Face hub, None for what ships with the project.

        Raises:
            UserError: no such data, or data that is no such benchmark (file and line named).
        """

    def prompt(self, problem: Problem) -> str:
        """What the model reads."""
        return problem.asked

    def stop(self, problem: Problem) -> Stop:
        """When a completion is complete."""
        return FUNCTION_ENDS[problem.language]

    def obstacle(self, problem: Problem) -> str | None:
        """Why this harness cannot run a problem, whatever its solution; None if it can."""
        return None

    def known_defect(self, problem: Problem) -> str | None:
        """What is wrong with a problem in the published data, whatever the machine; None if nothing is known."""
        return None

    def is_flaky(self, problem: Problem) -> bool:
        """Whether its own solution is known to fail by chance: the gate then tries it several times."""
        return False

    @abstractmethod
    def program(self, problem: Problem, kept: Kept) -> Code:
        """One program from what post-processing left of a completion."""

    def canonical(self, problem: Problem) -> Code:
        """The program of a problem's own solution, which post-processing does not touch."""
        return self.program(problem, Kept(problem.prompt, problem.canonical_solution))

    def checks(self, problem: Problem) -> tuple[Code, ...]:
        """Programs that show whether the problem is sound here; the first has to pass. None: nothing to show."""
        return (self.canonical(problem),)

    def checked(self, problem: Problem, verdicts: Sequence[str]) -> Problem | str:
        """The problem after its checks were executed, or why it cannot be scored; verdicts in the order of `checks`."""
        return problem

    def programs(self, problem: Problem, completion: str, rules: str) -> tuple[Code, ...]:
        """What to execute for a completion under one post-processing; nothing where the text itself is scored."""
        return (self.program(problem, RULES[rules].keep(problem, completion)),)

    def score(self, problem: Problem, completion: str, passed: Sequence[bool]) -> float:
        """The completion's worth, 0 to 1, from the verdicts of its programs."""
        return float(all(passed))

    def executed_languages(self, problems: Sequence[Problem]) -> list[str]:
        """The languages whose tools a run needs."""
        return list(dict.fromkeys(problem.language for problem in problems if problem.language in LANGUAGES))

    def rules_version(self, rules: str) -> str:
        """Name and version of a post-processing, for the manifest."""
        return RULES[rules].version if rules in RULES else f"{rules}-v1"


class TextBenchmark(Benchmark):
    """A benchmark that compares texts with a reference (`canonical_solution`) and executes nothing."""

    rules = ("first-line",)
    measure = "BLEU"

    def program(self, problem: Problem, kept: Kept) -> Code:
        """The text itself, which is not executed."""
        return kept.before + kept.code, ""

    def checks(self, problem: Problem) -> tuple[Code, ...]:
        """Nothing: a reference cannot fail."""
        return ()

    def programs(self, problem: Problem, completion: str, rules: str) -> tuple[Code, ...]:
        """Nothing to execute."""
        return ()

    def executed_languages(self, problems: Sequence[Problem]) -> list[str]:
        """None."""
        return []
