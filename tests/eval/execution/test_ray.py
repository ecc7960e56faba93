"""Programs on a Ray cluster, a real one of this machine: the same results as here, whoever dies."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mindgeex.common.errors import UserError
from mindgeex.data.ray_engine import ray_pool
from mindgeex.eval.benchmarks.benchmark import Dataset
from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.execution.engines.engine import Tools, Work
from mindgeex.eval.execution.engines.ray import Pool, RayEngine, Task, perform
from mindgeex.eval.execution.job import Limits
from mindgeex.eval.runner import Run, read, run
from tests.eval.completers import Recital, Varied
from tests.eval.processes import parent

pytestmark = [pytest.mark.toolchain, pytest.mark.usefixtures("sandbox")]
FACTS = ("task_id", "sample", "rules", "completion", "program", "verdict", "reason", "score")


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pytest.importorskip("ray", reason="no Ray here: make test EXTRAS=ray")
    with ray_pool(2, None) as opened:
        yield opened


def facts(done: Run) -> list[list[object]]:
    return [[row[key] for key in FACTS] for row in done.results]


@pytest.mark.slow
def test_a_cluster_gives_the_same_results_and_either_goes_on_where_the_other_stopped(tmp_path, pool):
    data = HUMANEVAL_X.load(["python", "javascript"])

    def scored(folder, **options):
        return run(HUMANEVAL_X, data, folder, completer=Varied(), rules=["codegeex"], num_samples=3, **options)

    here, there = scored(tmp_path / "here", workers=2), scored(tmp_path / "there", engine=RayEngine(pool))
    assert facts(here) == facts(there)
    assert here.settings == there.settings and here.excluded == there.excluded == {}
    assert sum(row["verdict"] == "passed" for row in there.results) == 24 and len(there.results) == 36
    path = tmp_path / "there" / "results.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:7]))
    scored(tmp_path / "there", workers=2)
    assert facts(read(tmp_path / "there")) == facts(here)
    stages = (tmp_path / "there" / "stages.jsonl").read_text()
    assert '"kind": "ray"' in stages and '"kind": "local"' in stages


def _kill_a_worker(killed: list[int]) -> None:
    """Waits for a program to run in the sandbox of another process, and kills that process."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "cmdline").read_bytes().endswith(b"driver.py\0"):
                    worker = parent(parent(parent(int(entry.name))))
                    if Path(f"/proc/{worker}/comm").read_text().startswith("ray::"):
                        killed.append(worker)
                        os.kill(worker, signal.SIGKILL)
                        return
        time.sleep(0.01)


@pytest.mark.slow
def test_the_program_of_a_worker_that_is_killed_is_run_again(tmp_path, pool):
    data = HUMANEVAL_X.load(["python"])
    few = Dataset(data.problems[:3], data.sha256, data.source)
    slow = {
        problem.task_id: ["    import time\n    time.sleep(1.5)\n" + problem.canonical_solution]
        for problem in few.problems
    }
    killed: list[int] = []
    killer = threading.Thread(target=_kill_a_worker, args=[killed])
    killer.start()
    done = run(
        HUMANEVAL_X, few, tmp_path / "killed", completer=Recital(slow), rules=["codegeex"], engine=RayEngine(pool)
    )
    killer.join()
    assert len(killed) == 1 and not Path(f"/proc/{killed[0]}").exists()
    assert [(row["task_id"], row["verdict"]) for row in done.results] == [(p.task_id, "passed") for p in few.problems]
    assert len((tmp_path / "killed" / "results.jsonl").read_text().splitlines()) == 3


def test_a_node_with_other_tools_is_refused_by_name():
    [problem] = HUMANEVAL_X.load(["python"]).problems[:1]
    work = Work("python", *HUMANEVAL_X.canonical(problem), Limits())
    tools, _ = perform(Task(("python",)))
    outcome, where = perform(Task(("python",), tools, work))
    assert outcome.verdict.value == "passed" and where["cores"] == os.cpu_count()
    with pytest.raises(UserError, match="node .* has other tools than the run began with .*Python 2.7.*same versions"):
        perform(Task(("python",), Tools(tools.sandbox, {"python": "Python 2.7"}), work))


def test_without_ray_the_extra_is_named(tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError('as if it were not installed')\n")
    words = ("run", "humaneval-x", "--canonical", "--engine", "ray", "--out", str(tmp_path / "out"))
    done = subprocess.run(
        [sys.executable, "-m", "mindgeex.cli.main", "eval", *words],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "--engine ray: Ray is not installed: pip install 'mindgeex[ray]'" in done.stderr
    assert not (tmp_path / "out").exists()
