"""MindSpore's .ckpt files: the same bytes as MindSpore writes, and what it wrote is read."""

import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore.train import serialization
from mindspore.train.checkpoint_pb2 import Checkpoint

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.containers import mindspore_file
from mindgeex.model_zoo.checkpoints.containers.mindspore_file import DTYPES, MindSporeWriter, read_mindspore
from mindgeex.model_zoo.checkpoints.tensors import BFLOAT16, TensorSpec
from tests.model_zoo.checkpoints.arrays import arrays_by_name, same, specs


def write(path, arrays):
    with MindSporeWriter(path, specs(arrays)) as writer:
        for name, array in arrays.items():
            writer.write(name, array)
    return path


def read(path):
    return {name: tensor.read() for name, tensor in read_mindspore(path).items()}


def save(path, arrays, **options):
    """As MindSpore itself saves."""
    ms.save_checkpoint(
        [{"name": name, "data": ms.Tensor(array)} for name, array in arrays.items()], str(path), **options
    )
    path.chmod(0o644)
    return path


def load(path, **options):
    """As MindSpore itself loads."""
    return {name: as_numpy(parameter) for name, parameter in ms.load_checkpoint(str(path), **options).items()}


def as_numpy(parameter):
    array = parameter.asnumpy()
    return array.view(np.uint16).view(BFLOAT16) if parameter.dtype == ms.bfloat16 else array


@pytest.fixture
def slices_of_1_kib(monkeypatch):
    """Tensors of more than 1 KiB are sliced as those of more than 512 MiB are."""
    monkeypatch.setattr(serialization, "SLICE_SIZE", 1)
    monkeypatch.setattr(mindspore_file, "SLICE_BYTES", 1024)


def every_type():
    generator = np.random.default_rng(0)
    arrays = {
        name: (generator.integers(0, 2, (3, 5)) if name == "Bool" else generator.normal(size=(3, 5)) * 50).astype(dtype)
        for name, dtype in DTYPES.items()
    }
    scalars = {"scalar": np.array(2.5, np.float32), "step": np.array(7, np.int32), "one": np.array([7], np.int32)}
    return arrays | scalars | {"größe.0": np.arange(3, dtype=np.int32), "long": np.zeros((300, 200), np.int8)}


def test_what_mindspore_saves_is_read_in_every_type(tmp_path):
    same(read(save(tmp_path / "a.ckpt", every_type())), every_type())


def test_what_is_written_is_what_mindspore_writes_and_loads(tmp_path):
    ours, theirs = write(tmp_path / "a.ckpt", every_type()), save(tmp_path / "b.ckpt", every_type())
    assert ours.read_bytes() == theirs.read_bytes()
    same(load(ours), every_type())


def test_large_tensors_are_sliced_as_mindspore_slices_them(tmp_path, slices_of_1_kib):
    generator = np.random.default_rng(0)
    arrays = {
        "exact": generator.normal(size=(2, 128)).astype(np.float32),
        "odd": generator.normal(size=(7, 111)).astype(np.float16),
        "wide": generator.normal(size=(3, 1000)),
        "bfloat16": generator.normal(size=(31, 53)).astype(BFLOAT16),
        "small": np.ones(2, np.float32),
    }
    ours, theirs = write(tmp_path / "a.ckpt", arrays), save(tmp_path / "b.ckpt", arrays)
    messages = Checkpoint.FromString(ours.read_bytes()).value
    assert [value.tag for value in messages].count("wide") == 24
    assert ours.read_bytes() == theirs.read_bytes()
    same(load(ours), arrays)
    same(read(theirs), arrays)


def test_arrays_that_mindspore_slices_by_rows_are_joined(tmp_path, slices_of_1_kib):
    """save_checkpoint(async_save=True) slices along the first dimension, unevenly."""
    arrays = {"a": np.random.default_rng(0).normal(size=(7, 111))}
    serialization._exec_save(str(tmp_path / "a.ckpt"), {"a": [[7, 111], "Float64", arrays["a"]]})
    assert len(Checkpoint.FromString((tmp_path / "a.ckpt").read_bytes()).value) == 7
    same(read(tmp_path / "a.ckpt"), arrays)


