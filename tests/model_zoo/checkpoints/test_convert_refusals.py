"""Input that is not whole, does not fit or is no checkpoint, and targets that are taken: refused, nothing published."""

import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.containers.mindspore_file import MindSporeWriter
from mindgeex.model_zoo.checkpoints.containers.torch_file import TorchWriter
from mindgeex.model_zoo.checkpoints.convert import ConvertOptions, convert
from mindgeex.model_zoo.checkpoints.formats import format_named, fused, read_tensors
from mindgeex.model_zoo.checkpoints.layout import Layout
from mindgeex.model_zoo.checkpoints.tensors import TensorSpec
from tests.model_zoo.checkpoints.arrays import specs
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


def refused(match, source, target, form, options=None):
    before = sorted(target.parent.rglob("*"))
    with pytest.raises(UserError, match=match) as caught:
        convert(source, target, form, options)
    assert "\n" not in str(caught.value)
    assert sorted(target.parent.rglob("*")) == before
    return str(caught.value)


def changed(tmp_path, change):
    tensors = random_tensors(codegeex())
    change(tensors)
    return write_ours(tmp_path / "changed", codegeex(), tensors)


def test_missing_and_surplus_tensors_are_listed(tmp_path):
    def change(tensors):
        for name in [name for name in tensors if name.startswith("blocks.0.")]:
            del tensors[name]
        tensors["extra.weight"] = np.zeros(3, np.float32)
        tensors["a\nb\x1b[2J" + "c" * 200] = np.zeros(3, np.float32)

    source = changed(tmp_path, change)
    message = refused("16 tensors missing: ", source, tmp_path / "out", "mindspore")
    assert "blocks.0.attention.key.bias" in message
    assert ", and 6 more" in message
    assert "2 tensors surplus: a\\nb\\x1b[2Jccc" in message
    assert "ccc..., extra.weight" in message


def test_a_wrong_shape_is_told_with_both(tmp_path):
    def change(tensors):
        tensors["blocks.1.feed_forward.up.weight"] = np.zeros((16, 64), np.float32)

    source = changed(tmp_path, change)
    match = r"blocks.1.feed_forward.up.weight has shape \[16, 64\], the model's is \[64, 16\]"
    refused(match, source, tmp_path / "out", "mindspore")


def test_weights_that_are_no_floats_are_refused(tmp_path):
    def change(tensors):
        tensors["final_norm.beta"] = tensors["final_norm.beta"].astype(np.int32)

    refused("final_norm.beta has type int32", changed(tmp_path, change), tmp_path / "out", "mindspore")


def test_another_models_sizes_are_refused(tmp_path, source):
    options = ConvertOptions(model="codegeex_tiny")
    refused("tensors missing: blocks.2", source, tmp_path / "out", "mindspore", options)
    options = ConvertOptions(model="codegeex_tinny")
    refused("did you mean 'codegeex_tiny'", source, tmp_path / "out", "mindspore", options)


@pytest.mark.parametrize("form", ["codegeex-torch", "codegeex-mindspore", "mindspore", "megatron", "mindgeex"])
@pytest.mark.parametrize("kept", [0, 5, 300, 0.5, -1])
def test_a_truncated_file_is_named_wherever_it_is_cut(tmp_path, source, form, kept):
    convert(source, tmp_path / "in", form)
    (path,) = (file for file in (tmp_path / "in").rglob("*") if file.suffix in (".pt", ".ckpt", ".safetensors"))
    size = path.stat().st_size
    keep = int(size * kept) if 0 < kept < 1 else kept % size
    with path.open("r+b") as file:
        file.truncate(keep)
    message = refused(r"\S", tmp_path / "in", tmp_path / "out", "mindgeex", ConvertOptions(from_format=form))
    assert path.name in message


@pytest.mark.parametrize("name", ["x.pt", "x.ckpt", "x.safetensors", "x.bin"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, name):
    path = write_sizes(tmp_path / "in", codegeex()).parent / name
    path.write_bytes(b"It was a dark and stormy night; the rain fell in torrents.")
    message = refused(r"\S", path, tmp_path / "out", "mindgeex")
    assert str(tmp_path / "in") in message


def test_a_pickle_that_asks_for_anything_but_tensors_is_refused_by_name(tmp_path):
    import pickle
    import zipfile

    class Evil:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'pwned')!r}, 'w')",)

    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"module": Evil()}))
        archive.writestr("archive/version", b"3\n")
    refused("builtins.exec", tmp_path / "evil.pt", tmp_path / "out", "mindgeex")
    assert not (tmp_path / "pwned").exists()


