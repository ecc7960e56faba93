"""Where a conversion may write: never over its input, never together with another, and odd paths in one line."""

import errno
import os
from pathlib import Path

import pytest

from mindgeex.cli.main import main
from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.convert import ConvertOptions, convert
from mindgeex.model_zoo.checkpoints.layout import Layout
from mindgeex.model_zoo.checkpoints.target import sole_conversion
from tests.model_zoo.checkpoints.checkpoint import assert_same, codegeex, random_tensors, read_ours, write_ours

OVERWRITE = ConvertOptions(overwrite=True)


@pytest.fixture
def source(tmp_path):
    return write_ours(tmp_path / "source", codegeex(), random_tensors(codegeex()))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(match, source, target, form="mindspore", options=OVERWRITE):
    """Refused in one line, and nothing in the folder of the target has changed."""
    before = contents(target.parent)
    with pytest.raises(UserError, match=match):
        convert(source, target, form, options)
    assert contents(target.parent) == before


def test_a_part_of_the_input_is_not_replaced(tmp_path, source):
    convert(source, tmp_path / "one", "mindspore")
    refused("would replace a part of the input", tmp_path / "one", tmp_path / "one" / "model.ckpt")
    convert(source, tmp_path / "ranks", "mindspore", ConvertOptions(layout=Layout(mp=2)))
    (tmp_path / "ranks" / "rank_1").rename(tmp_path / "elsewhere")
    (tmp_path / "ranks" / "rank_1").symlink_to(tmp_path / "elsewhere")
    for target in ("ranks/rank_0", "ranks/rank_1", "elsewhere"):
        refused("would replace a part of the input", tmp_path / "ranks", tmp_path / target)
    convert(tmp_path / "ranks", tmp_path / "ranks" / "whole", "mindgeex")
    assert_same(read_ours(tmp_path / "ranks" / "whole"), random_tensors(codegeex()))


def test_an_input_that_lies_where_the_target_is_prepared_is_kept(tmp_path, source):
    """What a killed program left behind is something to convert, too."""
    for suffix in (".partial", ".replaced.partial"):
        left = source.rename(tmp_path / f"out{suffix}")
        refused("which is emptied first: rename it", left, tmp_path / "out")
        refused("which is emptied first: rename it", left / "model.safetensors", tmp_path / "out")
        source = left.rename(source)
    convert(source, tmp_path / "x.ckpt", "mindspore")
    left = (tmp_path / "x.ckpt").rename(tmp_path / "x.ckpt.partial")
    options = ConvertOptions(from_format="mindspore", model=str(source / "model.yaml"))
    refused("which is emptied first: rename it", left, tmp_path / "x.ckpt", options=options)


@pytest.mark.parametrize(("name", "form"), [("out", "mindspore"), ("out.ckpt", "mindspore"), ("out", "mindir")])
def test_two_conversions_do_not_write_the_same_target(tmp_path, source, name, form):
    target = tmp_path / name
    with sole_conversion(target, overwrite=False):
        refused("another process is writing it: wait", source, target, form)
        (tmp_path / "link").symlink_to(target)
        refused("another process is writing it: wait", source, tmp_path / "link", form)
        (tmp_path / "link").unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_what_another_published_meanwhile_is_not_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="exists already"), sole_conversion(tmp_path / "out", overwrite=False):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_mount_point_is_refused_before_anything_is_written(source):
    with pytest.raises(UserError, match="/proc: is a mount point, which cannot be replaced: name a folder in it"):
        convert(source, Path("/proc"), "mindspore", OVERWRITE)


def test_more_ranks_than_heads_are_noted(tmp_path, source):
    """They merge again, but attention does not run on half a head."""
    noted = [
        any("num_heads=4 is not divisible by mp=8" in note for note in report.notes)
        for mp in (4, 8)
        for report in [convert(source, tmp_path / str(mp), "megatron", ConvertOptions(layout=Layout(mp=mp)))]
    ]
    assert noted == [False, True]


def test_a_tokenizer_that_cannot_be_read_is_named_and_not_the_target(tmp_path, source, monkeypatch):
    (source / "tokenizer").mkdir()
    (source / "tokenizer" / "vocab.json").write_text("{}")
    read = Path.read_bytes

    def closed(path):
        if path.name == "vocab.json":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", closed)
    with pytest.raises(UserError, match=r"tokenizer/vocab.json: cannot be read \(Permission denied\)"):
        convert(source, tmp_path / "out", "mindspore")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_odd_paths_are_refused_in_one_line(tmp_path, source, capsys):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    long = tmp_path / ("a" * 300)
    for words, message in [
        ((tmp_path / "loop", tmp_path / "out"), "loop: no such file or folder"),
        ((source, tmp_path / "loop"), "loop: exists already"),
        ((long, tmp_path / "out"), "cannot be read (File name too long)"),
        ((source, long), "cannot be written (File name too long)"),
        ((source, tmp_path / "source" / "model.yaml" / "out"), "model.yaml/out: cannot be written ("),
    ]:
        assert main(["convert", *map(str, words), "--to", "mindspore"]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == ["loop", "source"]
