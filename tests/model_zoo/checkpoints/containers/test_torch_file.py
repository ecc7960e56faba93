"""PyTorch's zip files: read and written as PyTorch does, bit for bit, and nothing in a pickle is ever run."""

import collections
import copyreg
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.containers import pickled, zipped
from mindgeex.model_zoo.checkpoints.containers.torch_file import STORAGES, TorchWriter, read_torch, tensors_of
from mindgeex.model_zoo.checkpoints.tensors import BFLOAT16, TensorSpec
from tests.model_zoo.checkpoints.arrays import arrays_by_name, in_memory, same, specs


def write(path, arrays):
    with TorchWriter(path, specs(arrays)) as writer:
        for name, array in arrays.items():
            writer.write((name,), array)
    return path


def read(path):
    return {".".join(keys): tensor.read() for keys, tensor in tensors_of(read_torch(path)).items()}


def every_type():
    generator = np.random.default_rng(0)
    return {
        name: (generator.integers(0, 2, (3, 5)) if dtype == np.bool_ else generator.normal(size=(3, 5)) * 50).astype(
            dtype
        )
        for name, dtype in STORAGES.items()
    }


# Without PyTorch


def test_the_original_checkpoint_is_read_without_pytorch(reference_data):
    path = reference_data / "fixtures/codegeex_torch_tiny/checkpoint.pt"
    command = [
        "import sys",
        "from pathlib import Path",
        "from mindgeex.model_zoo.checkpoints.containers.torch_file import read_torch, tensors_of",
        f"tensors = tensors_of(read_torch(Path({str(path)!r})))",
        "print(len(tensors), sum(t.read().size for t in tensors.values()))",
        "assert not {'torch', 'mindspore'} & set(sys.modules)",
    ]
    ran = subprocess.run([sys.executable, "-c", "\n".join(command)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    tree = read_torch(path)["module"]["language_model"]
    weight = tree["embedding"]["word_embeddings"]["weight"]
    assert weight.shape == (512, 64) and weight.dtype == np.float16
    with zipfile.ZipFile(path) as archive:
        assert weight.read().tobytes() == archive.read("checkpoint/data/0")
    assert ran.stdout == f"69 {sum(tensor.read().size for tensor in tensors_of(tree).values())}\n"


def test_the_original_checkpoint_survives_a_round_trip(reference_data, tmp_path):
    tree = read_torch(reference_data / "fixtures/codegeex_torch_tiny/checkpoint.pt")
    announced = {"module": {"language_model": specs_of(tree["module"]["language_model"])}}
    with TorchWriter(tmp_path / "a.pt", announced) as writer:
        for keys, tensor in tensors_of(tree).items():
            writer.write(keys, tensor.read())
    again = read_torch(tmp_path / "a.pt")
    assert list(tensors_of(again)) == list(tensors_of(tree))
    same(read(tmp_path / "a.pt"), {".".join(keys): t.read() for keys, t in tensors_of(tree).items()})


def specs_of(tree):
    return {key: specs_of(value) if isinstance(value, dict) else value.spec for key, value in tree.items()}


@given(arrays=arrays_by_name())
@settings(max_examples=60, deadline=None)
def test_any_tensors_come_back_bit_for_bit_and_aligned(tmp_path_factory, arrays):
    path = write(tmp_path_factory.mktemp("any") / "a.pt", arrays)
    same(read(path), arrays)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for entry in archive.infolist():
            name_size, extra_size = struct.unpack_from("<2H", path.read_bytes(), entry.header_offset + 26)
            assert (entry.header_offset + 30 + name_size + extra_size) % 64 == 0


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


def test_what_is_not_a_tensor_comes_back_as_it_was(tmp_path):
    tree = {
        "numbers": [0, -1, 255, 2**31 - 1, -(2**31), 2**31, -(2**70), 1.5, True, False],
        "text": ("", "größe", None),
        "empty": [{}, [], ()],
        7: {"w": TensorSpec((2,), np.dtype(np.float32))},
    }
    with TorchWriter(tmp_path / "a.pt", tree) as writer:
        writer.write("7.w", np.ones(2, np.float32))
    again = read_torch(tmp_path / "a.pt")
    assert again.pop(7)["w"].read().tolist() == [1, 1]
    tree.pop(7)
    assert again == tree


def test_a_tree_that_cannot_be_written_is_our_own_mistake(tmp_path):
    spec = TensorSpec((), np.dtype(np.int8))
    with pytest.raises(ValueError, match="the same name"):
        TorchWriter(tmp_path / "a", {"a.b": spec, "a": {"b": spec}})
    for odd in (TensorSpec((), np.dtype(np.complex64)), {1, 2}, b"bytes"):
        with pytest.raises(ValueError, match="cannot be written for PyTorch"):
            TorchWriter(tmp_path / "a", {"a": odd})
    assert not (tmp_path / "a").exists()


def test_keys_that_look_alike_lose_no_tensor():
    tensor = in_memory(np.ones(2))
    with pytest.raises(UserError, match="two tensors are both called a.1: save them anew"):
        tensors_of({"a": {1: tensor, "1": tensor}})


# Pickles that want something else


def torch_zip(path, data_pkl, members=None, compression=zipfile.ZIP_STORED, root="archive"):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", data_pkl)
        for name, data in (members or {}).items():
            archive.writestr(f"{root}/{name}", data)
    return path


class Runs:
    """Pickles to a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def persistent(pickled_object, protocol):
    """The object as the persistent id of a storage."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return pickled_object if value == "here" else None

    stream = io.BytesIO()
    Pickler(stream, protocol).dump("here")
    return stream.getvalue()


GETATTR = b"cbuiltins\ngetattr\n(ccollections\nOrderedDict\nX\x08\0\0\0__init__tR."
NESTED = b"ctorch._utils\n_rebuild_parameter\n((cos\nsystem\nX\x04\0\0\0trueltR."
HOSTILE = {
    "os.system": (pickle.dumps(Runs(os.system, "touch run")), "posix.system"),
    "protocol 2": (pickle.dumps(Runs(os.system, "touch run"), 2), "posix.system"),
    "protocol 5, within a dictionary": (pickle.dumps({"a": [Runs(os.system, "touch run")]}, 5), "posix.system"),
    "eval": (pickle.dumps(Runs(eval, "1 + 1"), 2), "__builtin__.eval"),
    "eval by its name of today": (pickle.dumps(Runs(eval, "1 + 1"), 4), "builtins.eval"),
    "getattr": (GETATTR, "builtins.getattr"),
    "nested": (NESTED, "os.system"),
    "as a persistent id": (persistent(Runs(os.system, "touch run"), 2), "posix.system"),
    "dotted, out of an allowed module": (b"ctorch._utils\nsys.modules\n.", "torch._utils.sys.modules"),
    "dotted, by the stack": (b"\x80\x04\x8c\x0btorch._utils\x8c\x0f_rebuild_tensor\x93.", None),
    "an attribute of an allowed class": (b"ccollections\nOrderedDict.__init__\n.", "collections.OrderedDict.__init__"),
    "never called": (b"}X\x01\0\0\0acsubprocess\nPopen\ns.", "subprocess.Popen"),
    "thrown away": (b"csubprocess\nPopen\n0}.", None),
    "an instance of protocol 0": (b"(ios\nsystem\n.", "os.system"),
    "with a line break": (b"\x80\x04\x8c\x02os\x8c\x07sys\ntem\x93.", r"os.sys\\ntem"),
    "numpy": (pickle.dumps(np.float32(1), 2), "numpy.core.multiarray.scalar"),
    "a namespace": (b"cargparse\nNamespace\n)R}b.", "argparse.Namespace"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_foreign_global_is_refused_by_name_and_nothing_runs(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    data, name = HOSTILE[kind]
    path = torch_zip(tmp_path / "a.pt", data)
    message = rf"its pickle names {name}, .* could run code: load it where you trust it and save only" if name else "."
    with pytest.raises(UserError, match=message) as raised:
        read_torch(path)
    assert "\n" not in str(raised.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.pt"]


@pytest.fixture
def extension():
    """A function that pickles reach by number, without its name."""
    calls = []
    copyreg.add_extension("builtins", "eval", 200)
    pickle.loads(b"\x82\xc8.")  # from now on Python's own machine takes it from a cache and asks nobody
    yield calls
    copyreg.clear_extension_cache()
    copyreg.remove_extension("builtins", "eval", 200)


@pytest.mark.parametrize("opcode", [b"\x82\xc8", b"\x83\xc8\0", b"\x84\xc8\0\0\0"])
def test_extensions_are_no_way_around(tmp_path, extension, opcode):
    path = torch_zip(tmp_path / "a.pt", opcode + b"(X\x05\0\0\x001 + 1tR.")
    with pytest.raises(UserError, match="has the instruction EXT[124] at byte 0, which tensors do not need"):
        read_torch(path)


CONTRADICTIONS = {
    "nothing": (b"", "truncated or damaged"),
    "no end": (b"}", "truncated or damaged"),
    "an empty stack": (b".", "contradicts itself"),
    "two values": (b"}}.", "contradicts itself"),
    "an open mark": (b"(}.", "contradicts itself"),
    "a tuple of too few": (b"}\x87.", "contradicts itself"),
    "a mark that never was": (b"}u.", "contradicts itself"),
    "keys without values": (b"}(X\x01\0\0\0au.", "truncated or damaged"),
    "a list as a key": (b"}]Ns.", "list"),
    "a tuple in a million as a key": (b"})" + b"\x85" * 1_000_000 + b"Ns.", "a key of type tuple"),
    "such a key among others": (b"}()" + b"\x85" * 1_000_000 + b"Nu.", "a key of type tuple"),
    "such a key of an OrderedDict": (
        b"ccollections\nOrderedDict\n])" + b"\x85" * 1_000_000 + b"N\x86a\x85R.",
        "a key of type tuple",
    ),
    "a tuple in a million, called": (b")" + b"\x85" * 1_000_000 + b")R.", "lie too deep in each other"),
    "an unknown memo": (b"h\x07.", "contradicts itself"),
    "items of a number": (b"K\x01NNs.", "int stands where dict should"),
    "a called number": (b"K\x01)R.", "1 is called"),
    "a called type": (b"ctorch\nFloatStorage\n)R.", "is called"),
    "a state for a number": (b"K\x01}b.", "int stands where dict should"),
    "an object of a class": (b"ccollections\nOrderedDict\n)\x81.", "instruction NEWOBJ"),
    "bytes": (b"C\x01a.", "instruction SHORT_BINBYTES"),
    "half a character": (b"X\x03\0\0\0\xed\xa0\x80.", "truncated or damaged"),
    "a long text that is not there": (b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", "truncated or damaged"),
    "a list in itself": (b"]q\0h\0a.", "more than 100 levels"),
    "a dictionary in itself": (b"}q\0K\x01h\0s.", "more than 100 levels"),
    "a billion laughs": (
        b"(]q\0" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(40)) + b"t.",
        "1000000 values",
    ),
    "a storage alone": (
        b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ.",
        "a bare storage",
    ),
    "a persistent id of text": (b"X\x01\0\0\0aQ.", "a persistent id that is no storage"),
    "another persistent id": (b"(X\x06\0\0\0moduleNNNNtQ.", "a persistent id that is no storage"),
    "a textual persistent id": (b"Pabc\n.", "instruction PERSID"),
    "a tensor of nothing": (b"ctorch._utils\n_rebuild_tensor_v2\n(NK\0))\x89NtR.", "without a storage"),
    "too few arguments": (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "contradicts itself"),
    "a parameter of nothing": (b"ctorch._utils\n_rebuild_parameter\n(N\x89NtR.", "a parameter that is no tensor"),
    "a dictionary of a number": (b"ccollections\nOrderedDict\n(K\x01tR.", "an OrderedDict of something"),
}


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_a_pickle_that_makes_no_sense_is_refused_with_the_reason(tmp_path, kind):
    data, message = CONTRADICTIONS[kind]
    path = torch_zip(tmp_path / "a.pt", data, {"data/0": b"\0" * 4})
    with pytest.raises(UserError, match=message):
        read_torch(path)


@given(noise=st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_a_pickle_of_noise_is_refused_or_plain_but_never_another_error(tmp_path_factory, noise):
    path = torch_zip(tmp_path_factory.mktemp("noise") / "a.pt", noise)
    try:
        read_torch(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)


# Tensors that their storages contradict


def tensor_pickle(shape, strides, offset=0, count=4, storage="FloatStorage", number="0"):
    """A pickle of one float32 tensor."""

    def code(value):
        return pickled.dump(value, lambda instructions: instructions)[2:-1]

    storage = code(("storage", pickled.global_name("torch", storage), number, "cpu", count)) + b"Q"
    rebuild = pickled.global_name("torch._utils", "_rebuild_tensor_v2")
    return b"\x80\x02" + rebuild + code((storage, offset, shape, strides, False, None)) + b"R."


FOUR = {"data/0": np.arange(4, dtype=np.float32).tobytes()}


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


# Zip files


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


# With PyTorch


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="install the extra interop to compare with PyTorch")


def as_numpy(tensor):
    import torch

    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(BFLOAT16)
    return tensor.numpy()


def test_what_pytorch_saves_is_read_in_every_type_and_shape(tmp_path, torch):
    types = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
    types += (torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32, torch.uint64)
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    tensors = {str(kind): torch.arange(6).reshape(2, 3).to(kind) for kind in types}
    tensors |= {
        "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "parameter": torch.nn.Parameter(torch.ones(2)),
        "base": base, "transposed": base.permute(2, 0, 1), "tail": base[1:, 1:], "tied": base.view(24)[3:7],
        "repeated": torch.arange(3).expand(2, 3),
    }  # fmt: skip
    torch.save(tensors, tmp_path / "a.pt")
    same(read(tmp_path / "a.pt"), {name: as_numpy(tensor) for name, tensor in tensors.items()})


def test_whole_training_checkpoints_of_pytorch_are_read(tmp_path, torch):
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    state = {
        "model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 3, "lr": 1e-3, "note": None,
        "shapes": [parameter.shape for parameter in model.parameters()], "type": torch.float32,
        "order": collections.OrderedDict(b=1, a=2),
    }  # fmt: skip
    state.pop("type")
    torch.save(state, tmp_path / "a.pt")
    tree = read_torch(tmp_path / "a.pt")
    same(
        {name: tensor.read() for name, tensor in tree["model"].items()},
        {n: as_numpy(t) for n, t in state["model"].items()},
    )
    assert tree["step"] == 3 and tree["lr"] == 1e-3 and tree["note"] is None and list(tree["order"]) == ["b", "a"]
    assert tree["shapes"] == [(8, 4), (8,), (8,), (8,)]
    assert tree["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)
    assert np.array_equal(
        tree["optimizer"]["state"][0]["exp_avg"].read(), state["optimizer"]["state"][0]["exp_avg"].numpy()
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_of_pytorch_is_read(tmp_path, torch, protocol):
    tensors = {"a": torch.arange(3), "b": {"c": torch.nn.Parameter(torch.ones(2, 2))}}
    torch.save(tensors, tmp_path / "a.pt", pickle_protocol=protocol)
    same(read(tmp_path / "a.pt"), {"a": np.arange(3), "b.c": np.ones((2, 2), np.float32)})


def test_the_format_before_zip_and_whole_modules_are_refused(tmp_path, torch):
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="format before 1.6"):
        read_torch(tmp_path / "old.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(UserError, match="its pickle names torch.nn.modules.linear.Linear"):
        read_torch(tmp_path / "module.pt")
    torch.save({"a": torch.ones(2).to_sparse()}, tmp_path / "sparse.pt")
    with pytest.raises(UserError, match="its pickle names torch._utils._rebuild_sparse_tensor"):
        read_torch(tmp_path / "sparse.pt")


@pytest.mark.parametrize("limit", [0xFFFFFFFF, 0x200])
def test_what_is_written_pytorch_loads_safely_and_mapped(tmp_path, torch, monkeypatch, limit):
    monkeypatch.setattr(zipped, "LIMIT", limit)
    arrays = every_type() | {"scalar": np.array(2.5), "empty": np.zeros((0, 3), np.int64), "größe.0": np.arange(3)}
    path = write(tmp_path / "a.pt", arrays)
    for options in ({"weights_only": True}, {"weights_only": False}, {"weights_only": True, "mmap": True}):
        loaded = torch.load(path, **options)
        same({name: as_numpy(tensor) for name, tensor in loaded.items()}, arrays)


def test_pytorch_loads_nested_trees_and_saves_them_back(tmp_path, torch):
    tree = {"module": {"x": {"w": TensorSpec((2, 2), BFLOAT16)}, "sizes": [1, 2.5, "s", None, True, (2**40,)]}}
    with TorchWriter(tmp_path / "a.pt", tree) as writer:
        writer.write(("module", "x", "w"), np.ones((2, 2), BFLOAT16))
    loaded = torch.load(tmp_path / "a.pt", weights_only=True)
    assert loaded["module"]["sizes"] == [1, 2.5, "s", None, True, (2**40,)]
    torch.save(loaded, tmp_path / "b.pt")
    same(read(tmp_path / "b.pt"), {"module.x.w": np.ones((2, 2), BFLOAT16)})
