"""A run from problems to rows: the gate, resuming, seeds, refusals."""

import contextlib
import dataclasses
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from mindgeex.common.errors import UserError
from mindgeex.eval.benchmarks import humaneval_x
from mindgeex.eval.benchmarks.benchmark import Dataset
from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.benchmarks.source import SHIPPED
from mindgeex.eval.execution.engines import engine as engine_module
from mindgeex.eval.execution.engines.local import LocalEngine
from mindgeex.eval.execution.job import Limits
from mindgeex.eval.execution.verdict import Verdict
from mindgeex.eval.results import Rows
from mindgeex.eval.runner import read, run
from tests.eval.completers import Recital, Varied
from tests.eval.processes import parent

pytestmark = [pytest.mark.toolchain, pytest.mark.usefixtures("sandbox")]


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def verdicts(rows) -> dict[tuple[str, int], str]:
    return {(row["task_id"], row["sample"]): row["verdict"] for row in rows}


def test_canonical_solutions_of_the_shipped_problems_pass(tmp_path):
    done = run(HUMANEVAL_X, HUMANEVAL_X.load(["python", "javascript"]), tmp_path)
    assert len(done.canonical) == 12
    assert done.excluded == {}
    assert done.results == ()


def test_samples_are_scored_and_kept_with_their_programs(tmp_path):
    completer = Recital({"Python/0": ["    return 0\n"], "Python/1": ["    import os\n    os._exit(0)\n"]})
    done = run(
        HUMANEVAL_X, HUMANEVAL_X.load(["python"]), tmp_path, completer=completer, rules=["codegeex"], num_samples=2
    )
    found = verdicts(done.results)
    assert len(found) == 12
    assert found["Python/0", 0] == found["Python/0", 1] == "wrong answer"
    assert found["Python/1", 1] == "early exit"
    assert found["Python/5", 0] == "passed"
    assert "    return 0\n" in done.results[0]["program"]
    assert done.results[0]["completion"] == "    return 0\n"


