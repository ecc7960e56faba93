"""The three stages of a run: the gate, completions, scores. Each goes on where it stopped, from rows in the folder.

Without an engine the stages only read: a row that is missing means that the run is not finished.
"""

import concurrent.futures
import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from mindgeex.common.errors import UserError
from mindgeex.common.progress import progress
from mindgeex.eval import folder as files
from mindgeex.eval.benchmarks.benchmark import Benchmark
from mindgeex.eval.calibration import Allowance
from mindgeex.eval.execution.engines.engine import Engine, Work
from mindgeex.eval.execution.job import Limits
from mindgeex.eval.problem import Problem
from mindgeex.eval.results import Row, Rows, passed, read_rows
from mindgeex.model_zoo.decoding.stops import Stop

PROGRAM_KEYS = ("task_id", "program_sha256", "verdict", "reason")
SAMPLE_KEYS = ("task_id", "completions")
FLAKY_TRIES = 10
"""So often is the own solution of a problem tried that is known to fail by chance; one pass is enough."""
Completions = Mapping[str, Sequence[str]]
"""Task id -> its samples."""


class Completer(Protocol):
    """What continues prompts: a checkpoint with its decoding settings, or a server."""

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
    def key(self) -> tuple[str, str]:
        """Task id and SHA-256 of the program, whatever the secret of an execution: equal ones are executed once."""
        content = json.dumps([self.problem.language, self.solution, self.tests])
        return self.problem.task_id, hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class Stages:
    """A benchmark's problems, made into rows of a folder."""

    benchmark: Benchmark
    folder: Path
    allowance: Allowance
    engine: Engine | None
    """None to read what is there."""
    obstacles: Mapping[str, str]
    """Task id -> why this harness cannot run a problem, whatever its solution."""

    def gate(self, problems: Sequence[Problem]) -> tuple[dict[str, Row], list[Problem]]:
        """The verdict of every problem that has a check, and the problems that can be scored."""
        verdicts: dict[str, Row] = {}
        checks: list[tuple[Problem, list[Program]]] = []
        for problem in problems:
            if reason := self.obstacles.get(problem.task_id):
                verdicts[problem.task_id] = {"task_id": problem.task_id, "verdict": "not covered", "reason": reason}
            else:
                parts = enumerate(self.benchmark.checks(problem), start=1)
                checks.append((problem, [Program(problem, -number, *code) for number, code in parts]))
        programs = [program for _, own in checks for program in own]
        allowed = self.allowance.for_canonical()
        rows = iter(self._execute(programs, files.CANONICAL, "canonical solutions", lambda _: allowed))
        healthy = []
        for problem, own in checks:
            found = [next(rows) for _ in own]
            if found:
                verdicts[problem.task_id] = found[0]
            if not found or passed(found[0]):
                sound = self.benchmark.checked(problem, [row["verdict"] for row in found])
                if isinstance(sound, Problem):
                    healthy.append(sound)
                else:
                    verdicts[problem.task_id] = {"task_id": problem.task_id, "verdict": "not covered", "reason": sound}
        return verdicts, healthy

    def record(self, completions: Completions) -> Completions:
        """Keeps completions that were made elsewhere."""
        with Rows(self.folder / files.SAMPLES, SAMPLE_KEYS) as rows:
            known = {row["task_id"] for row in rows.rows}
            for task, texts in completions.items():
                if task not in known:
                    rows.append({"task_id": task, "completions": list(texts)})
        return completions

    def recorded(self) -> Completions:
        """The completions that are there."""
        return {row["task_id"]: row["completions"] for row in read_rows(self.folder / files.SAMPLES, SAMPLE_KEYS)}

    def complete(
        self, problems: Sequence[Problem], completer: Completer, num_samples: int, seed: int, at_once: int
    ) -> Completions:
        """The completions of every problem, `at_once` problems at a time."""
        with Rows(self.folder / files.SAMPLES, SAMPLE_KEYS) as rows:
            known = {row["task_id"]: row["completions"] for row in rows.rows}
            waiting = [problem for problem in problems if problem.task_id not in known]
            if not waiting:
                return known

            def one(problem: Problem) -> None:
                own_seed = int.from_bytes(hashlib.sha256(f"{seed}/{problem.task_id}".encode()).digest()[:4], "big")
                prompt, stop = self.benchmark.prompt(problem), self.benchmark.stop(problem)
                completions = completer.complete(prompt, num_samples=num_samples, seed=own_seed, stop=stop)
                if len(completions) != num_samples:
                    raise RuntimeError(f"{problem.task_id}: {len(completions)} completions instead of {num_samples}")
                rows.append({"task_id": problem.task_id, "seed": own_seed, "completions": completions})
                known[problem.task_id] = completions
                bar.advance(note=problem.task_id)

            with (
                files.stage(self.folder, "generating"),
                progress("generating", len(problems), len(problems) - len(waiting)) as bar,
            ):
                if at_once == 1:  # in this thread: a model may belong to it
                    for problem in waiting:
                        one(problem)
                else:
                    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
                        futures = [pool.submit(one, problem) for problem in waiting]
                        try:
                            for done in concurrent.futures.as_completed(futures):
                                done.result()
                        except BaseException:
                            pool.shutdown(wait=False, cancel_futures=True)
                            raise
        return known

    def score(
        self, problems: Sequence[Problem], completions: Completions, rules: Sequence[str], canonical: Mapping[str, Row]
    ) -> list[Row]:
        """A row for each sample under each post-processing."""
        samples: list[tuple[Problem, str, Row, list[Program]]] = []
        for problem in problems:
            for number, completion in enumerate(completions.get(problem.task_id, ())):
                for name in rules:
                    key = {"task_id": problem.task_id, "sample": number, "rules": name, "completion": completion}
                    codes = self.benchmark.programs(problem, completion, name)
                    samples.append((problem, completion, key, [Program(problem, number, *code) for code in codes]))
        allowed = {problem.task_id: self.allowance.for_samples(canonical.get(problem.task_id)) for problem in problems}
        programs = [program for *_, own in samples for program in own]
        executed = iter(
            self._execute(programs, files.RESULTS, "executing", lambda program: allowed[program.problem.task_id])
        )
        rows = []
        for problem, completion, key, own in samples:
            found = [next(executed) for _ in own]
            score = self.benchmark.score(problem, completion, [passed(row) for row in found])
            compared = {"verdict": "compared", "reason": "", "output": "", "cpu_s": 0.0, "wall_s": 0.0}
            first = found[0] if found else compared
            rows.append({**first, **key, "program": own[0].solution if own else "", "score": score})
        return rows

    def _execute(
        self, programs: Sequence[Program], name: str, title: str, limits: Callable[[Program], Limits]
    ) -> list[Row]:
        """The row of every program, from the file if it is there already, in the order of `programs`."""
        path = self.folder / name
        wanted: dict[tuple[str, str], list[Program]] = {}
        for program in programs:
            wanted.setdefault(program.key, []).append(program)
        if self.engine is None:
            known = {_key(row): row for row in read_rows(path, PROGRAM_KEYS)}
            if missing := [key for key in wanted if key not in known]:
                raise UserError(
                    f"{self.folder}: the run is not finished ({len(missing)} of {len(wanted)} programs have no verdict "
                    f"in {name}): the same `mindgeex eval run` goes on where it stopped"
                )
            return [known[program.key] for program in programs]
        with Rows(path, PROGRAM_KEYS) as rows:
            known = {_key(row): row for row in rows.rows}
            waiting = [own for key, own in wanted.items() if key not in known]
            if waiting:
                firsts = [own[0] for own in waiting]
                works = [
                    Work(one.problem.language, one.solution, one.tests, limits(one), self._tries(one)) for one in firsts
                ]
                with (
                    files.stage(self.folder, title, self.engine),
                    progress(title, len(wanted), len(wanted) - len(waiting)) as bar,
                    contextlib.closing(self.engine.execute(works)) as outcomes,
                ):
                    for place, outcome in outcomes:
                        task, sha256 = firsts[place].key
                        samples = list(dict.fromkeys(program.sample for program in waiting[place]))
                        facts = asdict(outcome) | {"verdict": outcome.verdict.value}
                        rows.append({"task_id": task, "samples": samples, "program_sha256": sha256, **facts})
                        bar.advance(note=task)
            known = {_key(row): row for row in rows.rows}
        return [known[program.key] for program in programs]

    def _tries(self, program: Program) -> int:
        is_canonical = program.sample < 0
        return FLAKY_TRIES if is_canonical and self.benchmark.is_flaky(program.problem) else 1


def _key(row: Row) -> tuple[str, str]:
    return row["task_id"], row["program_sha256"]
