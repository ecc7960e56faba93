"""What state a run is in, told from its folder alone, and the list of runs."""

import fcntl
import json
import multiprocessing
import os

import pytest

from mindgeex.cli.main import main
from mindgeex.common.errors import UserError
from mindgeex.common.files import sole_writer
from mindgeex.train.runs import checkpoint_bytes, differences, duration, find_runs, is_locked, judge, named, read_run
from tests.train.run_folders import NOW, beat, event, metrics, write_run

HOST = "here"


def judged(events=(), beats=(), locked=False, is_done=False, now=NOW + 3600):
    found = judge(locked, events, beats, is_done, now, HOST)
    return found.name, found.detail


@pytest.mark.parametrize(
    ("events", "beats", "expected"),
    [
        ([event("started"), event("finished")], [beat("finished", 100)], ("finished", "")),
        ([event("started"), event("stopped", 7, "SIGTERM")], [], ("stopped", "SIGTERM")),
        ([event("started"), event("failed", 7, "ValueError: x")], [beat("failed")], ("failed", "ValueError: x")),
        ([event("failed", 7), event("resumed", 5)], [beat("training", 9)], ("crashed", "while training at step 9")),
        ([event("started"), event("checkpoint", 50)], [beat("saving", 50)], ("crashed", "while saving at step 50")),
        ([event("stopped", 7, "--max-time 1h"), event("checkpoint", 7)], [], ("stopped", "--max-time 1h")),
        ([event("started")], [], ("crashed", "")),
    ],
)  # fmt: skip
def test_a_run_that_nobody_holds_is_what_its_last_life_came_to(events, beats, expected):
    assert judged(events, beats) == expected


def test_a_run_without_events_is_finished_if_its_figures_are_complete():
    assert judged(is_done=True) == ("finished", "")
    assert judged(is_done=False) == ("crashed", "")


def test_a_held_run_is_running_and_says_who_what_and_since_when():
    beats = [beat("training", 7, 0), beat("training", 7, 1, progress=NOW - 600)]
    name, detail = judged([event("failed")], beats, locked=True, now=NOW + 2)
    assert name == "running"
    assert detail == "training on elsewhere:4711 and 1 more, last progress of rank 1 10 min ago"
    assert judged(locked=True) == ("running", "no heartbeat yet")


def test_a_run_on_another_machine_is_running_as_long_as_its_heart_beats():
    assert judged([event("started")], [beat("training", 7)], now=NOW + 10)[0] == "running"
    assert judged([event("started")], [beat("training", 7)], now=NOW + 100)[0] == "crashed"
    assert judged([event("started")], [beat("training", 7, host=HOST)], now=NOW + 10)[0] == "crashed", "nobody holds it"
    assert judged([event("finished")], [beat("finished", 7)], now=NOW + 10)[0] == "finished"


def hold(folder, ready, leave):
    with sole_writer(folder):
        ready.set()
        leave.wait()


def test_probing_tells_a_holder_and_does_not_disturb_it(tmp_path):
    run = write_run(tmp_path / "run", metrics(3), [event("started")])
    assert not is_locked(run) and not (run / ".lock").exists()
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    process = context.Process(target=hold, args=(run, ready, leave))
    process.start()
    assert ready.wait(60)
    for _ in range(50):
        assert is_locked(run)
        assert read_run(run).state.name == "running"
    with pytest.raises(UserError, match="another process is writing"), sole_writer(run):
        pass
    leave.set()
    process.join()
    assert process.exitcode == 0
    assert not is_locked(run)
    with sole_writer(run):  # and what has been probed can be taken
        assert is_locked(run)