def test_what_is_not_there_or_cannot_be_told_is_refused(tmp_path, source):
    refused("no such file or folder", tmp_path / "none", tmp_path / "out", "mindgeex")
    (tmp_path / "empty").mkdir()
    refused("what format it has cannot be told", tmp_path / "empty", tmp_path / "out", "mindgeex")
    (tmp_path / "notes.txt").write_text("x")
    refused("what format it has cannot be told: give --from", tmp_path / "notes.txt", tmp_path / "out", "mindgeex")
    refused("format is 'huggingface'", source, tmp_path / "out", "huggingface")
    refused("did you mean 'mindspore'", source, tmp_path / "out", "mindgeex", ConvertOptions(from_format="mindspor"))


def test_formats_hold_only_their_families(tmp_path, source):
    refused("hf holds models of the family gpt_neox, this one is codegeex", source, tmp_path / "out", "hf")
    neox = write_ours(tmp_path / "neox", gpt_neox(), random_tensors(gpt_neox()))
    for form in ("codegeex-torch", "codegeex-mindspore", "megatron"):
        refused("this one is gpt_neox: choose mindgeex, mindspore, hf", neox, tmp_path / "out", form)


def test_options_that_a_format_does_not_know_are_refused(tmp_path, source):
    refused("--fused-qkv: format hf has no such", source, tmp_path / "out", "hf", ConvertOptions(fused_qkv=True))
    refused("--moments: there are none", source, tmp_path / "out", "mindspore", ConvertOptions(moments=True))
    refused("megatron does not hold them", source, tmp_path / "out", "megatron", ConvertOptions(moments=True))
    layout = ConvertOptions(layout=Layout(2, 2))
    for form in ("hf", "codegeex-torch", "megatron"):
        refused("has no rank files: choose mindspore or mindgeex", source, tmp_path / "out", form, layout)
    refused("cannot be split over mp=3", source, tmp_path / "out", "mindspore", ConvertOptions(layout=Layout(1, 3)))
    with pytest.raises(UserError, match="dtype is 'int8'"):
        ConvertOptions(dtype="int8")
    with pytest.raises(UserError, match="has no such variant"):
        fused(format_named("mindspore"))


def test_tensors_of_different_types_are_not_joined_silently(tmp_path):
    def change(tensors):
        name = "blocks.0.attention.key.weight"
        tensors[name] = tensors[name].astype(np.float16)

    source = changed(tmp_path, change)
    fuse = ConvertOptions(fused_qkv=True)
    refused("would hold tensors of different types", source, tmp_path / "out", "codegeex-torch", fuse)
    convert(source, tmp_path / "out", "codegeex-torch", ConvertOptions(fused_qkv=True, dtype="float32"))


def test_a_target_that_is_there_is_replaced_only_when_asked(tmp_path, source):
    convert(source, tmp_path / "out", "mindspore")
    (tmp_path / "out" / "mine.txt").write_text("kept")
    refused("exists already: choose another path, or give --overwrite", source, tmp_path / "out", "mindgeex")
    assert (tmp_path / "out" / "mine.txt").exists()
    convert(source, tmp_path / "out", "mindgeex", ConvertOptions(overwrite=True))
    assert not (tmp_path / "out" / "mine.txt").exists()
    assert_same(read_ours(tmp_path / "out"), random_tensors(codegeex()))
    overwrite = ConvertOptions(overwrite=True)
    refused("would replace the input", source, source, "mindspore", overwrite)
    refused("would replace the input", source / "model.safetensors", source, "mindspore", overwrite)
    (tmp_path / "file.pt").mkdir()
    refused("is a folder, and the output is not", source, tmp_path / "file.pt", "codegeex-torch", overwrite)
    refused("makes a folder here", source, tmp_path / "x.ckpt", "mindgeex")


