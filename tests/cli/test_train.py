"""What `mindgeex train` makes of its words, before anything is trained."""

import pytest

from mindgeex.cli.train import as_yaml, task_setting, worker_command
from mindgeex.train.config import load_recipe


@pytest.mark.parametrize("path", ["2024", "a: b", "runs/x #2", 'C:\\x"y', "代码/模型", "a=b", "null", "[x"])
def test_a_path_stays_the_text_that_was_typed(path):
    assert load_recipe("codegeex_tiny", (f"init={as_yaml(path)}",)).init == path
    [task] = load_recipe("codegeex_tiny", (task_setting((f"1:plain={path}",)),)).finetune.tasks
    assert (task.name, task.template, task.path) == ("1", "plain", path)


def test_a_worker_gets_none_of_the_words_that_are_the_supervisors():
    words = ["train", "--workers", "2", "--data", "c", "--max-time=5m", "--set", "a=1", "b=2", "--restarts", "3"]
    assert worker_command(words) == ("-m", "mindgeex.cli.main", "train", "--data", "c", "--set", "a=1", "b=2")
    assert worker_command(["train", "--max-time", "5m", "--resume"]) == (*worker_command(["train"]), "--resume")
