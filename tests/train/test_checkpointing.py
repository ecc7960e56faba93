"""Which checkpoints stay, and which one a run goes on from."""

import copy
import dataclasses

import mindspore as ms
import numpy as np
import pytest

from mindgeex.common.errors import UserError
from mindgeex.common.files import read_json, write_json
from mindgeex.model_zoo.checkpoints.adapter import ADAPTER_FILE, ADAPTER_WEIGHTS_FILE, AdapterInfo, save_adapter
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.lora_config import LoraConfig
from mindgeex.train.checkpointing import OPTIMIZER_FILE, STATE_FILE, Progress, TrainState, newest_whole, restore, save
from mindgeex.train.loss_scale import LossScale
from tests.train.conftest import files_of_at_most

SIZES = ModelConfig("codegeex", 2, 8, 2, vocab_size=8, seq_length=8, feed_forward_size=8, eod_id=0)


@pytest.fixture
def state(tmp_path):
    """Parameters that are real and few; here it does not matter whose."""
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "vocab.json").write_text("{}")
    parameter = {"a": ms.Parameter(ms.Tensor(np.ones(3, np.float32)))}
    return TrainState(SIZES, parameter, parameter, tokenizer)


def save_steps(folder, state, *steps, keep):
    for step in steps:
        state.progress.step = step
        save(folder, state, keep)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def damage(checkpoint):
    (checkpoint / OPTIMIZER_FILE).write_bytes(b"")


def test_the_newest_stay(tmp_path, state):
    save_steps(tmp_path / "run", state, 10, 20, 30, keep=2)
    assert names(tmp_path / "run") == ["step-00000020", "step-00000030"]


def test_the_newest_whole_one_is_taken(tmp_path, state):
    folder = tmp_path / "run"
    save_steps(folder, state, 10, 20, 30, 40, keep=4)
    damage(folder / "step-00000040")
    (folder / "step-00000030" / STATE_FILE).write_text("[]\n")
    assert newest_whole(folder) == folder / "step-00000020"


def test_what_is_not_a_checkpoint_neither_counts_nor_is_touched(tmp_path, state):
    folder = tmp_path / "run"
    save_steps(folder, state, 10, keep=2)
    (folder / "step-00000010").rename(folder / "step-00000010-best")
    (folder / "step-notes").write_text("mine")
    save_steps(folder, state, 20, 99_999_999, 100_000_000, keep=2)
    assert names(folder) == ["step-00000010-best", "step-100000000", "step-99999999", "step-notes"]
    assert newest_whole(folder) == folder / "step-100000000"


def test_damaged_checkpoints_ahead_do_not_push_out_those_of_a_resumed_run(tmp_path, state):
    folder = tmp_path / "run"
    save_steps(folder, state, 30, 40, keep=2)
    damage(folder / "step-00000030")
    damage(folder / "step-00000040")
    assert newest_whole(folder) is None
    save_steps(folder, state, 10, keep=2)
    assert newest_whole(folder) == folder / "step-00000010"
    save_steps(folder, state, 20, 30, 40, keep=2)
    assert names(folder) == ["step-00000030", "step-00000040"]
    assert newest_whole(folder) == folder / "step-00000040"


def test_a_run_does_not_go_on_with_another_model_whose_tensors_fit(tmp_path, state):
    save_steps(tmp_path / "run", state, 10, keep=1)
    state.progress.step = 0
    restore(tmp_path / "run" / "step-00000010", state)
    assert state.progress.step == 10
    state.model_config = dataclasses.replace(SIZES, dropout_rate=0.5)
    with pytest.raises(UserError, match="model.yaml: dropout_rate was 0.1 and is now 0.5: a resumed run must"):
        restore(tmp_path / "run" / "step-00000010", state)


def test_additions_do_not_go_on_upon_another_base(tmp_path, state):
    def write_model(folder, sizes, tensors):
        save_adapter(folder, sizes, tensors, AdapterInfo("base", "a" * 64, LoraConfig()))

    state.write_model, state.weights_file = write_model, ADAPTER_WEIGHTS_FILE
    state.descriptions = {ADAPTER_FILE: {"base_sha256": "a" * 64}}
    save_steps(tmp_path / "run", state, 10, keep=1)
    restore(tmp_path / "run" / "step-00000010", state)
    state.descriptions = {ADAPTER_FILE: {"base_sha256": "b" * 64}}
    with pytest.raises(UserError, match="adapter.yaml: base_sha256 was 'aa.*' and is now 'bb.*': a resumed run must"):
        restore(tmp_path / "run" / "step-00000010", state)


def test_a_tokenizer_that_does_not_fit_on_the_disk_is_told_as_such_and_leaves_nothing(tmp_path, state):
    (state.tokenizer_folder / "vocab.json").write_text(" " * 100_000)
    with (
        files_of_at_most(50_000),
        pytest.raises(UserError, match=r"step-00000000: cannot be written \(File too large\)"),
    ):
        save(tmp_path / "run", state, keep=1)
    assert names(tmp_path / "run") == []


def test_every_mth_stays_beside_the_newest(tmp_path, state):
    for step in range(10, 80, 10):
        state.progress.step = step
        save(tmp_path / "run", state, keep=1, keep_every=30)
    assert names(tmp_path / "run") == ["step-00000030", "step-00000060", "step-00000070"]


def test_a_snapshot_is_not_changed_by_later_steps(tmp_path, state):
    state.progress.step, state.progress.guard = 10, {"losses": [1.0]}
    snapshot = state.snapshot()
    state.model_parameters["a"].set_data(ms.Tensor(np.zeros(3, np.float32)))
    state.progress.step = 11
    state.progress.guard["losses"].append(2.0)
    save(tmp_path / "run", snapshot, keep=1)
    restore(tmp_path / "run" / "step-00000010", state)
    assert state.progress.step == 10 and state.progress.guard == {"losses": [1.0]}
    assert state.model_parameters["a"].asnumpy().tolist() == [1.0, 1.0, 1.0]


def test_all_of_the_progress_comes_back(tmp_path, state):
    state.progress = Progress(7, 5, 40, 900, LossScale(1024.0, 3), {"norms": [0.1 + 0.2]}, {"a": 1 / 3})
    expected = copy.deepcopy(state.progress)
    path = save(tmp_path / "run", state, keep=1)
    state.progress = Progress()
    restore(path, state)
    assert state.progress == expected


def test_a_run_that_goes_on_with_other_kernels_is_told_that_its_last_digits_will_differ(tmp_path, state, caplog):
    path = save(tmp_path / "run", state, keep=1)
    restore(path, state)
    assert not caplog.records
    written = read_json(path / STATE_FILE)
    written["versions"]["kernels"] = "others"
    write_json(path / STATE_FILE, written)
    restore(path, state)
    [record] = caplog.records
    assert "kernels was others and is now" in record.getMessage()
