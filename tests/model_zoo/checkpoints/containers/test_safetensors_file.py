"""safetensors files: what the library writes we read, what we write it reads, and nothing damaged passes for whole."""

import json
import struct
from contextlib import contextmanager

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.containers.safetensors_file import (
    DTYPES,
    SafetensorsWriter,
    ShardedSafetensorsWriter,
    read_safetensors,
    read_safetensors_folder,
)
from mindgeex.model_zoo.checkpoints.tensors import TensorSpec
from tests.model_zoo.checkpoints.arrays import arrays_by_name, bits, same, specs


def write(path, arrays):
    with SafetensorsWriter(path, specs(arrays)) as writer:
        for name, array in arrays.items():
            writer.write(name, array)


def read(path):
    return {name: tensor.read() for name, tensor in read_safetensors(path).items()}


def every_type():
    generator = np.random.default_rng(0)
    return {
        code: (generator.integers(0, 2, (3, 5)) if code == "BOOL" else generator.normal(size=(3, 5)) * 50).astype(dtype)
        for code, dtype in DTYPES.items()
    }


def test_what_the_library_writes_is_read_in_every_type_it_has(tmp_path):
    arrays = {code: array for code, array in every_type().items() if code != "BF16"}
    arrays |= {"scalar": np.array(2.5), "empty": np.zeros((0, 3), np.float32), "größe.0": np.arange(3)}
    save_file(arrays, tmp_path / "a.safetensors", metadata={"note": "kept by nobody"})
    same(read(tmp_path / "a.safetensors"), arrays)


def test_what_is_written_the_library_reads_in_every_type_it_has(tmp_path):
    arrays = {code: array for code, array in every_type().items() if code != "BF16"}
    arrays |= {"scalar": np.array(2.5), "empty": np.zeros((0, 3), np.float32), "größe.0": np.arange(3)}
    write(tmp_path / "a.safetensors", arrays)
    same(load_file(tmp_path / "a.safetensors"), arrays)
    with safe_open(tmp_path / "a.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}


def test_bfloat16_is_pytorchs(tmp_path):
    torch = pytest.importorskip("torch", reason="install the extra interop to compare with PyTorch")
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    # Types of odd size stand before wider ones: PyTorch refuses a tensor that is not aligned.
    arrays = {"odd": np.array([True]), **every_type()}
    write(tmp_path / "ours.safetensors", arrays)
    theirs = load_torch(tmp_path / "ours.safetensors")
    assert theirs["BF16"].dtype == torch.bfloat16
    assert np.array_equal(theirs["BF16"].view(torch.int16).numpy(), arrays["BF16"].view(np.int16))
    assert all(np.array_equal(theirs[name].numpy(), array) for name, array in arrays.items() if name != "BF16")
    save_torch(theirs, tmp_path / "theirs.safetensors")
    same(read(tmp_path / "theirs.safetensors"), arrays)


@given(arrays=arrays_by_name())
@settings(max_examples=60, deadline=None)
def test_any_tensors_come_back_bit_for_bit(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("any") / "a.safetensors"
    write(path, arrays)
    same(read(path), arrays)
    assert list(read_safetensors(path)) == sorted(arrays, key=lambda name: -arrays[name].itemsize)


@given(arrays=arrays_by_name(min_size=1), data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_cut_or_lengthened_file_is_always_refused(tmp_path_factory, arrays, data):
    path = tmp_path_factory.mktemp("cut") / "a.safetensors"
    write(path, arrays)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(UserError, match="truncated or damaged"):
        read(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(UserError, match="1 bytes belong to no tensor"):
        read(path)


@given(noise=st.binary(max_size=200), start=st.integers(0, 60))
@settings(max_examples=200, deadline=None)
def test_a_header_of_noise_is_refused_or_read_but_never_another_error(tmp_path_factory, noise, start):
    path = tmp_path_factory.mktemp("noise") / "a.safetensors"
    write(path, {"a": np.ones(3, np.float32)})
    whole = bytearray(path.read_bytes())
    whole[start : start + len(noise)] = noise
    path.write_bytes(whole)
    try:
        read(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def with_header(path, header, data=b"\0" * 8):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(begin, end, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(0, 4), "b": entry(0, 4)}, "tensor b at 0..4 overlaps what stands before it"),
        ({"a": entry(0, 4), "b": entry(8, 12)}, "tensor b at 8..12 leaves a gap of 4 bytes"),
        ({"a": entry(4, 8)}, "tensor a at 4..8 leaves a gap of 4 bytes"),
        ({"a": entry(0, 4)}, "4 bytes belong to no tensor"),
        ({"a": entry(0, 40, (10,))}, "tensor a at 0..40 lies beyond the 8 bytes of data"),
        ({"a": entry(-4, 0), "b": entry(0, 8, (2,))}, "tensor a at -4..0 overlaps"),
        ({"a": entry(0, 8)}, r"tensor a, F32\[1\], takes 4 bytes, but its range is 0..8"),
        ({"a": entry(0, 8, (2**40, 2**40))}, "takes 4835703278458516698824704 bytes"),
        ({"a": entry(0, 8, (-2,))}, "the header's entry for tensor a is"),
        ({"a": entry(0, 8, (True, 2))}, "the header's entry for tensor a is"),
        ({"a": entry(0, 8, (1,) * 33)}, "the header's entry for tensor a is"),
        ({"a": entry(0.0, 8.0, (2,))}, "its range is 0.0..8.0"),
        ({"a": [1]}, r"the header's entry for tensor a is \[1\]"),
        ({"a": {"dtype": "F32", "shape": [2]}}, "the header's entry for tensor a is"),
        ({"a": entry(0, 8, (8,), "F8_E4M3")}, "tensor a has type F8_E4M3; only F64, F32"),
        ([], "its header is no JSON object"),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "a": 1}', "its header names 'a' twice"),
        (b'{"\\ud800": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', "its header is not JSON"),
        (b"[" * 100_000, "its header is not JSON"),
        (b"\xff\xfe", "its header is not JSON"),
    ],
)
def test_a_contradictory_header_is_refused_with_the_reason(tmp_path, header, message):
    with pytest.raises(UserError, match=message):
        read_safetensors(with_header(tmp_path / "a.safetensors", header))


@pytest.mark.parametrize("length", [0, 1, 10**9, 2**64 - 1])
def test_a_wrong_length_of_the_header_is_refused(tmp_path, length):
    (tmp_path / "a").write_bytes(struct.pack("<Q", length) + b"{}" * 50)
    with pytest.raises(UserError, match=f"its header would have {length} bytes, the file has 108"):
        read_safetensors(tmp_path / "a")


def test_a_file_cut_after_it_was_opened_is_refused(tmp_path):
    write(tmp_path / "a", {"a": np.ones(100)})
    tensor = read_safetensors(tmp_path / "a")["a"]
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-8])
    with pytest.raises(UserError, match="it ends 8 bytes early"):
        tensor.read()


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match="absent: no such file"):
        read_safetensors(tmp_path / "absent")
    with pytest.raises(UserError, match="cannot be read"):
        read_safetensors(tmp_path)


