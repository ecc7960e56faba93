"""What a resumed run may change, and what not."""

import pytest

from mindgeex.common.errors import UserError
from mindgeex.train.config import load_recipe
from mindgeex.train.events import read_events
from mindgeex.train.run_folder import check_run, write_run

TASKS = ("finetune.tasks=[{name: chat, path: chat.jsonl}]",)


def written(folder, *overrides):
    config = load_recipe("codegeex_tiny", overrides)
    check_run(folder, config, "data", resume=False)
    write_run(folder, config, "data")
    return folder


def resumed(folder, *overrides, data="data"):
    config = load_recipe("codegeex_tiny", overrides)
    check_run(folder, config, data, resume=True)
    write_run(folder, config, data)


def test_cadence_and_guard_may_change(tmp_path):
    resumed(written(tmp_path), "cadence.evaluate_steps=7", "cadence.keep_every_steps=5", "guard.on_spike=skip")
    resumed(tmp_path, "cadence.evaluate_steps=9")
    assert [event["event"] for event in read_events(tmp_path)] == ["started"]


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        (
            (),
            ("optimizer.beta1=0.8",),
            "run.yaml: optimizer.beta1 was 0.9 and is now 0.8: a resumed run must be the same",
        ),
        ((), ("loss_scale.window=3",), "run.yaml: loss_scale.window was 1000 and is now 3"),
        ((), ("seed=1",), "run.yaml: seed was 42 and is now 1"),
        ((), ("init=base",), "run.yaml: init was None and is now 'base'"),
        (("init=base",), ("init=base", "lora.rank=4"), "run.yaml: lora.rank was None and is now 4"),
    ],
)
def test_anything_else_may_not_and_is_named(tmp_path, before, now, message):
    written(tmp_path, *before)
    with pytest.raises(UserError, match=message):
        resumed(tmp_path, *now)


def test_other_data_are_refused(tmp_path):
    written(tmp_path)
    with pytest.raises(UserError, match="run.yaml: data was 'data' and is now 'other'"):
        resumed(tmp_path, data="other")


def test_convergence_balancing_depends_on_when_it_is_evaluated_and_other_balances_do_not(tmp_path):
    coba = (*TASKS, "finetune.balance=coba")
    written(tmp_path / "coba", *coba)
    resumed(tmp_path / "coba", *coba, "cadence.checkpoint_steps=3")
    with pytest.raises(UserError, match="run.yaml: cadence.evaluate_steps was 100 and is now 7"):
        resumed(tmp_path / "coba", *coba, "cadence.evaluate_steps=7")
    resumed(written(tmp_path / "tasks", *TASKS), *TASKS, "cadence.evaluate_steps=7")
