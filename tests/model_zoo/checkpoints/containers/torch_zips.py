"""PyTorch's files as tests need them: well written, and put together by hand from any pickle."""

import zipfile

import numpy as np

from mindgeex.model_zoo.checkpoints.containers import pickled
from mindgeex.model_zoo.checkpoints.containers.torch_file import TorchWriter, read_torch, tensors_of
from tests.model_zoo.checkpoints.arrays import specs


def write(path, arrays):
    with TorchWriter(path, specs(arrays)) as writer:
        for name, array in arrays.items():
            writer.write((name,), array)
    return path


def read(path):
    return {".".join(keys): tensor.read() for keys, tensor in tensors_of(read_torch(path)).items()}


def torch_zip(path, data_pkl, members=None, compression=zipfile.ZIP_STORED, root="archive"):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", data_pkl)
        for name, data in (members or {}).items():
            archive.writestr(f"{root}/{name}", data)
    return path


def tensor_pickle(shape, strides, offset=0, count=4, storage="FloatStorage", number="0"):
    """A pickle of one float32 tensor."""

    def code(value):
        return pickled.dump(value, lambda instructions: instructions)[2:-1]

    storage = code(("storage", pickled.global_name("torch", storage), number, "cpu", count)) + b"Q"
    rebuild = pickled.global_name("torch._utils", "_rebuild_tensor_v2")
    return b"\x80\x02" + rebuild + code((storage, offset, shape, strides, False, None)) + b"R."


FOUR = {"data/0": np.arange(4, dtype=np.float32).tobytes()}