def test_rank_folders_that_do_not_say_how_they_fit_are_refused(tmp_path, source):
    convert(source, tmp_path / "ranks", "mindspore", ConvertOptions(layout=Layout(2, 2)))
    (tmp_path / "ranks" / "layout.json").write_text('{"dp": "two"}')
    refused("dp is 'two': expected a whole number", tmp_path / "ranks", tmp_path / "out", "mindgeex")
    (tmp_path / "ranks" / "layout.json").unlink()
    refused("without layout.json: give --from-layout", tmp_path / "ranks", tmp_path / "out", "mindgeex")
    shutil.copy(tmp_path / "ranks" / "rank_1" / "model.ckpt", tmp_path / "ranks" / "rank_1" / "old.ckpt")
    (tmp_path / "ranks" / "rank_1" / "model.ckpt").rename(tmp_path / "ranks" / "rank_1" / "new.ckpt")
    options = ConvertOptions(from_layout=Layout(2, 2))
    refused(r"found 2 \(new.ckpt, old.ckpt\): keep the one", tmp_path / "ranks", tmp_path / "out", "mindgeex", options)
    refused("there is no folder rank_0", source, tmp_path / "out", "mindgeex", options)
    (tmp_path / "ranks" / "layout.json").write_text('{"dp": 2, "mp": 2, "optimizer_shard": 3}')
    refused("layout.json: layout: dp=2 is not divisible by", tmp_path / "ranks", tmp_path / "out", "mindgeex")
    (tmp_path / "ranks" / "rank_03").mkdir()
    refused("rank_3: is rank 3, as rank_03 is: move one", tmp_path / "ranks", tmp_path / "out", "mindgeex", options)


def test_ranks_of_different_steps_are_refused(tmp_path, source):
    """Their slices fit in shape, so nothing else would tell."""
    convert(source, tmp_path / "ranks", "mindspore", ConvertOptions(layout=Layout(mp=2)))
    for rank, step in enumerate((500, 400)):
        path = tmp_path / "ranks" / f"rank_{rank}" / "model.ckpt"
        tensors = {name: tensor.read() for name, tensor in read_tensors("mindspore", path).items()}
        tensors["step_num"] = np.array(step, np.int32)
        with MindSporeWriter(path, specs(tensors)) as writer:
            for name, array in tensors.items():
                writer.write(name, array)
    match = "rank_1: step_num is 400, in the first rank's file 500: take the files"
    refused(match, tmp_path / "ranks", tmp_path / "out", "mindgeex")


def test_a_safetensors_file_that_would_not_be_the_one_read_is_refused(tmp_path, source):
    """The folder's weights are not those of another file in it."""
    for name in ("ema.safetensors", "optimizer.safetensors", "model-00001-of-00002.safetensors"):
        shutil.copy(source / "model.safetensors", source / name)
        refused(f"{name}: a folder's weights are model.safetensors", source / name, tmp_path / "out", "mindspore")
    (source / "other.ckpt").write_bytes(b"x")
    options = ConvertOptions(from_format="mindspore")
    refused("model.safetensors: truncated", source / "model.safetensors", tmp_path / "out", "mindgeex", options)


def test_config_json_beside_a_pt_file_does_not_make_it_hugging_face(tmp_path, source):
    convert(source, tmp_path / "in", "codegeex-torch")
    (tmp_path / "in" / "config.json").write_text('{"hidden_size": 16}')
    assert convert(tmp_path / "in", tmp_path / "out", "mindgeex").from_format == "codegeex-torch"


def test_a_missing_megatron_partition_is_named(tmp_path, source):
    convert(source, tmp_path / "parts", "megatron", ConvertOptions(layout=Layout(mp=4)))
    (tmp_path / "parts" / "mp_rank_02_model_states.pt").unlink()
    refused("partition 2 of 4 is missing", tmp_path / "parts", tmp_path / "out", "mindgeex")
    far = tmp_path / "parts" / "mp_rank_99999999999_model_states.pt"
    far.touch()
    refused("partition 2 of 100000000000 is missing", tmp_path / "parts", tmp_path / "out", "mindgeex")
    far.rename(tmp_path / "parts" / "mp_rank_3_model_states.pt")
    refused("is rank 3, as mp_rank_03_model_states.pt is", tmp_path / "parts", tmp_path / "out", "mindgeex")
    (tmp_path / "parts" / "mp_rank_3_model_states.pt").unlink()
    (tmp_path / "parts" / "mp_rank_03_model_states.pt").unlink()
    eight = ConvertOptions(from_layout=Layout(mp=8))
    refused("mp=8,shard=1: there are 2 partitions", tmp_path / "parts", tmp_path / "out", "mindgeex", eight)
    match = r"word_embeddings/weight has shape \[8, 16\], the model's is \[16, 16\] in the layout dp=1,mp=2"
    refused(match, tmp_path / "parts", tmp_path / "out", "mindgeex")


def test_a_missing_shard_is_named(tmp_path, source):
    convert(source, tmp_path / "shards", "mindgeex", ConvertOptions(shard_bytes=5000))
    shard = sorted((tmp_path / "shards").glob("model-*.safetensors"))[1]
    shard.unlink()
    refused(f"{shard.name}: missing", tmp_path / "shards", tmp_path / "out", "mindspore")


