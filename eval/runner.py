"""Scores a model on a benchmark: canonical solutions first, then samples, each executed in the sandbox or compared.

Covers: a health gate (a problem whose own solution fails here is named, with the reason, and left out of the score);
completions of a model, or from a file; every post-processing that was chosen, side by side; CPU limits that follow the
machine (calibration.py); executing on several cores, or machines (execution/engines/); going on after a kill -9 where
it stopped, executing nothing twice; executing identical programs of a problem once; reading a finished run from its
folder.
Does not cover: finding out whether a problem is flaky. The own solution of one that is known to be (Go/95 of
HumanEval-X) is tried up to ten times, so that the set of scored problems does not change by chance; samples once.

In the output folder: run.json (settings), problems.jsonl, canonical.jsonl (verdicts of the gate), samples.jsonl
(completions), results.jsonl (verdicts of the samples' programs), stages.jsonl (seconds and machines); reports/ adds
score.json and report.html.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mindgeex.common.errors import UserError, did_you_mean
from mindgeex.eval import folder as files
from mindgeex.eval.benchmarks import benchmark as named
from mindgeex.eval.benchmarks.benchmark import Benchmark, Dataset
from mindgeex.eval.calibration import CPU_FACTOR, Allowance
from mindgeex.eval.execution.engines.engine import Engine
from mindgeex.eval.execution.engines.local import LocalEngine
from mindgeex.eval.execution.job import Limits
from mindgeex.eval.generations import Generations
from mindgeex.eval.problem import Problem
from mindgeex.eval.results import Row, passed
from mindgeex.eval.stages import Completer, Stages

DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Run:
    """What a run found; reports/ turns it into a score."""

    folder: Path
    settings: Row
    problems: tuple[Problem, ...]
    canonical: dict[str, Row]
    """Task id -> verdict of its own solution."""
    results: tuple[Row, ...]
    """A row for each sample under each post-processing (`rules`): verdict, `score`, completion, program."""

    @property
    def excluded(self) -> dict[str, str]:
        """Task id -> why a problem is left out of the score."""
        return {task: f"{row['verdict']}: {row['reason']}" for task, row in self.canonical.items() if not passed(row)}


def run(
    benchmark: Benchmark,
    dataset: Dataset,
    folder: Path,
    *,
    completer: Completer | None = None,
    generations: Generations | None = None,
    rules: Sequence[str] = (),
    num_samples: int = 1,
    seed: int = 0,
    problems_at_once: int = 1,
    workers: int = 2,
    engine: Engine | None = None,
    limits: Limits = DEFAULT_LIMITS,
    cpu_factor: int = CPU_FACTOR,
) -> Run:
    """Executes canonical solutions and, if there is something to score, samples.

    Args:
        benchmark: of mindgeex.eval.benchmarks.
        dataset: its problems.
        folder: where rows are kept; a folder of an earlier run with the same settings is continued.
        completer: what is scored; with neither it nor generations only the canonical solutions are checked.
        generations: completions from a file, in place of a completer's.
        rules: post-processing, each scored by itself; none for all that the benchmark knows.
        num_samples: samples a problem.
        seed: of the samples. Each problem draws from a seed of its own, so leaving others out changes nothing.
        problems_at_once: how many the completer is asked about at a time, each from a thread of its own.
        workers: programs executed at once, without an engine.
        engine: where programs are executed; None for this machine.
        limits: for every program; `cpu_s` is the least CPU time that a program may use.
        cpu_factor: so many times the canonical solution's CPU time may a program use; 0 for `limits` alone.

    Raises:
        UserError: a tool is missing (named with its package), the folder holds a run with other settings, an unknown
            post-processing, or no problem's own solution passes.
    """
    for typed in rules:
        if typed not in benchmark.rules:
            raise UserError(f"{benchmark.name} has no post-processing '{typed}'{did_you_mean(typed, benchmark.rules)}")
    rules = tuple(dict.fromkeys(rules)) or benchmark.rules
    used = benchmark.executed_languages(dataset.problems)
    source = completer or generations
    if source is None and not used:
        raise UserError(f"{benchmark.name} compares texts, so it has no solutions to check: give something to score")
    engine = engine or LocalEngine(workers)
    tools = engine.prepare(used)
    obstacles = {p.task_id: reason for p in dataset.problems if (reason := benchmark.obstacle(p))}
    settings = {
        "benchmark": benchmark.name,
        "data": {"source": dataset.source, "sha256": dataset.sha256},
        "problems": len(dataset.problems),
        "prompt_version": benchmark.prompt_version,
        "measure": benchmark.measure,
        "post_processing": {name: benchmark.rules_version(name) for name in rules},
        "limits": {**asdict(limits), "cpu_factor": cpu_factor},
        "toolchains": tools.toolchains,
        "sandbox": tools.sandbox,
        "obstacles": obstacles,
        "model": source.description if source else None,
        "num_samples": num_samples if completer else generations.num_samples if generations else 0,
        "seed": seed if completer else None,
    }
    files.claim(folder, settings, dataset.problems)
    stages = Stages(benchmark, folder, Allowance(limits, cpu_factor), engine, obstacles)
    canonical, healthy = stages.gate(dataset.problems)
    results: list[Row] = []
    if source is not None:
        if not healthy:
            raise UserError(f"no problem can be scored: {_first_reasons(canonical)}")
        if generations is not None:
            completions = stages.record(generations.completions)
        else:
            assert completer is not None
            completions = stages.complete(healthy, completer, num_samples, seed, problems_at_once)
        results = stages.score(healthy, completions, rules, canonical)
    return Run(folder, settings, dataset.problems, canonical, tuple(results))


def read(folder: Path) -> Run:
    """A finished run, from its folder alone.

    Raises:
        UserError: the folder holds none, or one that is not finished.
    """
    settings, problems = files.read_settings(folder), files.read_problems(folder)
    benchmark = named(settings["benchmark"])
    rules = settings["post_processing"]
    for name, version in rules.items():
        if benchmark.rules_version(name) != version:
            raise UserError(
                f"{folder}: was made with {version}, and this is {benchmark.rules_version(name)}: run again"
            )
    allowance = files.allowance(settings)
    stages = Stages(benchmark, folder, allowance, None, settings["obstacles"])
    canonical, healthy = stages.gate(problems)
    results: list[Row] = []
    if settings["model"] is not None:
        completions = stages.recorded()
        if missing := [problem.task_id for problem in healthy if problem.task_id not in completions]:
            raise UserError(
                f"{folder}: the run is not finished ({len(missing)} problems have no completions): the same "
                "`mindgeex eval run` goes on where it stopped"
            )
        results = stages.score(healthy, completions, list(rules), canonical)
    return Run(folder, settings, problems, canonical, tuple(results))


def _first_reasons(canonical: dict[str, Row]) -> str:
    reasons = list(dict.fromkeys(f"{row['verdict']}: {row['reason']}" for row in canonical.values()))
    return "; ".join(reasons[:3])
