"""CPU limits that follow what a problem's own solution takes here."""

import json
from pathlib import Path

import pytest

from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.benchmarks.source import SHIPPED
from mindgeex.eval.calibration import Allowance
from mindgeex.eval.execution.job import Limits
from mindgeex.eval.reports import report
from mindgeex.eval.runner import Run, run
from tests.eval.completers import Recital

FLOOR = Limits(cpu_s=1, wall_s=30.0)


def burns(seconds: float, solution: str) -> str:
    """CPU time is what is burnt, so the test is the same on any machine."""
    return f"    import time\n    while time.process_time() < {seconds}: pass\n{solution}"


def test_a_limit_is_a_multiple_of_what_the_own_solution_takes_and_never_below_the_floor():
    allowance = Allowance(Limits(cpu_s=10, wall_s=45.0), 100)
    slow, quick = allowance.for_samples({"run_cpu_s": 0.123}), allowance.for_samples({"run_cpu_s": 0.05})
    assert (slow.cpu_s, slow.wall_s) == (13, pytest.approx(45.0 * 1.3))
    assert quick == allowance.for_samples(None) == allowance.limits
    assert allowance.for_canonical().cpu_s == 100
    fixed = Allowance(Limits(cpu_s=10, wall_s=45.0), 0)
    assert fixed.for_samples({"run_cpu_s": 60.0}) == fixed.for_canonical() == fixed.limits


@pytest.mark.toolchain
def test_a_solution_that_is_slow_here_gives_others_as_much_time(tmp_path, sandbox):
    """On a slow machine all programs take longer, the canonical one, too: both are still right. One that hangs is not.

    The first problem's own solution takes longer than the floor here; the second one's does not.
    """
    rows = [json.loads(line) for line in (SHIPPED / "humaneval_python.jsonl").read_text().splitlines()[:2]]
    own = [row["canonical_solution"] for row in rows]
    rows[0]["canonical_solution"] = burns(1.2, own[0])
    data = tmp_path / "data"
    data.mkdir()
    (data / "humaneval_python.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = HUMANEVAL_X.load(["python"], data)
    completer = Recital({
        "Python/0": [burns(1.6, own[0]), burns(99.0, own[0])],
        "Python/1": [burns(1.6, own[1]), own[1]],
    })  # fmt: skip

    def scored(folder: Path, factor: int) -> Run:
        return run(
            HUMANEVAL_X, dataset, folder, completer=completer, rules=["codegeex"], num_samples=2,
            limits=FLOOR, cpu_factor=factor,
        )  # fmt: skip

    done = scored(tmp_path / "out", 2)
    found = {(row["task_id"], row["sample"]): (row["verdict"], row["reason"]) for row in done.results}
    assert done.excluded == {}
    assert found["Python/0", 0] == ("passed", "")
    assert found["Python/0", 1][0] == "CPU time" and "used more than 3 s" in found["Python/0", 1][1]
    assert found["Python/1", 0][0] == "CPU time" and "used more than 1 s" in found["Python/1", 0][1]
    assert found["Python/1", 1] == ("passed", "")
    calibration = report.manifest(done)["calibration"]["python"]
    assert calibration["cpu_limit_s"] == {"least": 1, "most": 3}
    assert calibration["above_the_floor"] == {"Python/0": 3}
    assert report.manifest(scored(tmp_path / "out", 2)) == report.manifest(done)  # a resumed run measures nothing again
    fixed = run(HUMANEVAL_X, dataset, tmp_path / "fixed", limits=FLOOR, cpu_factor=0)
    assert fixed.excluded["Python/0"].startswith("CPU time: used more than 1 s")
