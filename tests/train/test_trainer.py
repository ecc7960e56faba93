"""Whole runs: what they leave behind, exact resume after kill -9, and every input they refuse."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mindgeex.common.errors import UserError
from mindgeex.common.files import sole_writer
from mindgeex.model_zoo.checkpoints.native import read_tensors
from mindgeex.train.callbacks.metrics import read_metrics
from mindgeex.train.config import load_recipe
from mindgeex.train.trainer import train
from tests.train.conftest import mindgeex, run, write_recipe


def figures(folder):
    """Everything a run measured that does not depend on the clock."""
    lines = read_metrics(folder / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key != "tokens_per_s"} for line in lines]


@pytest.fixture(scope="session")
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
def test_a_checkpoint_completes_prompts_on_its_own(undisturbed, tmp_path):
    folder, _, _ = undisturbed
    checkpoint = tmp_path / "elsewhere"
    shutil.copytree(folder / "checkpoints" / "step-00000040", checkpoint)
    settings = ("--prompt", "def ", "--max-new-tokens", 8, "--seed", 3)
    once, again = (run("generate", "--checkpoint", path, *settings) for path in (checkpoint, folder))
    assert once.returncode == 0, once.stderr
    assert once.stdout.startswith("def ") and len(once.stdout) > len("def \n")
    assert once.stdout == again.stdout


@pytest.mark.slow
def test_a_prompt_beyond_the_window_is_refused(undisturbed):
    result = run("generate", "--checkpoint", undisturbed[0], "--prompt", "word " * 200)
    assert result.returncode == 2
    assert "fewer than the model's window of 64" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_run_killed_in_the_middle_resumes_digit_for_digit(undisturbed, corpus_folder, tmp_path):
    expected, recipe, _ = undisturbed
    arguments = ("train", "--data", corpus_folder, "--recipe", recipe, "--out", tmp_path / "run", "--resume")
    process = mindgeex(*arguments)
    deadline = time.monotonic() + 150
    while len(read_metrics(tmp_path / "run" / "metrics.jsonl")) < 14:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = len(figures(tmp_path / "run"))
    assert 14 <= done < 41, "the run ended before it was killed"

    result = run(*arguments)
    assert result.returncode == 0, result.stderr
    assert "resuming from" in result.stderr
    assert figures(tmp_path / "run") == figures(expected)
    for name in ("model.safetensors", "optimizer.safetensors"):
        resumed, whole = (
            read_tensors(f / "checkpoints" / "step-00000040" / name) for f in (tmp_path / "run", expected)
        )
        assert resumed.keys() == whole.keys()
        assert all(np.array_equal(resumed[key], whole[key]) for key in whole)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(undisturbed, corpus_folder, tmp_path):
    expected, recipe, _ = undisturbed
    shutil.copytree(expected, tmp_path / "run")
    weights = tmp_path / "run" / "checkpoints" / "step-00000040" / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    result = run("train", "--data", corpus_folder, "--recipe", recipe, "--out", tmp_path / "run", "--resume")
    assert result.returncode == 0, result.stderr
    assert "step-00000040/model.safetensors: truncated or altered" in result.stderr
    assert "resuming from" in result.stderr and "step-00000035" in result.stderr
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
def test_a_loss_that_is_no_number_stops_the_run(corpus_folder, tmp_path, recipe):
    settings = ["--set", "schedule.peak=1e38", "schedule.warmup_steps=0", "optimizer.max_grad_norm=1e30"]
    result = run("train", "--data", corpus_folder, "--recipe", recipe, "--out", tmp_path / "run", *settings)
    assert result.returncode == 2, result.stderr
    assert "at step 2: lower schedule.peak" in result.stderr
    assert "Traceback" not in result.stderr


def refused(recipe, corpus_folder, folder, *overrides, resume=False):
    with pytest.raises(UserError) as raised:
        train(load_recipe(str(recipe), overrides), corpus_folder, folder, resume)
    return str(raised.value)


def test_a_run_that_exists_is_not_overwritten(undisturbed, corpus_folder):
    folder, recipe, _ = undisturbed
    assert "give --resume to go on with it" in refused(recipe, corpus_folder, folder)


def test_a_run_is_not_resumed_with_other_settings(undisturbed, corpus_folder):
    folder, recipe, _ = undisturbed
    message = refused(recipe, corpus_folder, folder, "batch_size=8", resume=True)
    assert "batch_size was 4 and is now 8" in message


def test_two_processes_do_not_train_in_one_folder(corpus_folder, recipe, tmp_path):
    with sole_writer(tmp_path / "run"):
        result = run("train", "--data", corpus_folder, "--recipe", recipe, "--out", tmp_path / "run", "--resume")
    assert result.returncode == 2
    assert "another process is writing there" in result.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seq_length": 32}, "rows of seq_length=64, but model .* has seq_length=32: .*--seq-length 32"),
        ({"vocab_size": 256}, "a vocabulary of 512, but model .* has vocab_size=256: .*--vocab-size 256"),
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


def test_bits_per_byte_of_a_uniform_model_is_worked_out_by_hand(corpus_folder):
    import mindspore as ms
    from mindspore import nn

    from mindgeex.data.mindrecord import Corpus
    from mindgeex.train.evaluation import Evaluator, heldout_rows
    from mindgeex.train.loss import TokenLoss

    class Uniform(nn.Cell):
        def construct(self, ids, seed):
            return ms.ops.zeros((ids.shape[0], ids.shape[1], 512), ms.float32)

    corpus = Corpus.open(corpus_folder)
    tokenizer = corpus.tokenizer()
    rows = heldout_rows(corpus, 7, tokenizer, corpus.eod_id)
    assert len(rows.rows_RS1) == 7
    scored = [(row[i], row[i + 1]) for row in rows.rows_RS1 for i in range(64) if row[i] != corpus.eod_id]
    num_bytes = sum(len(tokenizer.token_bytes(int(label))) for _, label in scored)
    assert len(rows.text) == num_bytes
    measured = Evaluator(TokenLoss(Uniform(), corpus.eod_id), rows, 4, corpus.eod_id).bits_per_byte()
    assert measured == pytest.approx(len(scored) * math.log2(512) / num_bytes, rel=1e-5)
    assert 0 < rows.xz_bits_per_byte < 8
