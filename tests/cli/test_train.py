"""What `mindgeex train` makes of its words, before anything is trained."""

import pytest

from mindgeex.cli.train import as_yaml, codes_in_words, task_setting, worker_command
from mindgeex.train.config import load_recipe


@pytest.mark.parametrize("path", ["2024", "a: b", "runs/x #2", 'C:\\x"y', "代码/模型", "a=b", "null", "[x"])
def test_a_path_stays_the_text_that_was_typed(path):
    assert load_recipe("codegeex_tiny", (f"init={as_yaml(path)}",)).init == path
    [task] = load_recipe("codegeex_tiny", (task_setting((f"1:plain={path}",)),)).finetune.tasks
    assert (task.name, task.template, task.path) == ("1", "plain", path)


def test_a_worker_gets_none_of_the_words_that_are_the_supervisors():
    words = ["train", "--workers", "2", "--data", "c", "--max-time=5m", "--set", "a=1", "b=2", "--restarts", "3"]
    assert worker_command(words) == ("-m", "mindgeex.cli.main", "train", "--data", "c", "--set", "a=1", "b=2")
    words = ["train", "--hosts", "a", "b", "--spare_hosts", "c", "--data", "c", "--reach=srun {host}", "--set", "a=1"]
    assert worker_command(words) == ("-m", "mindgeex.cli.main", "train", "--data", "c", "--set", "a=1")
    assert worker_command(["train", "--max-time", "5m", "--resume"]) == (*worker_command(["train"]), "--resume")


def test_codes_in_the_logs_of_workers_are_put_into_words_the_earliest_first(tmp_path):
    logs = {rank: tmp_path / f"rank-{rank}.log" for rank in range(3)}
    logs[0].write_text("EI0006: 2026-11-29-10:00:05.000 Getting socket times out.\n")
    logs[1].write_text("fine\n[ERROR] EZ9999: 2026-11-29-09:59:01.000 Inner Error!\n")
    assert codes_in_words({**logs, 3: tmp_path / "none.log"}) == [
        "EZ9999 (rank 1, line 2): an internal error of operators in general, with the cause in the message only",
        "  next: read the lines below it and the plog (~/ascend/log); it often only follows another rank's or code's "
        "error",
        "EI0006 (rank 0, line 1): a rank did not connect within HCCL_CONNECT_TIMEOUT (120 s if it is not set)",
        "  next: look for a rank that failed or never started; if all time out far apart in time, raise "
        "HCCL_CONNECT_TIMEOUT; then check the links: `hccn_tool -i N -ping -g address ...`, and `hccn_tool -i N -tls "
        "-g`, the same on all",
    ]
