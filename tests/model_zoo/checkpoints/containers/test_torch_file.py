"""PyTorch's zip files are read and written as PyTorch does, bit for bit, without it and with it."""

import collections
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.containers import zipped
from mindgeex.model_zoo.checkpoints.containers.torch_file import STORAGES, TorchWriter, read_torch, tensors_of
from mindgeex.model_zoo.checkpoints.tensors import BFLOAT16, TensorSpec
from tests.model_zoo.checkpoints.arrays import arrays_by_name, in_memory, same
from tests.model_zoo.checkpoints.containers.torch_zips import read, write


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


# With PyTorch


def every_type():
    generator = np.random.default_rng(0)
    return {
        name: (generator.integers(0, 2, (3, 5)) if dtype == np.bool_ else generator.normal(size=(3, 5)) * 50).astype(
            dtype
        )
        for name, dtype in STORAGES.items()
    }


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
