"""Scores a model on a benchmark: canonical solutions first, then samples, each executed in the sandbox or compared.

Covers: a health gate (a problem whose own solution fails here is named, with the reason, and left out of the score);
completions of a model, or from a file; every post-processing that was chosen, side by side; executing on several cores;
going on after a kill -9 where it stopped, executing nothing twice; executing identical programs of a problem once;
refusing to mix runs with different settings in one folder.
Does not cover: more than one machine; deciding whether a flaky problem is flaky (Go/95 of HumanEval-X passes its own
gate most of the time).

In the output folder: run.json (settings), canonical.jsonl (verdicts of the gate), samples.jsonl (completions),
results.jsonl (verdicts of the samples); report.py adds score.json and report.html.
"""

import concurrent.futures
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from mindgeex.common.errors import UserError, did_you_mean
from mindgeex.common.files import read_json, write_json
from mindgeex.common.progress import Bar, progress
from mindgeex.eval.benchmarks.benchmark import Benchmark, Dataset
from mindgeex.eval.generations import Generations
from mindgeex.eval.job import Limits
from mindgeex.eval.languages import LANGUAGES
from mindgeex.eval.languages.language import Toolchain
from mindgeex.eval.problem import Problem
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
    """Number of the sample; -1 for the canonical solution, -2 and so on for the other checks of a problem."""
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
    """A row for each sample under each post-processing (`rules`): verdict, `score`, completion, program."""

    @property
    def excluded(self) -> dict[str, str]:
        """Task id -> why a problem is left out of the score."""
        return {task: f"{row['verdict']}: {row['reason']}" for task, row in self.canonical.items() if not passed(row)}


def passed(row: Row) -> bool:
    """Whether a row is a pass."""
    return row["verdict"] == "passed"


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
    workers: int = 2,
    limits: Limits = DEFAULT_LIMITS,
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
        workers: programs executed at once.
        limits: for every program.

    Raises:
        UserError: a tool is missing (named with its package), the folder holds a run with other settings, an unknown
            post-processing, or no problem's own solution passes.
    """
    for typed in rules:
        if typed not in benchmark.rules:
            raise UserError(f"{benchmark.name} has no post-processing '{typed}'{did_you_mean(typed, benchmark.rules)}")
    rules = tuple(dict.fromkeys(rules)) or benchmark.rules
    used = benchmark.executed_languages(dataset.problems)
    sandbox = Sandbox() if used else None
    toolchains = {language: LANGUAGES[language].toolchain() for language in used}
    source = completer or generations
    if source is None and not used:
        raise UserError(f"{benchmark.name} compares texts, so it has no solutions to check: give something to score")
    settings = {
        "benchmark": benchmark.name,
        "data": {"source": dataset.source, "sha256": dataset.sha256},
        "problems": len(dataset.problems),
        "prompt_version": benchmark.prompt_version,
        "measure": benchmark.measure,
        "post_processing": {name: benchmark.rules_version(name) for name in rules},
        "limits": asdict(limits),
        "toolchains": {language: toolchain.version for language, toolchain in toolchains.items()},
        "sandbox": sandbox.description if sandbox else None,
        "model": source.description if source else None,
        "num_samples": num_samples if completer else generations.num_samples if generations else 0,
        "seed": seed if completer else None,
    }
    _claim(folder, settings)
    executor = _Executor(sandbox, toolchains, limits, workers)
    canonical, healthy = _gate(benchmark, dataset.problems, folder / "canonical.jsonl", executor)
    results: list[Row] = []
    if source is not None:
        if not healthy:
            raise UserError(f"no problem can be scored: {_first_reasons(canonical)}")
        if generations is not None:
            completions = generations.completions
        else:
            assert completer is not None
            completions = _complete(benchmark, healthy, folder / "samples.jsonl", completer, num_samples, seed)
        results = _score(benchmark, healthy, folder / "results.jsonl", completions, rules, executor)
    return Run(folder, settings, dataset.problems, canonical, tuple(results))


class _Executor:
    """Runs programs on several threads; each waits for a sandbox, so the work is done by the sandboxes' processes."""

    def __init__(self, sandbox: Sandbox | None, toolchains: dict[str, Toolchain], limits: Limits, workers: int):
        self.sandbox, self.toolchains, self.limits, self.workers = sandbox, toolchains, limits, workers

    def run_all(self, programs: Sequence[Sequence[Program]], rows: Rows, bar: Bar) -> None:
        """Executes the first program of each group (identical programs) and appends a row for each of the group."""
        if not programs:
            return
        sandbox = self.sandbox
        assert sandbox is not None  # whoever has programs has languages

        def one(group: Sequence[Program]) -> None:
            first = group[0]
            language = first.problem.language
            toolchain = self.toolchains[language]
            outcome = execute(sandbox, LANGUAGES[language], toolchain, first.solution, first.tests, self.limits)
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
            sandbox.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _gate(
    benchmark: Benchmark, problems: Sequence[Problem], path: Path, executor: _Executor
) -> tuple[dict[str, Row], list[Problem]]:
    """The verdict of every problem that has a check, and the problems that can be scored."""
    verdicts: dict[str, Row] = {}
    checks: list[tuple[Problem, list[Program]]] = []
    for problem in problems:
        if reason := benchmark.obstacle(problem):
            verdicts[problem.task_id] = {"task_id": problem.task_id, "verdict": "not covered", "reason": reason}
        else:
            parts = enumerate(benchmark.checks(problem), start=1)
            checks.append((problem, [Program(problem, -number, *code) for number, code in parts]))
    rows = iter(_execute([program for _, own in checks for program in own], path, executor, "canonical solutions"))
    healthy = []
    for problem, own in checks:
        found = [next(rows) for _ in own]
        if found:
            verdicts[problem.task_id] = found[0]
        if not found or passed(found[0]):
            sound = benchmark.checked(problem, [row["verdict"] for row in found])
            if isinstance(sound, Problem):
                healthy.append(sound)
            else:
                verdicts[problem.task_id] = {"task_id": problem.task_id, "verdict": "not covered", "reason": sound}
    return verdicts, healthy


