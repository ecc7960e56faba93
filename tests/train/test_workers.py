"""Several real workers under the supervisor: one curve whatever their number, and faults that leave no trace in it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from mindgeex.train.callbacks.heartbeat import read_beats
from mindgeex.train.callbacks.metrics import read_metrics
from mindgeex.train.events import read_events
from tests.train.conftest import run, write_recipe
from tests.train.test_trainer import figures, same_weights

STEPS = 24

SUPERVISOR = """
import json, os, sys
from pathlib import Path
from mindgeex.train.reach import Reach
from mindgeex.train.supervisor import Job, supervise
from mindgeex.train.deadlines import Deadlines
folder, words = Path(sys.argv[1]), json.loads(sys.argv[2])
deadlines = Deadlines(training_s=20, killing_s=1)
job = Job(("-m", "mindgeex.cli.main", *words), folder, Reach(per_host=2), 1, deadlines=deadlines)
sys.exit(supervise(job, os.environ))
"""
"""`mindgeex train --workers 2 --restarts 1`, less patient."""


@pytest.fixture(scope="module")
def command(corpus_folder, tmp_path_factory):
    """Everything but --out, --workers and --resume."""
    recipe = write_recipe(tmp_path_factory.mktemp("workers"))
    return "train", "--data", str(corpus_folder), "--recipe", str(recipe), "--set", f"steps={STEPS}"


@pytest.fixture(scope="module")
def pair(command, tmp_path_factory):
    """What two workers make of it."""
    folder = tmp_path_factory.mktemp("pair") / "run"
    result = run(*command, "--out", folder, "--workers", 2)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def largest_difference(one, other):
    """Of losses and held-out figures."""
    assert [line["step"] for line in one] == [line["step"] for line in other]
    names = ("loss", "heldout_bits_per_byte")
    return max(abs(a[name] - b[name]) for a, b in zip(one, other, strict=True) for name in names if name in a)


@pytest.mark.slow
def test_one_worker_makes_the_curve_of_two(command, pair, tmp_path):
    assert run(*command, "--out", tmp_path / "run").returncode == 0
    assert largest_difference(figures(tmp_path / "run"), figures(pair)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_a_run_of_two_goes_on_with_another_number_of_workers(command, pair, tmp_path, workers):
    shutil.copytree(pair, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step-{STEPS:08d}")
    result = run(*command, "--out", tmp_path / "run", "--workers", workers, "--resume")
    assert result.returncode == 0, result.stdout + result.stderr
    [event] = [event for event in read_events(tmp_path / "run") if event["event"] == "resumed"]
    assert event["step"] == 20
    assert largest_difference(figures(tmp_path / "run"), figures(pair)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_is_killed_or_stopped_leaves_no_trace_in_the_weights(command, pair, tmp_path, fault):
    folder = tmp_path / "run"
    words = json.dumps([*command, "--out", str(folder)])
    environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", "GLOG_v": "3"}
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(folder), words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while len(read_metrics(folder / "metrics.jsonl")) < 8:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(read_beats(folder)[1]["pid"], fault)
    said, _ = process.communicate(timeout=250)
    assert process.returncode == 0, said
    [failed] = [event for event in read_events(folder) if event["event"] == "failed" and event["rank"] == 1]
    what = "was killed by SIGKILL" if fault == signal.SIGKILL else "stopped by a signal"
    assert what in failed["detail"] and "restart 1 of 1" in failed["detail"]
    assert figures(folder) == figures(pair)
    assert same_weights(folder, pair, STEPS)