def test_a_hugging_face_folder_of_another_kind_is_refused(tmp_path):
    neox = write_ours(tmp_path / "neox", gpt_neox(), random_tensors(gpt_neox()))
    convert(neox, tmp_path / "hf", "hf")
    config = tmp_path / "hf" / "config.json"
    config.write_text(config.read_text().replace('"gpt_neox"', '"llama"'))
    refused("model_type is 'llama'", tmp_path / "hf", tmp_path / "out", "mindgeex")


def test_weights_of_one_byte_are_told_as_such(tmp_path, source):
    tensors = random_tensors(codegeex())
    tensors["blocks.0.attention.key.scale"] = np.ones(16, np.float32)
    source = write_ours(tmp_path / "int8", codegeex(), tensors)
    refused("its weights are rounded to one byte: give the checkpoint", source, tmp_path / "out", "mindspore")


def test_a_key_with_a_slash_hides_no_tensor(tmp_path):
    """Nested keys and one that looks like their path."""
    spec = TensorSpec((2,), np.dtype(np.float32))
    with TorchWriter(tmp_path / "a.pt", {"module": {"x": spec}, "module/x": spec}) as writer:
        writer.write("module.x", np.zeros(2, np.float32))
        writer.write("module/x", np.ones(2, np.float32))
    refused("has two tensors module/x, one under a key with a /", tmp_path / "a.pt", tmp_path / "out", "mindgeex")


def test_buffers_of_old_hugging_face_files_are_passed_over(tmp_path):
    tensors = random_tensors(gpt_neox())
    neox = write_ours(tmp_path / "neox", gpt_neox(), tensors)
    convert(neox, tmp_path / "hf", "hf")
    stored = read_ours(tmp_path / "hf")
    for layer in range(2):
        place = f"gpt_neox.layers.{layer}.attention."
        stored[place + "bias"] = np.ones((1, 1, 8, 8), np.bool_)
        stored[place + "masked_bias"] = np.array(-1e9, np.float32)
        stored[place + "rotary_emb.inv_freq"] = np.ones(1, np.float32)
    save_file(stored, tmp_path / "hf" / "model.safetensors")
    report = convert(tmp_path / "hf", tmp_path / "back", "mindgeex")
    assert_same(read_ours(tmp_path / "back"), tensors)
    assert report.dropped["training state and buffers"] == 6


SLOW = """
import sys, time
from pathlib import Path
from mindgeex.model_zoo.checkpoints import convert as module
written = module.cast
def slow(*arguments):
    print("casting", flush=True)
    time.sleep(0.05)
    return written(*arguments)
module.cast = slow
module.convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
"""


@pytest.mark.parametrize(("name", "form"), [("out", "mindspore"), ("out.pt", "codegeex-torch")])
def test_a_killed_conversion_leaves_nothing_at_the_target_and_can_be_run_again(tmp_path, source, name, form):
    target = tmp_path / name
    command = [sys.executable, "-c", SLOW, str(source), str(target), form]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(20):
            assert process.stdout.readline() == "casting\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not target.exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"source", f"{name}.partial", f"{name}.lock.partial"}
    convert(source, target, form)
    assert target.exists()
    assert not list(tmp_path.glob("*.partial"))


def test_what_reads_back_otherwise_is_not_published(tmp_path, source, monkeypatch):
    """As on a disk that loses a write."""
    from mindgeex.model_zoo.checkpoints import convert as module

    read = module.read_tensors

    def lossy(container, path):
        if "partial" in str(path):
            with (path / "model.ckpt" if path.is_dir() else path).open("r+b") as file:
                file.seek(-100, 2)
                file.write(b"\xff" * 8)
        return read(container, path)

    monkeypatch.setattr(module, "read_tensors", lossy)
    with pytest.raises(UserError, match="reads back otherwise than it was written|truncated or damaged"):
        convert(source, tmp_path / "out", "mindspore")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_told_and_nothing_is_published(tmp_path, source, private_mount):
    (tmp_path / "small").mkdir()
    script = (
        f"mount -t tmpfs -o size=64k none {tmp_path}/small && "
        f"{sys.executable} -m mindgeex.cli.main convert {source} {tmp_path}/small/out --to mindspore; "
        f"code=$?; ls {tmp_path}/small; exit $code"
    )
    run = subprocess.run([*private_mount, script], capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    assert "the disk is full" in run.stderr
    assert run.stdout == ""
