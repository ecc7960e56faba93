"""Real processes under msrun, with real faults; where AllReduce does not matter the workers leave MindSpore out."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from mindgeex.common.errors import UserError
from mindgeex.common.files import sole_writer
from mindgeex.train.callbacks import heartbeat
from mindgeex.train.callbacks.base import Callback, StepRecord
from mindgeex.train.callbacks.heartbeat import Heartbeat, Staged, first_beat, heartbeat_path, read_beats, write_beat
from mindgeex.train.deadlines import Deadlines
from mindgeex.train.events import read_events
from mindgeex.train.fleet import Fleet
from mindgeex.train.reach import Reach
from mindgeex.train.supervisor import Job
from mindgeex.train.watch import Watch

MARK = "TEST_OF_SUPERVISOR"
JOB = Path(__file__).with_name("supervised_job.py")
QUICK = {"training_s": 4, "leaving_s": 3, "killing_s": 3}


def start(out: Path, **options) -> subprocess.Popen:
    options = {"out": str(out), "deadlines": QUICK, **options}
    environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", "GLOG_v": "3", MARK: str(out)}
    command = [sys.executable, str(JOB), "supervise", json.dumps(options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def run(out: Path, **options) -> tuple[int, str]:
    process = start(out, **options)
    said, _ = process.communicate(timeout=90)
    assert left_over(out) == []
    return process.returncode, said


def left_over(out: Path) -> list[str]:
    """Command lines of processes, the supervisor included, that have inherited this run's mark."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if f"{MARK}={out}\0".encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def wait_for(condition, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def at_step(out: Path, rank: int) -> int:
    path = out / f"saved-{rank}"
    return int(path.read_text() or 0) if path.exists() else 0


def test_a_run_without_faults_ends_with_0_and_shows_what_rank_0_prints(tmp_path):
    code, said = run(tmp_path, workers=1)
    assert code == 0, said
    assert "rank 0 starts at step 0" in said
    assert at_step(tmp_path, 0) == 20
    assert read_events(tmp_path) == []


def test_a_traceback_of_rank_1_is_shown_and_a_restart_goes_on_where_it_was(tmp_path):
    code, said = run(tmp_path, fault={"kind": "raise", "rank": 1, "step": 7}, restarts=1)
    assert code == 0, said
    assert "rank 1 (process" in said
    assert "ended with exit code 1; restart 1 of 1" in said
    assert "ValueError: the rows ran out" in said
    assert "in fail" in said  # from the traceback
    assert "rank 1 starts at step 6" in (tmp_path / "logs/attempt-02/rank-00001.log").read_text()
    assert [at_step(tmp_path, rank) for rank in (0, 1)] == [20, 20]
    event = read_events(tmp_path)[0]
    assert (event["event"], event["rank"], event["step"]) == ("failed", 1, 7)


def test_the_first_to_fail_is_named_though_one_that_missed_it_left_before(tmp_path):
    code, said = run(tmp_path, fault={"kind": "slow_to_leave", "rank": 1, "step": 3})
    assert code == 1, said
    assert read_events(tmp_path)[0]["rank"] == 1
    assert "ValueError: the rows ran out" in said


def test_a_killed_worker_ends_the_run_and_is_named(tmp_path):
    code, said = run(tmp_path, fault={"kind": "SIGKILL", "rank": 1, "step": 5, "steps": 400})
    assert code == 1, said
    assert "was killed by SIGKILL; not restarted: give --restarts" in said
    assert at_step(tmp_path, 0) < 400


def test_a_stopped_worker_is_named_though_all_hang_in_the_all_reduce_and_the_run_goes_on(tmp_path):
    code, said = run(tmp_path, fault={"kind": "SIGSTOP", "rank": 1, "step": 9}, restarts=1, is_real=True)
    assert code == 0, said
    assert "rank 1 (process" in said
    what = r"while training, step [89], stopped by a signal \(others: rank 0 training at step [89]\); restart 1 of 1"
    assert re.search(what, said), said
    assert [at_step(tmp_path, rank) for rank in (0, 1)] == [20, 20]


def test_a_deadlock_is_found_though_the_heart_beats_on(tmp_path):
    code, said = run(tmp_path, workers=1, fault={"kind": "deadlock", "rank": 0, "step": 3})
    assert code == 1, said
    assert "rank 0 (process" in said
    assert re.search(r"hangs: no progress for \d+ s while training, step [23];", said), said


