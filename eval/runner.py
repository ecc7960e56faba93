"""Scores a model on a benchmark: canonical solutions first, then the model's samples, each executed in the sandbox.

Covers: a health gate (a problem whose own solution fails here is named, with the reason, and left out of the score);
executing on several cores; going on after a kill -9 where it stopped, executing nothing twice; executing identical
programs of a problem once; refusing to mix runs with different settings in one folder.
Does not cover: more than one machine; deciding whether a flaky problem is flaky (Go/95 of HumanEval-X passes its own
gate most of the time).

In the output folder: run.json (settings), canonical.jsonl (verdicts of the gate), samples.jsonl (completions),
results.jsonl (verdicts of the samples); report.py adds score.json and report.html.
"""

import concurrent.futures
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from mindgeex.common.errors import UserError
from mindgeex.common.files import read_json, write_json
from mindgeex.common.progress import Bar, progress
from mindgeex.eval.benchmarks.humaneval_x import Dataset, Problem
from mindgeex.eval.job import Limits
from mindgeex.eval.languages import LANGUAGES
from mindgeex.eval.languages.language import Toolchain
from mindgeex.eval.results import Rows
from mindgeex.eval.sandbox import Sandbox
from mindgeex.eval.verdict import execute
from mindgeex.model_zoo.decoding.stops import Stop

Row = dict[str, Any]
DEFAULT_LIMITS = Limits()


class Completer(Protocol):
    """What continues prompts: a checkpoint with its decoding settings."""

    description: dict[str, object]
    """Checkpoint, its SHA-256, decoding settings: goes into the manifest."""

    def complete(self, prompt: str, *, num_samples: int, seed: int, stop: Stop) -> list[str]:
        """`num_samples` continuations of the prompt, each ended at the latest where `stop` says so."""
        ...


@dataclass(frozen=True)
class Program:
    """One thing to execute."""

    problem: Problem
    sample: int
    """Number of the sample; -1 for the canonical solution."""
    solution: str
    tests: str

    @property
    def sha256(self) -> str:
        """Names the program, independent of the secret of an execution."""
        return hashlib.sha256(json.dumps([self.problem.language, self.solution, self.tests]).encode()).hexdigest()


@dataclass(frozen=True)
class Run:
    """What a run found; report.py turns it into a score."""

    folder: Path
    settings: Row
    problems: tuple[Problem, ...]
    canonical: dict[str, Row]
    """Task id -> verdict of its own solution."""
    results: tuple[Row, ...]
    """Verdicts of the samples, each with its completion, in the order of problems and samples."""

    @property
    def excluded(self) -> dict[str, str]:
        """Task id -> why a problem is left out of the score."""
        return {task: f"{row['verdict']}: {row['reason']}" for task, row in self.canonical.items() if not passed(row)}


def passed(row: Row) -> bool:
    """Whether a row is a pass."""
    return row["verdict"] == "passed"


def run(
    benchmark: ModuleType,
    dataset: Dataset,
    folder: Path,
    *,
    completer: Completer | None = None,
    num_samples: int = 1,
    seed: int = 0,
    workers: int = 2,
    limits: Limits = DEFAULT_LIMITS,
) -> Run:
    """Executes canonical solutions and, if there is a completer, samples.

    Args:
        benchmark: a module of mindgeex.eval.benchmarks.
        dataset: its problems.
        folder: where rows are kept; a folder of an earlier run with the same settings is continued.
        completer: what is scored; None to check the canonical solutions only.
        num_samples: samples a problem.
        seed: of the samples. Each problem draws from a seed of its own, so leaving others out changes nothing.
        workers: programs executed at once.
        limits: for every program.

    Raises:
        UserError: a tool is missing (named with its package), the folder holds a run with other settings, or no
            problem's own solution passes.
    """
    used = list(dict.fromkeys(problem.language for problem in dataset.problems))
    sandbox = Sandbox()
    toolchains = {language: LANGUAGES[language].toolchain() for language in used}
    settings = {
        "benchmark": benchmark.NAME,
        "data": {"source": dataset.source, "sha256": dataset.sha256},
        "problems": len(dataset.problems),
        "prompt_version": benchmark.PROMPT_VERSION,
        "post_processing": benchmark.POST_PROCESSING,
        "limits": asdict(limits),
        "toolchains": {language: toolchain.version for language, toolchain in toolchains.items()},
        "sandbox": sandbox.description,
        "model": completer.description if completer else None,
        "num_samples": num_samples if completer else 0,
        "seed": seed if completer else None,
    }
    _claim(folder, settings)
    executor = _Executor(sandbox, toolchains, limits, workers)
    canonical = _gate(benchmark, dataset.problems, folder / "canonical.jsonl", executor)
    healthy = [problem for problem in dataset.problems if passed(canonical[problem.task_id])]
    results: list[Row] = []
    if completer is not None:
        if not healthy:
            raise UserError(f"no problem can be scored: {_first_reasons(canonical)}")
        completions = _complete(benchmark, healthy, folder / "samples.jsonl", completer, num_samples, seed)
        results = _score(benchmark, healthy, folder / "results.jsonl", completions, executor)
    return Run(folder, settings, dataset.problems, canonical, tuple(results))


