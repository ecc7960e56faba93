"""PyTorch's zip checkpoints (.pt), read and written without PyTorch and without running what a pickle asks for.

    archive/data.pkl     a pickle: nested dictionaries; for each tensor its storage's number, offset, shape and strides
    archive/data/0 ...   the storages' bytes, not compressed, each at a multiple of 64
    archive/byteorder, archive/version

Covers: dense tensors of integers, booleans, float16, bfloat16, float32 and float64; views with offsets and strides;
storages that tensors share; parameters; compressed zip files. Does not cover: the format before PyTorch 1.6 and files
of big-endian machines, refused with the remedy; sparse, quantised and complex tensors; objects of classes.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.containers import pickled
from mindgeex.model_zoo.checkpoints.containers.pickled import ForeignGlobal, Global
from mindgeex.model_zoo.checkpoints.containers.streams import TensorWriter, byte_view, damaged, reading, shown
from mindgeex.model_zoo.checkpoints.containers.torch_views import contiguous_strides, view
from mindgeex.model_zoo.checkpoints.containers.zipped import Member, ZipStream, read_members
from mindgeex.model_zoo.checkpoints.tensors import BFLOAT16, TensorRef, TensorSpec

STORAGES: dict[str, np.dtype[Any]] = {
    "DoubleStorage": np.dtype("<f8"), "FloatStorage": np.dtype("<f4"), "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": BFLOAT16, "LongStorage": np.dtype("<i8"), "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"), "CharStorage": np.dtype("i1"), "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}  # fmt: skip
STORAGE_NAMES = {dtype: name for name, dtype in STORAGES.items()}
UNTYPED = "torch.storage.UntypedStorage"
"""A storage of bytes: its tensors say their type themselves, which only types newer than storages do."""
NEWER_TYPES: dict[str, np.dtype[Any]] = {
    "torch.uint16": np.dtype("<u2"),
    "torch.uint32": np.dtype("<u4"),
    "torch.uint64": np.dtype("<u8"),
}

ZIP_MAGIC = b"PK\3\4"
LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
PICKLE_BYTES = 1 << 28
"""The largest pickle that is read. Names and shapes of 100,000 tensors take 20 MB."""
MAX_NODES, MAX_DEPTH = 1_000_000, 100
ALIGNMENT = 64

RESAVE = "load it where you trust it and save only the tensors, for example with safetensors.torch.save_file"


def read_torch(path: Path) -> Any:
    """What was saved: nested dictionaries, lists and tuples of TensorRef, int, float, bool, str and None.

    Raises:
        UserError: the file is missing, truncated or damaged; it is of the older format; it has an object that is
            neither a tensor nor plain data (named).
    """
    with reading(path), FileIO(path) as file:
        magic = file.read(len(LEGACY_MAGIC)) or b""
    if magic == LEGACY_MAGIC:
        raise UserError(
            f"{path}: saved in PyTorch's format before 1.6, which only PyTorch can read: in PyTorch, "
            "torch.save(torch.load(path, map_location='cpu', weights_only=True), new_path)"
        )
    if not magic.startswith(ZIP_MAGIC):
        raise UserError(
            f"{path}: not a PyTorch checkpoint (it begins with {magic[:4]!r}, not {ZIP_MAGIC!r}): "
            "give a file that torch.save wrote"
        )
    return _Reader(path).tree()


def tensors_of(tree: Any, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Keys from the root -> tensor (TensorRef or TensorSpec), depth first; whatever else a tree holds is left out.

    Raises:
        UserError: two keys differ only as a number differs from its digits.
    """
    tensors: dict[tuple[str, ...], Any] = {}
    for keys, tensor in _leaves(tree, prefix):
        if keys in tensors:
            raise UserError(f"two tensors are both called {shown('.'.join(keys))}: save them anew under different keys")
        tensors[keys] = tensor
    return tensors


