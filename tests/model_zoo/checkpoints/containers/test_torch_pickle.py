"""Pickles in PyTorch's files: nothing in them is ever run, and those that make no sense are refused with the reason."""

import copyreg
import io
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.containers.torch_file import read_torch
from tests.model_zoo.checkpoints.containers.torch_zips import torch_zip


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