def test_a_problem_whose_own_solution_fails_is_left_out_with_the_reason(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    rows = rows_of(SHIPPED / "humaneval_python.jsonl")[:3]
    rows[1]["canonical_solution"] = "    raise KeyError('wrong in the data')\n"
    (data / "humaneval_python.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(
        HUMANEVAL_X, HUMANEVAL_X.load(["python"], data), tmp_path / "out", completer=Recital(), rules=["codegeex"]
    )
    assert list(done.excluded) == ["Python/1"]
    assert "KeyError: 'wrong in the data'" in done.excluded["Python/1"]
    assert {row["task_id"] for row in done.results} == {"Python/0", "Python/2"}


def test_a_problem_known_to_be_flaky_is_scored_if_its_own_solution_passes_once(tmp_path, monkeypatch):
    """Which problems are scored must not change from run to run. Samples are executed once, whatever their luck."""
    monkeypatch.setattr(humaneval_x, "FLAKY", {"Python/1"})
    tried: Counter[str] = Counter()
    execute = engine_module.execute

    def unlucky(sandbox, language, toolchain, solution, tests, limits):
        outcome = execute(sandbox, language, toolchain, solution, tests, limits)
        name = re.findall(r"def (\w+)", solution)[0] + (" of the model" if "return 0" in solution else "")
        tried[name] += 1
        is_unlucky = name in ("highest_level", "stretch") and tried[name] < 3
        return dataclasses.replace(outcome, verdict=Verdict.WRONG, reason="by chance") if is_unlucky else outcome

    monkeypatch.setattr(engine_module, "execute", unlucky)
    completer = Recital({"Python/1": ["    return 0\n"]})
    done = run(HUMANEVAL_X, HUMANEVAL_X.load(["python"]), tmp_path, completer=completer, rules=["codegeex"])
    assert done.excluded == {"Python/0": "wrong answer: by chance"}
    assert (tried["highest_level"], tried["stretch"], tried["stretch of the model"]) == (1, 3, 1)


def test_problems_that_lack_a_library_are_left_out_with_what_installs_it(tmp_path, monkeypatch):
    lacking = {"Python/1"}
    reason = "toolchain missing: md5: apt-get install librust-md5-dev"
    monkeypatch.setattr(
        type(HUMANEVAL_X), "obstacle", lambda _, problem: reason if problem.task_id in lacking else None
    )
    data = HUMANEVAL_X.load(["python"])
    done = run(HUMANEVAL_X, data, tmp_path / "a", completer=Recital(), rules=["codegeex"])
    assert done.excluded == {"Python/1": f"not covered: {reason}"}
    assert len(done.results) == 5
    lacking |= {problem.task_id for problem in data.problems}
    assert read(tmp_path / "a") == done  # says what was so then, whatever is installed now
    with pytest.raises(UserError, match="no problem can be scored: not covered: toolchain missing: md5: apt-get"):
        run(HUMANEVAL_X, data, tmp_path / "b", completer=Recital(), rules=["codegeex"])


def test_identical_programs_of_a_problem_are_executed_once(tmp_path, monkeypatch):
    counted: list[str] = []
    execute = engine_module.execute

    def counting(*arguments):
        counted.append(arguments[3])
        return execute(*arguments)

    monkeypatch.setattr(engine_module, "execute", counting)
    done = run(
        HUMANEVAL_X, HUMANEVAL_X.load(["python"]), tmp_path, completer=Recital(), rules=["codegeex"], num_samples=5
    )
    assert len(done.results) == 30
    assert len(counted) == 12  # six canonical solutions, six programs


def test_a_finished_run_is_not_executed_again(tmp_path):
    first, second = Recital(), Recital()
    done = run(
        HUMANEVAL_X, HUMANEVAL_X.load(["python"]), tmp_path, completer=first, rules=["codegeex"], num_samples=2, seed=1
    )
    before = (tmp_path / "results.jsonl").read_bytes()
    again = run(
        HUMANEVAL_X, HUMANEVAL_X.load(["python"]), tmp_path, completer=second, rules=["codegeex"], num_samples=2, seed=1
    )
    assert second.asked == []
    assert (tmp_path / "results.jsonl").read_bytes() == before
    assert again == done


def test_a_problem_draws_the_same_seed_whatever_stands_beside_it(tmp_path):
    data = HUMANEVAL_X.load(["python"])
    all_of_them, last = Recital(), Recital()
    run(HUMANEVAL_X, data, tmp_path / "a", completer=all_of_them, rules=["codegeex"], seed=3)
    run(
        HUMANEVAL_X,
        Dataset(data.problems[-1:], data.sha256, ""),
        tmp_path / "b",
        completer=last,
        rules=["codegeex"],
        seed=3,
    )
    assert last.asked == all_of_them.asked[-1:]
    assert len({seed for _, seed in all_of_them.asked}) == 6


@pytest.mark.parametrize("change", [{"seed": 2}, {"num_samples": 3}, {"limits": Limits(cpu_s=3)}])
def test_a_folder_of_a_run_with_other_settings_is_refused(tmp_path, change):
    data = HUMANEVAL_X.load(["python"])
    one = Dataset(data.problems[:1], data.sha256, data.source)
    run(HUMANEVAL_X, one, tmp_path, completer=Recital(), rules=["codegeex"], seed=1)
    with pytest.raises(UserError, match=f"holds a run with another {next(iter(change))}.*choose another --out"):
        run(HUMANEVAL_X, one, tmp_path, completer=Recital(), rules=["codegeex"], **{"seed": 1, **change})


KILLED = """
import hashlib
from pathlib import Path
from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.execution.engines.local import LocalEngine
from mindgeex.eval.runner import read, run
from mindgeex.eval.execution.verdict import Verdict
from tests.eval.completers import Varied

class Telling(LocalEngine):
    def execute(self, works):
        with Path({told!r}).open("a") as file:
            file.writelines(hashlib.sha256(work.solution.encode()).hexdigest() + "\\n" for work in works)
        yield from super().execute(works)

run(
    HUMANEVAL_X, HUMANEVAL_X.load(), Path({folder!r}), completer=Varied(), rules=["codegeex"], num_samples=5,
    engine=Telling(2),
)
"""


def test_a_run_that_is_killed_goes_on_where_it_stopped(tmp_path):
    """kill -9 three times on the way; in the end every sample has one verdict, the same as without the kills.

    What has a verdict when the process is killed is not executed again by the next one.
    """
    folder = tmp_path / "killed"
    results = folder / "results.jsonl"
    kept = 0
    for number in range(3):
        script = KILLED.format(folder=str(folder), told=str(tmp_path / f"told{number}"))
        child = subprocess.Popen(
            [sys.executable, "-c", script], cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while _lines(results) < kept + 4 and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert (before := _lines(results)) > kept
        given = (tmp_path / f"told{number}").read_text().split()
        assert len(given) == len(set(given)) == 30 - kept + (6 if number == 0 else 0)  # 6 canonical solutions at first
        kept = before
        early = results.read_bytes()
    assert kept < 30
    done = run(HUMANEVAL_X, HUMANEVAL_X.load(["python"]), folder, completer=Varied(), rules=["codegeex"], num_samples=5)
    whole = run(
        HUMANEVAL_X,
        HUMANEVAL_X.load(["python"]),
        tmp_path / "whole",
        completer=Varied(),
        rules=["codegeex"],
        num_samples=5,
    )
    assert results.read_bytes().startswith(early[: early.rfind(b"\n") + 1])
    rows = rows_of(results)
    assert len(rows) == len({(row["task_id"], row["program_sha256"]) for row in rows}) == 30
    assert verdicts(done.results) == verdicts(whole.results)
    assert sum(row["verdict"] == "passed" for row in done.results) == 24


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_torn_last_row_is_cut_off(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2')
    with Rows(path) as rows:
        assert rows.rows == [{"a": 1}]
        rows.append({"a": 3})
    assert path.read_bytes() == b'{"a": 1}\n{"a": 3}\n'


def test_a_row_that_cannot_be_written_leaves_the_others_whole(tmp_path):
    path = tmp_path / "rows.jsonl"
    with Rows(path) as rows:
        rows.append({"a": 1})
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))  # as on a full disk: the first bytes still fit
        try:
            with pytest.raises(UserError, match=r"rows.jsonl: cannot be written \(File too large\)"):
                rows.append({"a": 2, "much": "x" * 100})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert path.read_bytes() == b'{"a": 1}\n'
        rows.append({"a": 3})
    assert path.read_bytes() == b'{"a": 1}\n{"a": 3}\n'


def test_a_damaged_row_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    for damaged in (b'{"a"', b"[1]", b'{"b": 2}'):
        path.write_bytes(b'{"a": 1}\n' + damaged + b'\n{"a": 3}\n')
        with pytest.raises(UserError, match="rows.jsonl, line 2: damaged"):
            Rows(path, ("a",))


def test_settings_that_are_none_are_named(tmp_path):
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(UserError, match="run.json: not the settings of a run: choose another --out"):
        run(HUMANEVAL_X, HUMANEVAL_X.load(["python"]), tmp_path)


def test_two_runs_cannot_write_to_one_folder(tmp_path):
    path = tmp_path / "rows.jsonl"
    with Rows(path), pytest.raises(UserError, match="another run is writing to it"):
        Rows(path)
    with Rows(path) as rows:
        assert rows.rows == []


class _Observed(LocalEngine):
    """Kills the sandbox of each program from outside as soon as it runs, as the kernel does when memory is short."""

    def __init__(self, kills: int):
        super().__init__(1)
        self.kills = kills
        self.killed: list[int] = []

    def execute(self, works):
        run_in_sandbox = self.workshop.sandbox.run

        def killed(job, channel=None):
            if self.kills and b"sleep" in job.files["program.py"]:
                self.kills -= 1
                threading.Thread(target=_kill_sandbox, args=[self.killed]).start()
            return run_in_sandbox(job, channel)

        self.workshop.sandbox.run = killed
        yield from super().execute(works)


def _kill_sandbox(killed: list[int]) -> None:
    """Waits for the next program to run, and kills the outermost process of its sandbox."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "comm").read_text().startswith("python"):
                    outer = parent(parent(int(entry.name)))
                    if parent(outer) == os.getpid() and outer not in killed:
                        killed.append(outer)
                        os.kill(outer, signal.SIGKILL)
                        return
        time.sleep(0.01)


@pytest.mark.parametrize(("kills", "verdict"), [(1, "passed"), (3, "exception")])
def test_a_program_whose_sandbox_is_killed_from_outside_is_run_again(tmp_path, kills, verdict):
    data = HUMANEVAL_X.load(["python"])
    one = Dataset(data.problems[:1], data.sha256, data.source)
    slow = {"Python/0": ["    import time\n    time.sleep(1.5)\n" + data.problems[0].canonical_solution]}
    engine = _Observed(kills)
    [row] = run(HUMANEVAL_X, one, tmp_path, completer=Recital(slow), rules=["codegeex"], engine=engine).results
    assert len(engine.killed) == kills
    assert row["verdict"] == verdict
    assert row["reason"] == ("" if kills == 1 else "killed each of 3 times it was run: signal 9")


def test_a_finished_run_is_read_from_its_folder(tmp_path):
    done = run(HUMANEVAL_X, HUMANEVAL_X.load(["python"]), tmp_path, completer=Varied(), num_samples=3)
    assert read(tmp_path) == done
    lines = (tmp_path / "results.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "results.jsonl").write_text("".join(lines[:-2]))
    with pytest.raises(UserError, match=f"not finished .2 of {len(lines)} programs have no verdict in results.jsonl"):
        read(tmp_path)
    with pytest.raises(UserError, match="holds no run.json: give the --out folder"):
        read(tmp_path / "none")