@pytest.mark.slow
def test_a_real_tensor_beyond_the_size_of_a_slice(tmp_path):
    rows = mindspore_file.SLICE_BYTES // (1 << 20) + 1
    array = np.arange(rows << 20, dtype=np.uint32).astype(np.uint8).reshape(rows, 1 << 20)
    path = write(tmp_path / "a.ckpt", {"a": array})
    tensor = read_mindspore(path)["a"]
    assert tensor.shape == array.shape and np.array_equal(tensor.read(), array)
    assert np.array_equal(load(path)["a"], array)


@given(arrays=arrays_by_name(min_size=1, min_side=1))
@settings(max_examples=40, deadline=None)
def test_any_tensors_are_written_as_mindspore_writes_them_and_come_back(tmp_path_factory, arrays):
    folder = tmp_path_factory.mktemp("any")
    path = write(folder / "a.ckpt", arrays)
    assert path.read_bytes() == save(folder / "b.ckpt", arrays).read_bytes()
    same(read(path), arrays)


@given(arrays=arrays_by_name(min_size=1), data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_cut_file_is_refused_or_holds_the_first_tensors_whole(tmp_path_factory, arrays, data):
    path = write(tmp_path_factory.mktemp("cut") / "a.ckpt", arrays)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    try:
        left = read(path)
    except UserError as error:
        assert "truncated or damaged" in str(error)
    else:
        assert 0 < len(left) < len(arrays) and list(left) == list(arrays)[: len(left)]
        same(left, {name: arrays[name] for name in left})


@given(noise=st.binary(min_size=1, max_size=20), start=st.integers(0, 80))
@settings(max_examples=300, deadline=None)
def test_noise_is_refused_or_read_but_never_another_error(tmp_path_factory, noise, start):
    path = write(tmp_path_factory.mktemp("noise") / "a.ckpt", {"a": np.arange(6), "b": np.ones(2, BFLOAT16)})
    whole = bytearray(path.read_bytes())
    whole[start : start + len(noise)] = noise
    path.write_bytes(whole)
    try:
        read(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def test_a_file_cut_within_a_tensor_is_refused_before_anything_is_read(tmp_path):
    path = write(tmp_path / "a.ckpt", {"a": np.zeros(256)})
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"a field of 20\d\d bytes at byte \d+ goes beyond byte \d+"):
        read_mindspore(path)


def test_a_tensor_cut_between_its_slices_is_refused(tmp_path, slices_of_1_kib):
    path = write(tmp_path / "a.ckpt", {"a": np.zeros(256, np.float64)})
    whole = path.read_bytes()
    assert len(whole) % 2 == 0
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"tensor a, Float64\[256\], has 1024 bytes instead of 2048"):
        read_mindspore(path)


def test_a_checksum_is_compared(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.float32), "b": np.ones(2, np.int32)}
    path = save(tmp_path / "a.ckpt", arrays, crc_check=True)
    same(read(path), arrays)
    whole = bytearray(path.read_bytes())
    whole[40] ^= 1
    path.write_bytes(whole)
    with pytest.raises(UserError, match="its checksum differs"):
        read_mindspore(path)


def test_scalars_of_older_versions_and_packed_shapes_are_read(tmp_path):
    checkpoint = Checkpoint()
    add(checkpoint, "scalar", [0], "Float32", np.float32(2.5).tobytes())
    add(checkpoint, "empty", [0], "Float32", b"")
    add(checkpoint, "note", [0], "str", np.array("text").tobytes())
    (tmp_path / "a.ckpt").write_bytes(checkpoint.SerializeToString())
    same(read(tmp_path / "a.ckpt"), {"scalar": np.array(2.5, np.float32), "empty": np.zeros(0, np.float32)})
    tensor = b"\x0a\x03\x02\x90\x02" + b"\x12\x04Int8" + b"\x1a\xa0\x04" + bytes(544)
    value = b"\x0a\x01a" + b"\x12" + b"\xae\x04" + tensor
    assert len(tensor) == 0x22E
    (tmp_path / "b.ckpt").write_bytes(b"\x0a" + b"\xb4\x04" + value)
    same(read(tmp_path / "b.ckpt"), {"a": np.zeros((2, 272), np.int8)})