class _Executor:
    """Runs programs on several threads; each waits for a sandbox, so the work is done by the sandboxes' processes."""

    def __init__(self, sandbox: Sandbox, toolchains: dict[str, Toolchain], limits: Limits, workers: int):
        self.sandbox, self.toolchains, self.limits, self.workers = sandbox, toolchains, limits, workers

    def run_all(self, programs: Sequence[Sequence[Program]], rows: Rows, bar: Bar) -> None:
        """Executes the first program of each group (identical programs) and appends a row for each of the group."""

        def one(group: Sequence[Program]) -> None:
            first = group[0]
            language = first.problem.language
            toolchain = self.toolchains[language]
            outcome = execute(self.sandbox, LANGUAGES[language], toolchain, first.solution, first.tests, self.limits)
            for program in group:
                facts = asdict(outcome) | {"verdict": outcome.verdict.value}
                key = {"task_id": program.problem.task_id, "sample": program.sample, "program_sha256": program.sha256}
                rows.append({**key, **facts})
                bar.advance(note=program.problem.task_id)

        pool = concurrent.futures.ThreadPoolExecutor(self.workers)
        try:
            for done in concurrent.futures.as_completed([pool.submit(one, group) for group in programs]):
                done.result()
        except BaseException:
            self.sandbox.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _gate(benchmark: ModuleType, problems: Iterable[Problem], path: Path, executor: _Executor) -> dict[str, Row]:
    programs, verdicts = [], {}
    for problem in problems:
        if reason := benchmark.obstacle(problem):
            verdicts[problem.task_id] = {"task_id": problem.task_id, "verdict": "not covered", "reason": reason}
        else:
            programs.append(Program(problem, -1, *benchmark.program(problem, problem.canonical_solution)))
    verdicts |= {row["task_id"]: row for row in _execute(programs, path, executor, "canonical solutions")}
    return verdicts


def _complete(
    benchmark: ModuleType, problems: Sequence[Problem], path: Path, completer: Completer, num_samples: int, seed: int
) -> dict[str, list[str]]:
    with Rows(path, ("task_id", "completions")) as rows:
        known = {row["task_id"]: row["completions"] for row in rows.rows}
        with progress("generating", len(problems), sum(problem.task_id in known for problem in problems)) as bar:
            for problem in problems:
                if problem.task_id in known:
                    continue
                own_seed = int.from_bytes(hashlib.sha256(f"{seed}/{problem.task_id}".encode()).digest()[:4], "big")
                completions = completer.complete(
                    benchmark.prompt(problem), num_samples=num_samples, seed=own_seed, stop=benchmark.stop_rule(problem)
                )
                if len(completions) != num_samples:
                    raise RuntimeError(f"{problem.task_id}: {len(completions)} completions instead of {num_samples}")
                rows.append({"task_id": problem.task_id, "seed": own_seed, "completions": completions})
                known[problem.task_id] = completions
                bar.advance(note=problem.task_id)
    return known


def _score(
    benchmark: ModuleType,
    problems: Sequence[Problem],
    path: Path,
    completions: dict[str, list[str]],
    executor: _Executor,
) -> list[Row]:
    programs = []
    for problem in problems:
        for sample, completion in enumerate(completions[problem.task_id]):
            parts = benchmark.program(problem, benchmark.keep(problem, completion))
            programs.append(Program(problem, sample, *parts))
    rows = _execute(programs, path, executor, "executing")
    return [
        {**row, "completion": completions[program.problem.task_id][program.sample], "program": program.solution}
        for program, row in zip(programs, rows, strict=True)
    ]


def _execute(programs: Sequence[Program], path: Path, executor: _Executor, title: str) -> list[Row]:
    """The row of every program, from the file if it is there already, in the order of `programs`."""
    with Rows(path, ("task_id", "sample", "program_sha256", "verdict", "reason")) as rows:
        known = {_key(row): row for row in rows.rows}
        waiting: dict[tuple[str, str], list[Program]] = {}
        for program in programs:
            if (program.problem.task_id, program.sample, program.sha256) not in known:
                waiting.setdefault((program.problem.task_id, program.sha256), []).append(program)
        done = len(programs) - sum(len(group) for group in waiting.values())
        with progress(title, len(programs), done) as bar:
            executor.run_all(list(waiting.values()), rows, bar)
        known = {_key(row): row for row in rows.rows}
    return [known[program.problem.task_id, program.sample, program.sha256] for program in programs]


def _key(row: Row) -> tuple[str, int, str]:
    return row["task_id"], row["sample"], row["program_sha256"]


def _claim(folder: Path, settings: Row) -> None:
    path = folder / "run.json"
    if not path.exists():
        write_json(path, settings)
        return
    before = read_json(path)
    if not isinstance(before, dict):
        raise UserError(f"{path}: not the settings of a run: choose another --out, or delete the folder")
    now = json.loads(json.dumps(settings))
    for key in sorted(now.keys() | before.keys()):
        if now.get(key) != before.get(key):
            raise UserError(
                f"{folder} holds a run with another {key} ({before.get(key)!r}, now {now.get(key)!r}): "
                "choose another --out, or delete the folder"
            )


def _first_reasons(canonical: dict[str, Row]) -> str:
    reasons = list(dict.fromkeys(f"{row['verdict']}: {row['reason']}" for row in canonical.values()))
    return "; ".join(reasons[:3])
