"""`mindgeex convert`: from what is typed to what is printed."""

import json
from dataclasses import asdict

import pytest

from mindgeex.cli.main import main
from mindgeex.common.files import sha256_file, write_json
from mindgeex.train.checkpointing import Progress
from tests.model_zoo.checkpoints.checkpoint import (
    assert_same,
    codegeex,
    gpt_neox,
    random_tensors,
    read_ours,
    write_ours,
    write_sizes,
)


@pytest.fixture
def source(tmp_path):
    return write_ours(tmp_path / "source", codegeex(), random_tensors(codegeex()))


def run(*words):
    return main(["convert", *map(str, words)])


def test_there_and_back_through_ranks_and_partitions(tmp_path, source, capsys):
    steps = [
        ("mindspore", "--layout", "dp=2,mp=4,shard=2"),
        ("megatron", "--tensor-parallel", "2", "--fused-qkv"),
        ("codegeex-mindspore", "--dtype", "keep"),
        ("mindgeex", "--from", "codegeex-mindspore", "--shard-bytes", "100000000"),
    ]
    for number, step in enumerate(steps):
        assert run(source, tmp_path / str(number), "--to", *step) == 0
        source = tmp_path / str(number)
        assert "read back; SHA-256" in capsys.readouterr().out
    assert_same(read_ours(source), random_tensors(codegeex()))
    assert json.loads((source / "conversion.json").read_text())["from_format"] == "codegeex-mindspore"


def test_what_a_cast_loses_is_warned_of(tmp_path, capsys):
    tensors = random_tensors(gpt_neox())
    tensors["head.weight"][0, 0] = 1e9
    source = write_ours(tmp_path / "source", gpt_neox(), tensors)
    assert run(source, tmp_path / "hf", "--to", "hf", "--dtype", "float16") == 0
    assert "warning: head.weight: 1 values overflowed to infinity, 0 became 0" in capsys.readouterr().out


def test_sizes_are_given_where_a_file_does_not_say_them(tmp_path, source, capsys):
    assert run(source, tmp_path / "a.pt", "--to", "codegeex-torch") == 0
    sizes = write_sizes(tmp_path / "sizes", codegeex())
    assert run(tmp_path / "a.pt", tmp_path / "b", "--to", "mindgeex") == 2
    error = capsys.readouterr().err
    assert "vocab_size 32, hidden_size 16" in error
    assert "--model FILE.yaml" in error
    assert run(tmp_path / "a.pt", tmp_path / "b", "--to", "mindgeex", "--model", sizes) == 0
    assert_same(read_ours(tmp_path / "b"), random_tensors(codegeex()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "mindspor"), "did you mean 'mindspore'"),
        (("--to", "mindspore", "--layout", "4x4"), "write it as dp=4,mp=4,shard=2"),
        (("--to", "mindspore", "--tensor-parallel", "2"), "goes with --to megatron"),
        (("--to", "mindspore", "--dtype", "int8"), "dtype is 'int8'"),
        (("--to", "megatron", "--tensor-parallel", "3"), "cannot be split over mp=3"),
        (("--to", "megatron", "--tensor-parallel", "0"), "mp=0: it must be at least 1"),
        (("--to", "hf"), "this one is codegeex"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, source, capsys, words, message):
    assert run(source, tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_a_run_is_compared_with_its_digests(tmp_path, source, capsys):
    """Whether the run is given, or the checkpoint itself."""
    digest = sha256_file(source / "model.safetensors")
    write_json(source / "state.json", {"progress": asdict(Progress(step=5)), "sha256": {"model.safetensors": digest}})
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    step = source.rename(tmp_path / "run" / "checkpoints" / "step-00000005")
    for number, place in enumerate((tmp_path / "run", step)):
        assert run(place, tmp_path / f"out{number}", "--to", "mindspore") == 0
    with (step / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    capsys.readouterr()
    assert run(step, tmp_path / "out", "--to", "mindspore") == 2
    assert "model.safetensors: truncated or altered since it was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
