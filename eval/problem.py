"""One task, and what is kept of an answer to it: the two values that benchmarks and post-processing exchange."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One task of a benchmark."""

    task_id: str
    language: str
    """Of its programs, a key of languages/; of the text in it, where nothing is executed."""
    prompt: str
    """The code that a solution continues: it stands before the completion in a program."""
    canonical_solution: str
    """What stands after `prompt` in a program that passes; the reference where texts are compared."""
    test: str = ""
    asked: str = ""
    """What the model reads, which may be more than `prompt`, or something else."""
    group: str = ""
    """Its row in tables; the language where it is empty."""
    entry_point: str = ""
    """Name of the function that the tests call, where the benchmark tells."""
    setup: str = ""
    """What stands before everything: Go's package clause and imports of the tests, MBPP's setup code."""
    imports: str = ""
    """Go: the import block within `prompt`."""
    aliases: tuple[str, ...] = ()
    """Other names that files of generations use for it."""
    mutants: tuple[str, ...] = ()
    """Wrong variants of `canonical_solution`."""

    @property
    def row(self) -> str:
        """Name of its row in tables."""
        return self.group or self.language


@dataclass(frozen=True)
class Kept:
    """What post-processing left of a completion."""

    before: str
    """What stands before it, of the prompt: all of it, or only what is above its function."""
    code: str
    imports: str = "codegeex"
    """Whose list of imports stands before a Python program: `codegeex` or `codefuse`."""
