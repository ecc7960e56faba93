"""Completers that need no model: they recite."""

from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.model_zoo.decoding.stops import Stop


class Recital:
    """Answers every prompt with given completions, in turn; a problem without any gets its own solution."""

    def __init__(self, completions: dict[str, list[str]] | None = None):
        self.description: dict[str, object] = {"checkpoint": "recital", "temperature": 0.2}
        self.asked: list[tuple[str, int]] = []
        problems = HUMANEVAL_X.load(["all"]).problems
        self.problems = {HUMANEVAL_X.prompt(problem): problem for problem in problems}
        self.completions = completions or {}

    def complete(self, prompt: str, *, num_samples: int, seed: int, stop: Stop) -> list[str]:
        problem = self.problems[prompt]
        self.asked.append((problem.task_id, seed))
        texts = self.completions.get(problem.task_id, [problem.canonical_solution])
        return [texts[number % len(texts)] for number in range(num_samples)]


class Varied(Recital):
    """Every sample is a program of its own; every third is wrong."""

    def complete(self, prompt: str, *, num_samples: int, seed: int, stop: Stop) -> list[str]:
        [solution] = super().complete(prompt, num_samples=1, seed=seed, stop=stop)
        wrong = "    return None\n"
        return [f"    _ = {number}\n{wrong if number % 3 == 2 else solution}" for number in range(num_samples)]
