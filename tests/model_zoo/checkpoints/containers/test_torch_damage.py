"""PyTorch's files that are cut, altered or contradict themselves: zip files, storages and the views of them."""

import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.containers import zipped
from mindgeex.model_zoo.checkpoints.containers.torch_file import read_torch
from tests.model_zoo.checkpoints.arrays import arrays_by_name, same
from tests.model_zoo.checkpoints.containers.torch_zips import FOUR, read, tensor_pickle, torch_zip, write


@given(arrays=arrays_by_name(min_size=1), data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_cut_file_is_always_refused(tmp_path_factory, arrays, data):
    path = write(tmp_path_factory.mktemp("cut") / "a.pt", arrays)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(UserError, match="truncated or damaged|not a PyTorch checkpoint"):
        read(path)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_byte_is_refused_or_without_effect_and_never_another_error(tmp_path_factory, data):
    arrays = {"a": np.arange(6, dtype=np.float32), "b": np.ones((2, 2), np.int8)}
    path = write(tmp_path_factory.mktemp("noise") / "a.pt", arrays)
    whole = bytearray(path.read_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(whole)
    try:
        same(read(path), arrays)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def test_views_have_the_values_that_offset_and_strides_say(tmp_path):
    for shape, strides, offset, values in [
        ((2, 2), (2, 1), 0, [[0, 1], [2, 3]]),
        ((2, 2), (1, 2), 0, [[0, 2], [1, 3]]),
        ((2,), (2,), 1, [1, 3]),
        ((), (), 3, 3),
        ((0,), (1,), 9, []),
        ((3, 2), (0, 1), 1, [[1, 2]] * 3),
        ((2, 3), (1, 1), 0, [[0, 1, 2], [1, 2, 3]]),
        ((1, 4), (77, 1), 0, [[0, 1, 2, 3]]),
    ]:
        path = torch_zip(tmp_path / "a.pt", tensor_pickle(shape, strides, offset), FOUR)
        array = read_torch(path).read()
        assert array.tolist() == values and array.shape == shape and array.flags.c_contiguous


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "message"),
    [
        ((5,), (1,), 0, r"archive/data/0 has 16 bytes, a tensor of shape \[5\] needs 20"),
        ((4,), (1,), 1, r"a tensor of shape \[4\] needs 20"),
        ((2, 2), (3, 1), 0, r"a tensor of shape \[2, 2\] needs 20"),
        ((2**40, 2**40), (1, 1), 0, "needs"),
        ((2**40, 2**40), (0, 0), 0, "repeats the 16 bytes there are"),
        ((2,), (-1,), 3, r"its shape is \(-1,\)"),
        ((2,), (1,), -1, "offset -1"),
        ((2,), (1, 1), 0, r"shape \(2,\), strides \(1, 1\)"),
        ((True,), (1,), 0, r"its shape is \(True,\)"),
        ((2.0,), (1,), 0, r"its shape is \(2.0,\)"),
        ((1,) * 33, (1,) * 33, 0, "33 dimensions"),
        (4, (1,), 0, "its shape is 4"),
    ],
)
def test_a_view_that_its_storage_cannot_give_is_refused(tmp_path, shape, strides, offset, message):
    path = torch_zip(tmp_path / "a.pt", tensor_pickle(shape, strides, offset), FOUR)
    with pytest.raises(UserError, match=message):
        read_torch(path)


def test_a_storage_that_is_missing_short_or_unknown_is_named(tmp_path):
    with pytest.raises(UserError, match="its pickle asks for archive/data/7, which is missing"):
        read_torch(torch_zip(tmp_path / "a.pt", tensor_pickle((1,), (1,), number="7"), FOUR))
    with pytest.raises(UserError, match="archive/data/0 has 16 bytes of 20"):
        read_torch(torch_zip(tmp_path / "a.pt", tensor_pickle((1,), (1,), count=5), FOUR))
    with pytest.raises(UserError, match="its pickle names torch.ComplexFloatStorage"):
        read_torch(torch_zip(tmp_path / "a.pt", tensor_pickle((1,), (1,), storage="ComplexFloatStorage"), FOUR))


def test_compressed_members_are_read_too_views_included(tmp_path):
    data = tensor_pickle((2, 2), (1, 2), 1, count=1000)
    members = {"data/0": np.arange(1_000_000, dtype=np.float32).tobytes()}
    path = torch_zip(tmp_path / "a.pt", data, members, zipfile.ZIP_DEFLATED)
    assert read_torch(path).read().tolist() == [[1, 3], [2, 4]]
    far = torch_zip(tmp_path / "b.pt", tensor_pickle((2,), (1,), 999_998), members, zipfile.ZIP_DEFLATED)
    assert read_torch(far).read().tolist() == [999_998, 999_999]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_flipped_bit_in_the_values_is_found(tmp_path, compression):
    path = torch_zip(tmp_path / "a.pt", tensor_pickle((4,), (1,)), FOUR, compression)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("archive/data/0")
    whole = bytearray(path.read_bytes())
    whole[entry.header_offset + 30 + len(entry.filename) + 5] ^= 1
    path.write_bytes(whole)
    tensor = read_torch(path)
    with pytest.raises(UserError, match="truncated or damaged"):
        tensor.read()


def test_other_files_are_refused_with_the_remedy(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.")
    with pytest.raises(UserError, match=r"format before 1.6, .*: in PyTorch, torch.save\(torch.load"):
        read_torch(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UserError, match="not a PyTorch checkpoint .*: give a file that torch.save wrote"):
        read_torch(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="not a PyTorch checkpoint"):
        read_torch(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "")
    with pytest.raises(UserError, match=r"a zip file with 0 pickles named \*/data.pkl instead of one"):
        read_torch(path)
    with pytest.raises(UserError, match="absent: no such file"):
        read_torch(tmp_path / "absent")
    with pytest.raises(UserError, match="its byte order is b'big'"):
        read_torch(torch_zip(path, b"}.", {"byteorder": b"big"}))
    with pytest.raises(UserError, match="compressed by another method than deflate"):
        read_torch(torch_zip(path, b"}.", compression=zipfile.ZIP_LZMA))
    with pytest.raises(UserError, match="two members named archive/data.pkl"), pytest.warns(UserWarning):
        read_torch(torch_zip(path, b"}.", {"data.pkl": b"]."}))


def test_an_encrypted_member_is_refused(tmp_path):
    path = torch_zip(tmp_path / "a.pt", b"}.")
    whole = bytearray(path.read_bytes())
    whole[6] |= 1
    whole[whole.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(whole)
    with pytest.raises(UserError, match="archive/data.pkl is encrypted"):
        read_torch(path)


def test_what_passes_four_gigabytes_is_laid_out_as_zip64(tmp_path, monkeypatch):
    arrays = {"a": np.arange(100, dtype=np.float32), "b": np.ones(3, np.int8), "c": np.zeros(200, np.int64)}
    monkeypatch.setattr(zipped, "LIMIT", 0x200)
    path = tmp_path / "a.pt"
    write(path, arrays)
    assert b"PK\6\6" in path.read_bytes() and b"PK\6\7" in path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.getinfo("archive/data/2").file_size == 1600
    same(read(path), arrays)


def test_more_members_than_16_bits_count_are_laid_out_as_zip64(tmp_path, monkeypatch):
    monkeypatch.setattr(zipped, "MANY", 3)
    arrays = {"a": np.arange(100, dtype=np.float32)}
    write(tmp_path / "a.pt", arrays)
    same(read(tmp_path / "a.pt"), arrays)