def test_a_time_limit_is_that_of_all_attempts_together(tmp_path):
    job = Job(("-m", "x"), tmp_path, max_time_s=90.0)
    assert job.words(False, 0.0) == ("-m", "x", "--max-time", "90.000")
    assert job.words(True, 30.5) == ("-m", "x", "--resume", "--max-time", "59.500")
    assert Job(("-m", "x", "--resume"), tmp_path).words(True, 30.5) == ("-m", "x", "--resume")
    fault = {"kind": "raise", "rank": 0, "step": 4, "always": True}
    code, said = run(tmp_path, workers=1, fault=fault, restarts=9, max_time_s=0.01)
    assert code == 1, said
    assert said.count("ValueError: the rows ran out") == 1
    assert "not restarted: --max-time is over" in said


def test_what_the_first_worker_has_noted_itself_is_not_noted_again(tmp_path):
    fault = {"kind": "raise", "rank": 0, "step": 4, "notes": True}
    code, said = run(tmp_path, workers=1, fault=fault, restarts=1)
    assert code == 0, said
    assert "ended with exit code 1; restart 1 of 1" in said
    assert [event["detail"] for event in read_events(tmp_path)] == ["the worker's own words"]


def test_a_run_that_fails_at_the_same_step_every_time_is_given_up(tmp_path):
    fault = {"kind": "raise", "rank": 0, "step": 4, "always": True}
    code, said = run(tmp_path, workers=1, fault=fault, restarts=9)
    assert code == 1, said
    assert "not restarted: it crashes at step 4 every time" in said
    assert said.count("ValueError: the rows ran out") == 3


def test_a_mistake_of_the_user_is_not_tried_again(tmp_path):
    code, said = run(tmp_path, workers=1, fault={"kind": "user", "rank": 0, "step": 1, "always": True}, restarts=9)
    assert code == 2, said
    assert said.count("recipe.yaml: no such recipe") == 1
    assert read_events(tmp_path) == []


def test_a_worker_that_has_finished_and_cannot_leave_is_helped(tmp_path):
    code, said = run(tmp_path, workers=1, fault={"kind": "cannot_leave"})
    assert code == 0, said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_is_passed_on_and_the_orderly_end_is_waited_for(tmp_path, number):
    process = start(tmp_path, workers=2 if number == signal.SIGTERM else 1, fault={"steps": 2000})
    ranks = range(2 if number == signal.SIGTERM else 1)
    wait_for(lambda: all(at_step(tmp_path, rank) >= 3 for rank in ranks))
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert all((tmp_path / f"orderly-{rank}").exists() for rank in ranks)
    assert left_over(tmp_path) == []


def test_a_worker_killed_on_another_host_is_named_and_a_request_to_stop_reaches_every_host(tmp_path):
    fault = {"kind": "SIGKILL", "rank": 1, "step": 5, "steps": 2000}
    process = start(tmp_path, hosts=["127.0.0.1", "127.0.0.2"], workers=1, restarts=1, fault=fault)
    wait_for(lambda: all(at_step(tmp_path, rank) >= 30 for rank in range(2)))
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert re.search(r"rank 1 \(process \d+ on 127.0.0.2\) was killed by SIGKILL; restart 1 of 1", said), said
    assert all((tmp_path / f"orderly-{rank}").exists() for rank in range(2))
    assert left_over(tmp_path) == []


def test_no_worker_outlives_a_supervisor_that_was_killed_not_even_a_stopped_one(tmp_path):
    process = start(tmp_path, fault={"kind": "SIGSTOP", "rank": 1, "step": 3, "steps": 2000}, deadlines={})
    wait_for(lambda: at_step(tmp_path, 0) >= 3 and at_step(tmp_path, 1) == 2)
    assert len(left_over(tmp_path)) == 5  # two workers, MindSpore's scheduler, the agent, the supervisor
    process.kill()
    process.wait()
    wait_for(lambda: left_over(tmp_path) == [], 5)


def test_a_run_has_one_supervisor(tmp_path):
    with sole_writer(tmp_path / "logs"):
        process = start(tmp_path, workers=1)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "another process is writing there" in said
    assert at_step(tmp_path, 0) == 0


