"""Whole runs: what they leave behind, exact resume after kill -9, and every input they refuse."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mindgeex.cli.main import main
from mindgeex.common.errors import UserError
from mindgeex.common.files import sole_writer
from mindgeex.data.mindrecord import Corpus
from mindgeex.model_zoo.checkpoints.native import read_tensors
from mindgeex.train.callbacks.heartbeat import Heartbeat, read_beats
from mindgeex.train.callbacks.metrics import read_metrics
from mindgeex.train.checkpointing import list_checkpoints, newest_whole, verify
from mindgeex.train.config import load_recipe
from mindgeex.train.events import read_events
from mindgeex.train.feed import CorpusFeed
from mindgeex.train.run_data import RunData
from mindgeex.train.stopping import StopRequest
from mindgeex.train.trainer import train
from tests.train.conftest import run, write_recipe

SIGNALLED = Path(__file__).with_name("signalled.py")


def figures(folder):
    """Everything a run measured that does not depend on the clock."""
    lines = read_metrics(folder / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key not in ("tokens_per_s", "mfu")} for line in lines]


def same_weights(one, other, step=40):
    """Whether two runs' checkpoints hold the same bits."""
    folders = [folder / "checkpoints" / f"step-{step:08d}" for folder in (one, other)]
    for name in ("model.safetensors", "optimizer.safetensors"):
        first, second = (read_tensors(folder / name) for folder in folders)
        assert first.keys() == second.keys()
        if not all(np.array_equal(first[key], second[key]) for key in first):
            return False
    return True