def _leaves(tree: Any, prefix: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, (TensorRef, TensorSpec)):
        yield prefix, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, (*prefix, str(key)))
    elif isinstance(tree, (list, tuple)):
        for i, value in enumerate(tree):
            yield from _leaves(value, (*prefix, str(i)))


@dataclass(frozen=True)
class _Storage:
    member: Member
    dtype: np.dtype[Any] | None
    """None where the tensors say it."""


class _Reader:
    """One file: its members, and what its pickle's globals stand for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.members = read_members(path)
        roots = [name.removesuffix("data.pkl") for name in self.members if name.endswith("/data.pkl")]
        roots = [root for root in roots if root.count("/") == 1]
        if len(roots) != 1:
            raise UserError(
                f"{path}: a zip file with {len(roots)} pickles named */data.pkl instead of one: "
                "give a file that torch.save wrote"
            )
        self.root = roots[0]
        self.nodes = 0

    def tree(self) -> Any:
        if (order := self._bytes("byteorder", b"little")) != b"little":
            raise UserError(
                f"{self.path}: its byte order is {order[:10]!r}: load it with PyTorch on a little-endian machine and "
                "save it again"
            )
        known = [
            Global("collections.OrderedDict", self._ordered_dict),
            Global("torch.Size", self._size),
            Global("torch._utils._rebuild_tensor_v2", self._tensor),
            Global("torch._utils._rebuild_tensor_v3", self._tensor_of_type),
            Global("torch._utils._rebuild_parameter", self._parameter),
            *(Global(f"torch.{name}") for name in STORAGES),
            *(Global(name) for name in (UNTYPED, *NEWER_TYPES)),
        ]
        try:
            return self._plain(pickled.load(self._bytes("data.pkl"), known, self._storage), 0)
        except ForeignGlobal as error:
            raise UserError(
                f"{self.path}: its pickle names {shown(str(error))}, which is neither a tensor nor plain data "
                f"and could run code: {RESAVE}"
            ) from None
        except ValueError as error:
            raise damaged(self.path, f"{self.root}data.pkl: {error}") from None

    def _bytes(self, name: str, default: bytes | None = None) -> bytes:
        member = self.members.get(self.root + name)
        if member is None and default is not None:
            return default
        assert member is not None
        if member.size > PICKLE_BYTES:
            raise damaged(self.path, f"{member.name} has {member.size} bytes; at most {PICKLE_BYTES} can be right")
        data = bytearray(member.size)
        member.read_into(memoryview(data))
        return bytes(data)

    def _plain(self, value: object, depth: int) -> Any:
        """A copy without the pickle's own objects. Refuses structures that contain themselves, or nearly so."""
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise ValueError(f"more than {MAX_DEPTH} levels, or than {MAX_NODES} values")
        match value:
            case dict():
                return {key: self._plain(item, depth + 1) for key, item in value.items()}
            case list():
                return [self._plain(item, depth + 1) for item in value]
            case tuple():
                return tuple(self._plain(item, depth + 1) for item in value)
            case Global():
                return value.name
            case _Storage():
                raise ForeignGlobal("a bare storage")
            case _:
                return value

    def _storage(self, key: object) -> _Storage:
        match key:
            case ("storage", Global() as kind, str() as number, str(), int() as count):
                member = self.members.get(f"{self.root}data/{number}")
                if member is None:
                    raise damaged(self.path, f"its pickle asks for {self.root}data/{number}, which is missing")
                dtype = STORAGES.get(kind.name.removeprefix("torch."))
                if dtype is None and kind.name != UNTYPED:
                    raise ValueError(f"{kind.name} is no storage")
                awaited = count * (dtype.itemsize if dtype else 1)
                if member.size < awaited:
                    raise damaged(self.path, f"{member.name} has {member.size} bytes of {awaited}")
                return _Storage(member, dtype)
        raise ValueError("a persistent id that is no storage")

    @staticmethod
    def _ordered_dict(items: object = ()) -> dict[Any, Any]:
        if not isinstance(items, (list, tuple)):
            raise ValueError("an OrderedDict of something that is no list")
        return pickled.pairs(items)

    @staticmethod
    def _size(sizes: object = ()) -> tuple[Any, ...]:
        if not isinstance(sizes, tuple):
            raise ValueError("a torch.Size of something that is no tuple")
        return sizes

    @staticmethod
    def _parameter(tensor: object, requires_grad: object, hooks: object) -> TensorRef:
        if not isinstance(tensor, TensorRef):
            raise ValueError("a parameter that is no tensor")
        return tensor

    @staticmethod
    def _tensor(
        storage: object, offset: object, shape: object, strides: object, grad: object, hooks: object, *rest: object
    ) -> TensorRef:
        if not isinstance(storage, _Storage) or storage.dtype is None:
            raise ValueError("a tensor without a storage of known type")
        if any(rest):  # marks a tensor as negated or conjugated, which only complex numbers need
            raise ValueError(f"a tensor with the metadata {rest!r}")
        return view(storage.member, storage.dtype, offset, shape, strides)

    @staticmethod
    def _tensor_of_type(
        storage: object,
        offset: object,
        shape: object,
        strides: object,
        grad: object,
        hooks: object,
        kind: object,
        *rest: object,
    ) -> TensorRef:
        dtype = NEWER_TYPES.get(kind.name) if isinstance(kind, Global) else None
        if not isinstance(storage, _Storage) or dtype is None or any(rest):
            raise ValueError("a tensor without a storage or a known type")
        return view(storage.member, dtype, offset, shape, strides)


