"""What records a run: figures that are none, and where no more can be written: it says so, at once, and ends."""

import json
import math

import pytest

from mindgeex.common.errors import UserError
from mindgeex.train.callbacks.base import StepRecord
from mindgeex.train.callbacks.metrics import METRICS_FILE, Metrics, read_metrics
from mindgeex.train.callbacks.tensorboard import TensorBoard
from tests.train.conftest import files_of_at_most


def test_metrics_that_cannot_be_written_fail_once_and_not_again_when_they_end(tmp_path):
    metrics = Metrics(tmp_path, log_steps=1)
    metrics.begin(StepRecord(0))
    with files_of_at_most(110):
        with pytest.raises(UserError, match=r"metrics.jsonl: cannot be written \(File too large\)"):
            for step in range(1, 100):
                metrics.after_step(StepRecord(step, {"loss": 1.0}))
        metrics.end()
    lines = (tmp_path / METRICS_FILE).read_text().split("\n")
    assert [json.loads(line)["step"] for line in lines[:-1]] == [1, 2, 3, 4]


def test_events_that_cannot_be_written_stop_the_run_and_do_not_hang_it(tmp_path):
    board = TensorBoard(tmp_path)
    board.begin(StepRecord(0))
    with files_of_at_most(20_000), pytest.raises(UserError, match=r"cannot be written \(File too large\)"):
        for step in range(1, 10_000):
            board.after_step(StepRecord(step, {"loss": 1.0}))
    board.end()
    [file] = (tmp_path / "tensorboard").iterdir()
    assert file.stat().st_size > 20_000


def test_a_figure_that_is_no_number_is_null_in_the_file_and_none_again_when_read(tmp_path):
    metrics = Metrics(tmp_path, log_steps=1)
    metrics.begin(StepRecord(0))
    metrics.after_step(StepRecord(1, {"loss": math.nan, "grad_norm": math.inf, "scale": 2.0}))
    metrics.end()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": null, "grad_norm": null, "scale": 2.0}\n'
    (line,) = read_metrics(tmp_path / "metrics.jsonl")
    assert math.isnan(line["loss"]) and line["scale"] == 2.0