def _complete(
    benchmark: Benchmark, problems: Sequence[Problem], path: Path, completer: Completer, num_samples: int, seed: int
) -> dict[str, list[str]]:
    with Rows(path, ("task_id", "completions")) as rows:
        known = {row["task_id"]: row["completions"] for row in rows.rows}
        with progress("generating", len(problems), sum(problem.task_id in known for problem in problems)) as bar:
            for problem in problems:
                if problem.task_id in known:
                    continue
                own_seed = int.from_bytes(hashlib.sha256(f"{seed}/{problem.task_id}".encode()).digest()[:4], "big")
                completions = completer.complete(
                    benchmark.prompt(problem), num_samples=num_samples, seed=own_seed, stop=benchmark.stop(problem)
                )
                if len(completions) != num_samples:
                    raise RuntimeError(f"{problem.task_id}: {len(completions)} completions instead of {num_samples}")
                rows.append({"task_id": problem.task_id, "seed": own_seed, "completions": completions})
                known[problem.task_id] = completions
                bar.advance(note=problem.task_id)
    return known


def _score(
    benchmark: Benchmark,
    problems: Sequence[Problem],
    path: Path,
    completions: Mapping[str, Sequence[str]],
    rules: Sequence[str],
    executor: _Executor,
) -> list[Row]:
    samples: list[tuple[Problem, str, Row, list[Program]]] = []
    for problem in problems:
        for number, completion in enumerate(completions.get(problem.task_id, ())):
            for name in rules:
                key = {"task_id": problem.task_id, "sample": number, "rules": name, "completion": completion}
                codes = benchmark.programs(problem, completion, name)
                samples.append((problem, completion, key, [Program(problem, number, *code) for code in codes]))
    executed = iter(_execute([program for *_, own in samples for program in own], path, executor, "executing"))
    rows = []
    for problem, completion, key, own in samples:
        found = [next(executed) for _ in own]
        score = benchmark.score(problem, completion, [passed(row) for row in found])
        first = found[0] if found else {"verdict": "compared", "reason": "", "output": "", "cpu_s": 0.0, "wall_s": 0.0}
        rows.append({**first, **key, "program": own[0].solution if own else "", "score": score})
    return rows


def _execute(programs: Sequence[Program], path: Path, executor: _Executor, title: str) -> list[Row]:
    """The row of every program, from the file if it is there already, in the order of `programs`."""
    with Rows(path, ("task_id", "sample", "program_sha256", "verdict", "reason")) as rows:
        known = {_key(row) for row in rows.rows}
        wanted = {(program.problem.task_id, program.sample, program.sha256): program for program in programs}
        waiting: dict[tuple[str, str], list[Program]] = {}
        for key, program in wanted.items():
            if key not in known:
                waiting.setdefault((program.problem.task_id, program.sha256), []).append(program)
        done = len(wanted) - sum(len(group) for group in waiting.values())
        with progress(title, len(wanted), done) as bar:
            executor.run_all(list(waiting.values()), rows, bar)
        verdicts = {_key(row): row for row in rows.rows}
    return [verdicts[program.problem.task_id, program.sample, program.sha256] for program in programs]


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