@contextmanager
def writer_of_two(path):
    announced = {"a": TensorSpec((2,), np.dtype(np.float32)), "b": TensorSpec((), np.dtype(np.int8))}
    with SafetensorsWriter(path, announced) as writer:
        yield writer


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("b", np.zeros((), np.int8), "'b' was written where 'a' was awaited"),
        ("a", np.zeros(3, np.float32), r"a is float32\[3\], announced was float32\[2\]"),
        ("a", np.zeros(2, np.float64), r"a is float64\[2\], announced was float32\[2\]"),
    ],
)
def test_another_tensor_than_announced_is_our_own_mistake(tmp_path, name, array, message):
    with pytest.raises(ValueError, match=message), writer_of_two(tmp_path / "a") as writer:
        writer.write(name, array)


def test_tensors_too_many_or_too_few_are_our_own_mistake(tmp_path):
    with (
        pytest.raises(ValueError, match="'b' was announced and never written"),
        writer_of_two(tmp_path / "a") as writer,
    ):
        writer.write("a", np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="'b' was written where None"), writer_of_two(tmp_path / "a") as writer:
        writer.write("a", np.zeros(2, np.float32))
        writer.write("b", np.zeros((), np.int8))
        writer.write("b", np.zeros((), np.int8))


def test_arrays_that_are_not_contiguous_are_written_by_value(tmp_path):
    array = np.arange(12.0).reshape(3, 4).T
    write(tmp_path / "a", {"a": array})
    assert bits(read(tmp_path / "a")["a"]) == bits(np.ascontiguousarray(array))


# Folders


def write_folder(folder, arrays, shard_bytes):
    announced = specs(arrays)
    with ShardedSafetensorsWriter(folder, announced, shard_bytes) as writer:
        for name, array in arrays.items():
            writer.write(name, array)