def add(checkpoint, tag, dims, kind, content):
    value = checkpoint.value.add()
    value.tag = tag
    value.tensor.dims.extend(dims)
    value.tensor.tensor_type = kind
    value.tensor.tensor_content = content


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("a", [2], "Float32", b"\0" * 4)], r"tensor a, Float32\[2\], has 4 bytes instead of 8"),
        ([("a", [2], "Int4", b"\0")], "tensor a has type Int4; only Float64"),
        ([("a", [2], "Complex64", b"\0" * 16)], "tensor a has type Complex64"),
        ([("a", [-1], "Int8", b"\0")], "its shape is"),
        ([("a", [2**40] * 3, "Int8", b"\0")], "has 1 bytes instead of"),
        ([("a", [1], "Int8", b"\0"), ("b", [1], "Int8", b"\0"), ("a", [1], "Int8", b"\0")], "tensor a comes twice"),
        ([("a", [2], "Int8", b"\0"), ("a", [1], "Int8", b"\0")], "the slices of tensor a differ"),
        ([("a", [2], "Int8", b"\0"), ("a", [2], "UInt8", b"\0")], "the slices of tensor a differ"),
        ([("a", [1], "Int8", b"\0"), ("a", [1], "Int8", b"\0")], "has 2 bytes instead of 1"),
        ([], "it holds no tensor"),
    ],
)
def test_a_contradiction_is_refused_with_the_reason(tmp_path, entries, message):
    checkpoint = Checkpoint()
    for entry in entries:
        add(checkpoint, *entry)
    (tmp_path / "a.ckpt").write_bytes(checkpoint.SerializeToString())
    with pytest.raises(UserError, match=message):
        read_mindspore(tmp_path / "a.ckpt")


def test_map_tensors_are_refused_by_name(tmp_path):
    checkpoint = Checkpoint()
    value = checkpoint.value.add()
    value.tag = "keys"
    tensor = value.maptensor.tensor.add()
    tensor.dims.extend([1])
    tensor.tensor_type, tensor.tensor_content = "int32", b"\0" * 4
    (tmp_path / "a.ckpt").write_bytes(checkpoint.SerializeToString())
    with pytest.raises(UserError, match="keys is a map tensor: save the checkpoint without it"):
        read_mindspore(tmp_path / "a.ckpt")


def test_other_files_are_refused(tmp_path):
    path = save(tmp_path / "a.ckpt", {"a": np.zeros(3)}, enc_key=b"0123456789abcdef")
    with pytest.raises(UserError, match="or it is encrypted"):
        read_mindspore(path)
    (tmp_path / "b.ckpt").write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises(UserError, match="b.ckpt: truncated or damaged"):
        read_mindspore(tmp_path / "b.ckpt")
    with pytest.raises(UserError, match="absent: no such file"):
        read_mindspore(tmp_path / "absent")


def test_types_that_mindspore_lacks_are_our_own_mistake(tmp_path):
    with pytest.raises(ValueError, match="MindSpore has no such type: a: complex64"):
        MindSporeWriter(tmp_path / "a", {"a": TensorSpec((), np.dtype(np.complex64))})


def test_mindspore_is_not_needed(tmp_path):
    path = write(tmp_path / "a.ckpt", {"a": np.ones(2)})
    script = (
        "import sys; from pathlib import Path\n"
        "from mindgeex.model_zoo.checkpoints.containers.mindspore_file import read_mindspore\n"
        f"print(read_mindspore(Path({str(path)!r}))['a'].read(), {{'mindspore', 'google.protobuf'}} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.stdout == "[1. 1.] set()\n", ran.stderr