def test_a_shared_lock_of_another_prober_is_no_holder(tmp_path):
    run = write_run(tmp_path / "run", metrics(3))
    (run / ".lock").touch()
    with (run / ".lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert not is_locked(run)


def test_figures_of_a_run_whose_last_line_is_cut_are_those_before(tmp_path):
    run = write_run(tmp_path / "run", metrics(10), [event("started")])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "lo')
    with (run / "events.jsonl").open("a") as file:
        file.write('{"time": 1.0')
    read = read_run(run)
    assert read.step == 10
    assert read.last("loss") == read.metrics[-1]["loss"]
    assert read.last("heldout_bits_per_byte") == 4
    assert read.curve("heldout", "go") == ([0], [5.0])
    assert read.tokens(read.metrics[-1]) == 10_240
    assert read.hours()[10] == pytest.approx(10 * 0.5 / 3600)


def test_a_step_that_was_done_again_counts_once_as_it_was_the_last_time(tmp_path):
    lines = [*metrics(5), {"step": 4, "loss": 1.0}, {"step": 5, "loss": 0.5}]
    assert read_run(write_run(tmp_path / "run", lines)).curve("loss")[0] == [1, 2, 3, 4, 5]
    assert read_run(tmp_path / "run").curve("loss")[1][-2:] == [1.0, 0.5]


def test_what_is_missing_is_named_and_nothing_at_all_is_no_run(tmp_path):
    with pytest.raises(UserError, match="no run: neither run.yaml nor metrics.jsonl"):
        read_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    read = read_run(tmp_path)
    assert [line.rpartition("/")[2] for line in read.missing[:2]] == [
        "run.yaml: no such file",
        "events.jsonl: nothing there",
    ]
    assert (read.model, read.steps, read.last("loss")) == ("?", None, 2.0)


def test_runs_are_found_wherever_they_are_and_nothing_else(tmp_path):
    for name in ("b/second", "a", "b/first"):
        write_run(tmp_path / name, metrics(1))
        (tmp_path / name / "checkpoints" / "step-1").mkdir(parents=True)
        (tmp_path / name / "checkpoints" / "step-1" / "run.yaml").touch()
    (tmp_path / "corpus" / "shards").mkdir(parents=True)
    assert [path.relative_to(tmp_path).as_posix() for path in find_runs(tmp_path)] == ["a", "b/first", "b/second"]
    assert find_runs(tmp_path / "a") == [tmp_path / "a"]
    with pytest.raises(UserError, match="no such folder"):
        find_runs(tmp_path / "c")


def test_checkpoints_that_share_a_file_count_it_once(tmp_path):
    folder = tmp_path / "checkpoints" / "step-1"
    folder.mkdir(parents=True)
    (folder / "model").write_bytes(bytes(1000))
    os.link(folder / "model", folder / "again")
    (folder / "state").write_bytes(bytes(10))
    assert checkpoint_bytes(tmp_path) == 1010


def test_runs_of_one_name_are_told_apart_and_only_what_differs_is_told(tmp_path):
    first = write_run(tmp_path / "one" / "run", metrics(1), schedule={"peak": 1e-3, "warmup_steps": 4})
    second = write_run(tmp_path / "two" / "run", metrics(1), seed=7)
    runs = named([first, second])
    assert [run.name for run in runs] == ["one/run", "two/run"]
    assert differences(runs) == {"schedule.peak": [1e-3, 3e-3], "seed": [None, 7]}
    assert differences(runs[:1]) == {}


def test_the_list_says_how_far_each_run_is(tmp_path, capsys):
    write_run(tmp_path / "good", metrics(100), [event("started"), event("finished", 100)])
    write_run(
        tmp_path / "bad",
        [*metrics(40), {"step": 41, "loss": float("nan")}],
        [event("started"), event("failed", 40, "rank 1: [Errno 28] no space")],
    )
    assert main(["runs", str(tmp_path), "--json"]) == 0
    bad, good = json.loads(capsys.readouterr().out)
    assert (good["name"], good["state"], good["step"], good["steps"], good["tokens"]) == (
        "good",
        "finished",
        100,
        100,
        102_400,
    )
    assert good["heldout"] == {"c": 2.5, "go": 3.0} and good["heldout_bits_per_byte"] == 2.0
    assert (bad["step"], bad["loss"]) == (41, None), "JSON has no NaN"
    assert (bad["state"], bad["detail"]) == ("failed", "rank 1: [Errno 28] no space")
    assert main(["runs", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert "codegeex_tiny" in table and "finished" in table and "held-out: bits per byte" in table
    assert "bad: failed: rank 1: [Errno 28] no space\n" in table
    assert main(["runs", str(tmp_path / "good" / "heartbeats")]) == 0
    assert "no runs" in capsys.readouterr().out


def test_time_spans_are_in_one_unit():
    assert [duration(s) for s in (-1, 90, 600, 7300, 400_000)] == ["0 s", "90 s", "10 min", "2 h", "5 days"]