def read_folder(folder):
    return {name: tensor.read() for name, tensor in read_safetensors_folder(folder).items()}


SIX = {f"t{i}": np.full(10, i, np.float32) for i in range(6)}


@pytest.mark.parametrize(("shard_bytes", "count"), [(240, 1), (239, 2), (80, 3), (1, 6)])
def test_shards_hold_at_most_what_was_asked_and_come_back_as_one(tmp_path, shard_bytes, count):
    write_folder(tmp_path, SIX, shard_bytes)
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    same(read_folder(tmp_path), SIX)
    if count == 1:
        assert files == ["model.safetensors"] and not list(tmp_path.glob("*.json"))
        return
    assert files == [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 240} and set(index["weight_map"].values()) == set(files)
    loaded = {}
    for file in files:
        loaded |= load_file(tmp_path / file)
    same(loaded, SIX)


def test_a_tensor_larger_than_a_shard_gets_its_own(tmp_path):
    arrays = {"a": np.zeros(1), "big": np.zeros(100), "b": np.zeros(1)}
    write_folder(tmp_path, arrays, 16)
    assert sorted(len(read_safetensors(path)) for path in tmp_path.glob("*.safetensors")) == [1, 1, 1]
    same(read_folder(tmp_path), arrays)


def test_no_tensors_make_a_file_without_tensors(tmp_path):
    write_folder(tmp_path, {}, 10)
    assert read_folder(tmp_path) == {}


def test_a_sharded_writer_wants_every_tensor(tmp_path):
    announced = specs(SIX)
    with pytest.raises(ValueError, match="never written"), ShardedSafetensorsWriter(tmp_path, announced, 40) as writer:
        writer.write("t0", SIX["t0"])
    with pytest.raises(ValueError, match="'t1' was announced"), ShardedSafetensorsWriter(tmp_path, announced) as writer:
        writer.write("t0", SIX["t0"])
    with pytest.raises(ValueError, match="every announced tensor is written"):
        write_folder(tmp_path, SIX, 40)
        with ShardedSafetensorsWriter(tmp_path, {"t0": announced["t0"]}) as writer:
            writer.write("t0", SIX["t0"])
            writer.write("t0", SIX["t0"])


@pytest.fixture
def sharded(tmp_path):
    write_folder(tmp_path, SIX, 80)
    return tmp_path


def edit_index(folder, change):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


def test_a_missing_shard_is_named(sharded):
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        UserError, match="model-00002-of-00003.safetensors: missing, though model.safetensors.index.json"
    ):
        read_safetensors_folder(sharded)


def test_a_tensor_missing_from_its_shard_is_named(sharded):
    edit_index(sharded, lambda places: places.update(t0="model-00002-of-00003.safetensors"))
    with pytest.raises(UserError, match="model-00002-of-00003.safetensors: has no tensor t0"):
        read_safetensors_folder(sharded)


def test_a_tensor_that_two_shards_have_is_named(sharded):
    write(sharded / "model-00002-of-00003.safetensors", {name: SIX[name] for name in ("t1", "t2", "t3")})
    with pytest.raises(UserError, match="model-00002-of-00003.safetensors: has tensor t1"):
        read_safetensors_folder(sharded)


@pytest.mark.parametrize("shard", ["../x.safetensors", "/etc/passwd", "..", "", 3])
def test_an_index_that_leads_out_of_the_folder_is_refused(sharded, shard):
    edit_index(sharded, lambda places: places.update(t0=shard))
    with pytest.raises(UserError, match="names no file of this folder"):
        read_safetensors_folder(sharded)


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_an_index_without_places_is_refused(sharded, index):
    (sharded / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UserError, match="it has no weight_map"):
        read_safetensors_folder(sharded)


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(UserError, match="has neither model.safetensors nor model.safetensors.index.json"):
        read_safetensors_folder(tmp_path)


def test_one_file_goes_before_shards_as_it_does_for_transformers(sharded):
    write(sharded / "model.safetensors", {"whole": np.ones(2)})
    assert list(read_safetensors_folder(sharded)) == ["whole"]


def test_other_stems_are_read(tmp_path):
    write(tmp_path / "optimizer.safetensors", {"a": np.ones(2, ml_dtypes.bfloat16)})
    assert list(read_safetensors_folder(tmp_path, "optimizer")) == ["a"]