def signalled(faults, marks, *words):
    """The command line in a process of its own, which gets a signal in the midst of a step: {step: signal}."""
    faults = {step: [0, number] for step, number in faults.items()}
    command = [sys.executable, str(SIGNALLED), json.dumps(faults), str(marks), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def undisturbed(corpus_folder, tmp_path_factory):
    """The run that others are compared with."""
    folder = tmp_path_factory.mktemp("undisturbed")
    path = write_recipe(folder)
    result = run("train", "--data", corpus_folder, "--recipe", path, "--out", folder / "run")
    assert result.returncode == 0, result.stderr
    return folder / "run", path, result


@pytest.mark.slow
def test_a_run_learns_and_leaves_its_record(undisturbed):
    folder, _, result = undisturbed
    lines = figures(folder)
    assert [line["step"] for line in lines] == list(range(41))
    heldout = [line["heldout_bits_per_byte"] for line in lines if "heldout_bits_per_byte" in line]
    assert len(heldout) == 5
    assert heldout[-1] < heldout[0]
    assert f"{heldout[-1]:.3f} after; xz -9 on the same text: " in result.stdout
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == ["step-00000035", "step-00000040"]
    assert "<svg" in (folder / "report.html").read_text()
    assert list((folder / "tensorboard").glob("events.*"))


@pytest.mark.slow
def test_a_checkpoint_completes_prompts_on_its_own_and_refuses_one_beyond_its_window(undisturbed, tmp_path, capsys):
    folder, _, _ = undisturbed
    checkpoint = tmp_path / "elsewhere"
    shutil.copytree(folder / "checkpoints" / "step-00000040", checkpoint)
    settings = ["--prompt", "def ", "--max-new-tokens", "8", "--seed", "3"]
    said = []
    for path in (checkpoint, folder):
        code = main(["generate", "--checkpoint", str(path), *settings])
        said.append(capsys.readouterr())
        assert code == 0, said[-1].err
    assert said[0].out.startswith("def ") and len(said[0].out) > len("def \n")
    assert said[0].out == said[1].out
    assert main(["generate", "--checkpoint", str(folder), "--prompt", "word " * 200]) == 2
    assert "fewer than the model's window of 64" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(undisturbed, corpus_folder, tmp_path, capsys):
    finished, recipe, _ = undisturbed
    shutil.copytree(finished, tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    for path in (tmp_path / "run" / "checkpoints").glob("*/model.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    words = ["--data", str(corpus_folder), "--recipe", str(recipe), "--out", str(tmp_path / "run"), "--resume"]
    assert main(["train", *words]) == 2
    assert "none of step-00000035, step-00000040 is whole: put a copy of one back" in capsys.readouterr().err
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_is_killed_or_asked_to_stop_goes_on_as_if_it_had_not(undisturbed, corpus_folder, tmp_path):
    """One run: killed, then stopped by each signal and by a time limit, then left in peace."""
    expected, recipe, _ = undisturbed
    folder = tmp_path / "run"
    words = ("train", "--data", corpus_folder, "--recipe", recipe, "--out", folder, "--resume")

    # Saving at step 10 waits until step 5's checkpoint is there.
    killed = signalled({12: signal.SIGKILL}, tmp_path, *words)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert 12 <= len(figures(folder)) < 41

    def assert_stopped(*reasons):
        last = read_events(folder)[-1]
        assert last["event"] == "stopped" and last["detail"] in reasons
        [*_, newest] = list_checkpoints(folder / "checkpoints")
        assert newest.name == f"step-{figures(folder)[-1]['step']:08d}" < "step-00000040"

    for step, number in ((20, signal.SIGTERM), (28, signal.SIGINT)):
        result = signalled({step: number}, tmp_path, *words)
        assert result.returncode == 0, result.stderr
        assert "resumed: from" in result.stderr
        # While a graph runs, MindSpore answers SIGINT, by sending SIGTERM.
        assert_stopped("SIGTERM", number.name)
    assert main([*map(str, words), "--max-time", "0.001s"]) == 0
    assert_stopped("--max-time of 0 s")

    result = run(*words)
    assert result.returncode == 0, result.stderr
    assert [event["event"] for event in read_events(folder)].count("resumed") == 4
    assert figures(folder) == figures(expected)
    assert same_weights(folder, expected)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(undisturbed, corpus_folder, tmp_path, caplog):
    expected, recipe, _ = undisturbed
    shutil.copytree(expected, tmp_path / "run")
    weights = tmp_path / "run" / "checkpoints" / "step-00000040" / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    train(load_recipe(str(recipe)), corpus_folder, tmp_path / "run", resume=True)
    assert "step-00000040/model.safetensors: truncated or altered" in caplog.text
    [resumed] = [event for event in read_events(tmp_path / "run") if event["event"] == "resumed"]
    assert "step-00000035" in resumed["detail"]
    assert figures(tmp_path / "run") == figures(expected)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_disk_that_fills_while_saving_is_told_and_spoils_nothing(undisturbed, corpus_folder, tmp_path):
    _, recipe, _ = undisturbed
    disk = tmp_path / "disk"
    disk.mkdir()
    command = f"{sys.executable} -m mindgeex.cli.main train --data {corpus_folder} --recipe {recipe} --out {disk}/run"
    script = f"mount -t tmpfs -o size=700k tmpfs {disk} && {command}; code=$?; find {disk} -name 'step-*'; exit $code"
    result = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=200)
    assert result.returncode == 2, result.stderr
    assert "the disk is full" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert "partial" not in result.stdout


@pytest.mark.slow
def test_a_loss_that_stays_no_number_stops_the_run_and_is_never_saved(corpus_folder, tmp_path, recipe, capsys):
    settings = ["--set", "schedule.peak=1e38", "schedule.warmup_steps=0", "optimizer.max_grad_norm=1e30"]
    words = ["train", "--data", corpus_folder, "--recipe", recipe, "--out", tmp_path / "run", *settings]
    assert main([*map(str, words)]) == 2
    said = capsys.readouterr().err
    assert "at step 10: the loss is nan, the 9th step in a row that is skipped: lower schedule.peak" in said
    events = [event["event"] for event in read_events(tmp_path / "run")]
    assert events == ["started", *["skipped"] * 8, "failed"]
    assert not list_checkpoints(tmp_path / "run" / "checkpoints")


@pytest.mark.slow
def test_a_shard_that_vanishes_in_mid_run_is_named_and_the_run_goes_on_once_it_is_back(
    corpus_folder, recipe, tmp_path, monkeypatch
):
    corpus, folder = tmp_path / "corpus", tmp_path / "run"
    shutil.copytree(corpus_folder, corpus)
    shards = [path for path in (corpus / "shards").iterdir() if "train" in path.name]
    settings = ("steps=70", "cadence.evaluate_steps=70")  # more than one chunk of rows
    after_step = Heartbeat.after_step

    def and_take_shards_away(self, record):
        after_step(self, record)
        if record.step == 6:
            for path in shards:
                path.rename(tmp_path / path.name)

    with monkeypatch.context() as patch:
        patch.setattr(Heartbeat, "after_step", and_take_shards_away)
        message = refused(recipe, corpus, folder, *settings)
    assert any(str(path) in message for path in shards)
    assert read_events(folder)[-1]["event"] == "failed"
    assert newest_whole(folder / "checkpoints") is not None
    for path in shards:
        (tmp_path / path.name).rename(path)
    config = load_recipe(str(recipe), settings)
    train(config, corpus, folder, resume=True)
    train(config, corpus_folder, tmp_path / "whole")
    assert figures(folder) == figures(tmp_path / "whole")
    assert same_weights(folder, tmp_path / "whole", 70)


def break_steps(monkeypatch, *rows):
    """Makes the weight of one label no number in the steps that begin with these rows of the order."""
    weigh = RunData.weigh

    def broken(self, batch):
        batch = weigh(self, batch)
        if batch.slots_B[0] in rows:
            batch.weights_BS[0, 0] = math.nan
        return batch

    monkeypatch.setattr(RunData, "weigh", broken)


@pytest.mark.slow
def test_a_broken_batch_is_skipped_and_said(corpus_folder, recipe, tmp_path, monkeypatch):
    break_steps(monkeypatch, 4 * 9)
    # Only half precision has a loss scale that such a step could be laid to.
    train(load_recipe(str(recipe), ["steps=12", "loss_scale.lowest=0.5"]), corpus_folder, tmp_path / "run")
    lines = figures(tmp_path / "run")
    assert [line["step"] for line in lines if math.isnan(line.get("loss", 0.0))] == [10]
    [event] = [event for event in read_events(tmp_path / "run") if event["event"] == "skipped"]
    assert event["step"] == 10 and "the loss is nan" in event["detail"]
    progress = verify(tmp_path / "run" / "checkpoints" / "step-00000012")
    assert (progress.step, progress.updates, progress.next_row) == (12, 11, 48)
    # What was due at the broken step is saved with the next sound one.
    saved = [event["step"] for event in read_events(tmp_path / "run") if event["event"] == "checkpoint"]
    assert saved == [5, 11, 12]


@pytest.mark.slow
def test_a_rollback_goes_back_to_the_checkpoint_and_on_behind_the_rows_seen_since(
    corpus_folder, recipe, tmp_path, monkeypatch
):
    break_steps(monkeypatch, 4 * 8)  # the ninth step, of rows 32 to 35
    settings = ["steps=12", "guard.on_not_finite=rollback"]
    train(load_recipe(str(recipe), settings), corpus_folder, tmp_path / "run")
    lines = figures(tmp_path / "run")
    assert [line["step"] for line in lines] == list(range(13))
    assert all(math.isfinite(line.get("loss", 0.0)) for line in lines)
    [event] = [event for event in read_events(tmp_path / "run") if event["event"] == "rolled_back"]
    assert event["step"] == 5 and "at step 9 the loss is nan" in event["detail"]
    progress = verify(tmp_path / "run" / "checkpoints" / "step-00000012")
    # From step 5 on behind row 36: seven steps of four rows.
    assert (progress.step, progress.updates, progress.next_row, progress.tokens) == (12, 12, 64, 12 * 256)
    # What was trained is what a run on the rows 0 to 19 and 36 to 63 would have seen: its sixth step is row 36's.
    corpus = Corpus.open(corpus_folder)
    skipped = CorpusFeed(corpus, 42).batches(4, 36)
    assert next(skipped).slots_B.tolist() == [36, 37, 38, 39]


@pytest.mark.slow
def test_a_spike_is_skipped_by_the_step_itself(corpus_folder, recipe, tmp_path):
    settings = ["steps=20", "guard.on_spike=skip", "guard.window=2", "guard.loss_deviations=1e-6", "guard.limit=100"]
    train(load_recipe(str(recipe), settings), corpus_folder, tmp_path / "run")
    skipped = [event for event in read_events(tmp_path / "run") if event["event"] == "skipped"]
    assert skipped and all("is above" in event["detail"] for event in skipped)
    assert verify(tmp_path / "run" / "checkpoints" / "step-00000020").updates == 20 - len(skipped)


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_at_its_last_step_has_finished(corpus_folder, recipe, tmp_path):
    train(load_recipe(str(recipe), ["steps=1"]), corpus_folder, tmp_path / "run", stop=StopRequest(0.0))
    assert [event["event"] for event in read_events(tmp_path / "run")] == ["started", "checkpoint", "finished"]
    assert read_beats(tmp_path / "run")[0]["stage"] == "finished"


class StopAfter(StopRequest):
    """Asks once it has been asked for its reason so often; that is once a step."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    @property
    def reason(self):
        self.left -= 1
        return None if self.left > 0 else "enough"


@pytest.mark.slow
def test_half_precision_finds_its_scale_and_resumes_digit_for_digit(corpus_folder, recipe, tmp_path):
    config = load_recipe(str(recipe), ["compute.dtype=float16", "loss_scale.window=5"])
    train(config, corpus_folder, tmp_path / "whole")
    scales = [line["loss_scale"] for line in figures(tmp_path / "whole") if "loss_scale" in line]
    assert scales[0] == 2.0**32 and min(scales) < 2.0**24
    assert any(b == 2 * a for a, b in zip(scales, scales[1:], strict=False))
    overflows = [event for event in read_events(tmp_path / "whole") if event["event"] == "overflow"]
    assert len(overflows) == sum(b < a for a, b in zip(scales, scales[1:], strict=False))
    train(config, corpus_folder, tmp_path / "run", stop=StopAfter(23))
    assert figures(tmp_path / "run")[-1]["step"] == 23
    train(config, corpus_folder, tmp_path / "run", resume=True)
    known = [[str(line) for line in figures(tmp_path / name)] for name in ("run", "whole")]  # nan is not nan
    assert known[0] == known[1]
    assert same_weights(tmp_path / "run", tmp_path / "whole")


def refused(recipe, corpus_folder, folder, *overrides, resume=False):
    with pytest.raises(UserError) as raised:
        train(load_recipe(str(recipe), overrides), corpus_folder, folder, resume)
    return str(raised.value)


def test_a_run_that_exists_is_not_overwritten(undisturbed, corpus_folder):
    folder, recipe, _ = undisturbed
    assert "give --resume to go on with it" in refused(recipe, corpus_folder, folder)


def test_a_run_is_not_resumed_with_other_settings(undisturbed, corpus_folder):
    folder, recipe, _ = undisturbed
    message = refused(recipe, corpus_folder, folder, "optimizer.beta1=0.8", resume=True)
    assert "run.yaml: optimizer.beta1 was 0.9 and is now 0.8: a resumed run must be the same" in message


def test_a_mistake_in_the_recipe_leaves_no_run_behind(corpus_folder, recipe, tmp_path):
    assert "set batch.tokens_per_step=128" in refused(
        recipe, corpus_folder, tmp_path / "run", "batch.tokens_per_step=100"
    )
    assert not (tmp_path / "run" / "run.yaml").exists()
    assert read_events(tmp_path / "run") == []


@pytest.mark.slow
def test_a_run_that_stops_before_a_step_is_logged_is_summed_up_all_the_same(corpus_folder, recipe, tmp_path):
    config = load_recipe(str(recipe), ["cadence.log_steps=10"])
    summary = train(config, corpus_folder, tmp_path / "run", stop=StopRequest(0.0))
    assert (summary.steps, summary.loss, summary.tokens_per_s) == (1, None, None)
    assert summary.lines()[0].startswith("1 steps, ") and "None" not in "".join(summary.lines())
    assert " before, " in summary.lines()[1] and " at step 0; xz -9" in summary.lines()[1]
    assert verify(summary.checkpoint).step == 1


def test_two_do_not_train_in_one_folder(corpus_folder, recipe, tmp_path):
    with sole_writer(tmp_path / "run"):
        assert "another process is writing there" in refused(recipe, corpus_folder, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seq_length": 32}, "rows of seq_length=64, but model .* has seq_length=32: .*--set seq_length=32"),
        ({"vocab_size": 256}, "a vocabulary of 512, but model .* has vocab_size=256: .*--set tokenizer.vocab_size=256"),
    ],
)
def test_a_corpus_that_does_not_fit_the_model_is_refused(recipe, corpus_folder, tmp_path, change, message):
    import yaml

    model = tmp_path / "model.yaml"
    model.write_text(yaml.safe_dump({**yaml.safe_load(model.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        train(load_recipe(str(recipe)), corpus_folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_larger_than_the_machine_is_refused(corpus_folder, tmp_path):
    message = refused("codegeex_13b", corpus_folder, tmp_path / "run")
    assert "take 206 GB" in message
    assert "codegeex_tiny" in message


@pytest.mark.parametrize("change", ["truncated", "altered", "missing"])
def test_a_damaged_shard_is_never_trained_on(corpus_folder, recipe, tmp_path, change):
    corpus = tmp_path / "corpus"
    shutil.copytree(corpus_folder, corpus)
    name = json.loads((corpus / "manifest.json").read_text())["shards"][0]["file"]
    data = bytearray((corpus / name).read_bytes())
    if change == "missing":
        (corpus / name).unlink()
    elif change == "truncated":
        (corpus / name).write_bytes(data[:-1])
    else:
        data[len(data) // 2] ^= 1
        (corpus / name).write_bytes(data)
    assert name in refused(recipe, corpus, tmp_path / "run")