class TorchWriter(TensorWriter):
    """Writes a tree: nested dictionaries and lists of TensorSpec and plain values. Every tensor has its own storage.

    `write` takes a tensor by its keys from the root, as a tuple or joined by dots, in the order of `tensors_of(tree)`.
    """

    def __init__(self, path: Path, tree: Any) -> None:
        tensors = tensors_of(tree)
        specs = {".".join(keys): spec for keys, spec in tensors.items()}
        if len(specs) != len(tensors):
            raise ValueError(f"{path}: two tensors have the same name once their keys are joined by dots")
        numbers = itertools.count()
        pickle = pickled.dump(tree, lambda leaf: _tensor_pickle(leaf, next(numbers)))
        self._numbers = itertools.count()
        super().__init__(path, specs)
        self._zip = ZipStream(self._append, ALIGNMENT)
        self._zip.add("archive/data.pkl", pickle)
        self._zip.add("archive/byteorder", b"little")

    def write(self, name: str | tuple[str, ...], array: np.ndarray) -> None:
        """Writes the next tensor."""
        super().write(name if isinstance(name, str) else ".".join(name), array)

    def _store(self, name: str, array: np.ndarray) -> None:
        self._zip.add(f"archive/data/{next(self._numbers)}", byte_view(array))

    def _complete(self) -> None:
        self._zip.add("archive/version", b"3\n")
        self._zip.finish()


def _tensor_pickle(spec: object, number: int) -> bytes:
    """The instructions that rebuild a contiguous tensor from storage `number`."""
    if not isinstance(spec, TensorSpec) or spec.dtype not in STORAGE_NAMES:
        raise ValueError(f"cannot be written for PyTorch: {spec!r}")

    def code(value: object) -> bytes:
        return pickled.dump(value, lambda instructions: instructions)[2:-1]

    kind = pickled.global_name("torch", STORAGE_NAMES[spec.dtype])
    storage = code(("storage", kind, str(number), "cpu", math.prod(spec.shape))) + b"Q"
    hooks = pickled.global_name("collections", "OrderedDict") + b")R"
    arguments = code((storage, 0, spec.shape, contiguous_strides(spec.shape), False, hooks))
    return pickled.global_name("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"
