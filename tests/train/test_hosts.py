"""Two hosts and a spare one as network namespaces: a fault on one, and the losses are still those of one process."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from mindgeex.train.callbacks.heartbeat import read_beats
from mindgeex.train.callbacks.metrics import read_metrics
from mindgeex.train.config import load_recipe
from mindgeex.train.events import read_events
from mindgeex.train.trainer import train
from tests.train.conftest import write_recipe
from tests.train.network import ip, network

STEPS = 20

SUPERVISOR = """
import json, os, sys
from pathlib import Path
from mindgeex.train.deadlines import Deadlines
from mindgeex.train.reach import Reach
from mindgeex.train.supervisor import Job, supervise
folder, hosts, words = Path(sys.argv[1]), sys.argv[2].split(), json.loads(sys.argv[3])
deadlines = Deadlines(answering_s=4, killing_s=1)
job = Job(("-m", "mindgeex.cli.main", *words), folder, Reach(tuple(hosts[:2]), 2), 1, None, deadlines, tuple(hosts[2:]))
sys.exit(supervise(job, os.environ))
"""
"""`mindgeex train --hosts A B --workers 2 --restarts 1 --spare-hosts C`, less patient."""


def wait_for(process, condition, seconds=250):
    """The seconds that took; the supervisor must be alive."""
    started = time.monotonic()
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < started + seconds
        time.sleep(0.01)
    return time.monotonic() - started


def losses(folder):
    """Step -> loss."""
    return {line["step"]: line["loss"] for line in read_metrics(folder / "metrics.jsonl") if "loss" in line}


@pytest.fixture(scope="module")
def one_process(corpus_folder, tmp_path_factory):
    """The losses of an undisturbed run, and the words that ask for it."""
    folder = tmp_path_factory.mktemp("one")
    recipe = write_recipe(folder)
    train(load_recipe(str(recipe), (f"steps={STEPS}",)), corpus_folder, folder / "run")
    return losses(folder / "run"), (
        "train",
        "--data",
        str(corpus_folder),
        "--recipe",
        str(recipe),
        "--set",
        f"steps={STEPS}",
    )


@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.parametrize("fault", ["cable", "worker"])
def test_a_run_on_two_hosts_survives_a_fault_and_makes_the_curve_of_one_process(one_process, tmp_path, fault):
    expected, command = one_process
    folder = tmp_path / "hosts"
    with network(tmp_path, 3) as hosts:
        a, b, spare = hosts.hosts
        environment = {**hosts.environment, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", "GLOG_v": "3"}
        words = json.dumps([*command, "--out", str(folder)])
        with subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, str(folder), " ".join(hosts.hosts), words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        ) as process, contextlib.ExitStack() as ending:  # fmt: skip
            ending.callback(process.kill)  # which ends the workers, too
            wait_for(process, lambda: len(read_metrics(folder / "metrics.jsonl")) >= 7)
            if fault == "cable":
                hosts.cut(b)
            else:
                worker = read_beats(folder)[2]["pid"]
                assert str(worker) in ip("netns", "pids", b).split()
                os.kill(worker, signal.SIGKILL)
            noticed_s = wait_for(process, lambda: any(e["event"] == "failed" for e in read_events(folder)))
            said, _ = process.communicate(timeout=250)
        assert process.returncode == 0, said
        assert hosts.processes() == []
    if fault == "cable":
        assert re.search(rf"host {b} has not reached {a} for \d s, though both answer here", said)
        assert f"restart 1 of 1 with {spare} in the place of {b}" in said
        assert 4 < noticed_s < 20
    else:
        assert f"rank 2 (process {worker} on {b}) was killed by SIGKILL; restart 1 of 1" in said
        assert noticed_s < 20
    assert [event["step"] for event in read_events(folder) if event["event"] == "resumed"] in ([5], [10], [15])

    found = losses(folder)
    assert list(found) == list(expected) == list(range(1, STEPS + 1))
    assert max(abs(found[step] - expected[step]) for step in expected) < 1e-5