def test_a_step_may_take_many_times_the_median_but_always_the_least():
    deadlines = Deadlines(training_s=60, training_medians=10)
    assert deadlines.of({"stage": "training", "step_s": 0.1}) == 60
    assert deadlines.of({"stage": "training", "step_s": 30.0}) == 300
    assert deadlines.of({}) == deadlines.connecting_s


def test_a_heartbeat_tells_stage_step_and_last_progress_apart_from_being_alive(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.05)
    monkeypatch.setattr(heartbeat, "LEAST_INTERVAL_S", 0.0)
    beating = Heartbeat(tmp_path, 3)
    beating.begin(StepRecord(7))
    assert (read_beats(tmp_path)[3]["stage"], read_beats(tmp_path)[3]["step"]) == ("compiling", 7)
    for step in (8, 9):
        time.sleep(0.06)
        beating.after_step(StepRecord(step))
    first = read_beats(tmp_path)[3]
    assert (first["stage"], first["step"]) == ("training", 9)
    assert 0.06 <= first["step_s"] < 5
    wait_for(lambda: read_beats(tmp_path)[3]["time"] > first["time"] + 0.1)  # a main thread that hangs
    later = read_beats(tmp_path)[3]
    assert later["progress"] == first["progress"]
    beating.end()
    assert read_beats(tmp_path)[3]["stage"] == "finished"
    assert not beating.thread.is_alive()


def test_what_callbacks_do_is_a_stage_of_its_own_and_an_error_is_the_last_one(tmp_path):
    seen = []

    class Evaluation(Callback):
        def after_step(self, record: StepRecord) -> None:
            seen.append(beating.beat["stage"])

    beating = Heartbeat(tmp_path, 0)
    with pytest.raises(ValueError), ExitStack() as ending:
        ending.callback(beating.end)
        beating.after_step(StepRecord(1))
        Staged(beating, "evaluating", Evaluation()).after_step(StepRecord(1))
        seen.append(beating.beat["stage"])
        raise ValueError
    assert seen == ["evaluating", "training"]
    assert read_beats(tmp_path)[0]["stage"] == "failed"


def test_a_heart_that_cannot_write_is_no_reason_to_end_a_run(tmp_path):
    (tmp_path / "heartbeats").write_text("not a folder")
    beating = Heartbeat(tmp_path, 0)
    beating.after_step(StepRecord(1))
    beating.end()
    assert read_beats(tmp_path) == {}


@pytest.mark.parametrize(("option", "value"), [("workers", 0), ("restarts", -1)])
def test_numbers_that_make_no_sense_are_refused_by_their_option(tmp_path, option, value):
    with pytest.raises(UserError, match=f"--{option} {value}"):
        Job(("-c", "pass"), tmp_path, **({"reach": Reach(per_host=value)} if option == "workers" else {option: value}))


def pass_by(watch, seconds):
    """As if nobody had got on for so long."""
    watch.progress_at = {rank: at - seconds for rank, at in watch.progress_at.items()}


def test_a_rank_may_wait_for_another_that_saves_but_not_for_ever(tmp_path):
    folders = {"run_folder": str(tmp_path), "logs": str(tmp_path)}
    order = {"worker": ["-c", "import time; time.sleep(60)"], "meeting_s": 9, **folders}
    fleet = Fleet(Reach(per_host=2), order, tmp_path, os.environ, tmp_path, answering_s=9, reaching_s=9)
    try:
        watch = Watch(Deadlines(training_s=20, saving_s=80), fleet, tmp_path)
        wait_for(lambda: watch.look() or len(watch.beats) == 2)
        for rank, stage in enumerate(["saving", "training"]):
            path = heartbeat_path(tmp_path, rank)
            write_beat(path, first_beat(rank) | {"pid": fleet.workers[rank].pid, "stage": stage, "step": 5})
        wait_for(lambda: watch.look() or watch.beats[1]["step"] == watch.beats[0]["step"] == 5)
        pass_by(watch, 30)
        assert watch.hanging() is None
        pass_by(watch, 60)
        failure = watch.hanging()
        assert failure is not None
        assert failure.rank == 0
        assert "while saving, step 5 (others: rank 1 training at step 5)" in failure.what
    finally:
        assert fleet.close() == []
