"""The C++ side as Python sees it: where a model's weights lie, and a pass of some tokens over a cache.

The structures repeat model.h field by field. Weights are used where MindSpore holds them, never copied; a model that is
trained on in between is therefore seen as it is.
Covers: CodeGeeX and GPT-NeoX in float32 on a CPU, with linear weights of float32 or int8.
"""

# Shapes: N tokens of a pass, W of them whose logits are wanted, L layers, B rows, A heads, D head width, K window,
#         R rotated values of a head, V vocabulary
import ctypes
import os
from functools import cache
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter

from mindgeex.model_zoo.codegeex import CodeGeeX
from mindgeex.model_zoo.families import Model
from mindgeex.model_zoo.int8 import Int8Linear
from mindgeex.model_zoo.layers import LayerNorm, Linear
from mindgeex.model_zoo.shared_library import CannotCompile, shared_library

SOURCES = Path(__file__).parent
OPTIONS = ("-std=c++17", "-O3", "-march=native", "-fopenmp-simd", "-pthread", "-shared", "-fPIC")
PHASES = ("norms", "products", "cache", "attention", "head")
ACTIVATIONS = {"fast_gelu": 1, "gelu": 2, "gelu_tanh": 3}
LANES = 16
LINE_BYTES = 64
MOST_THREADS = 16
Pointer, Long = ctypes.c_void_p, ctypes.c_int64


class _Linear(ctypes.Structure):
    _fields_ = [("weight", Pointer), ("scale", Pointer), ("bias", Pointer), ("out", Long), ("in_", Long)]


class _Norm(ctypes.Structure):
    _fields_ = [("gamma", Pointer), ("beta", Pointer)]


class _Layer(ctypes.Structure):
    _fields_ = [(name, _Norm) for name in ("attention_norm", "feed_forward_norm")] + [
        (name, _Linear) for name in ("query", "key", "value", "output", "up", "down")
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        ("layers", ctypes.POINTER(_Layer)),
        *((name, Pointer) for name in ("words", "places", "questions", "cosines", "sines")),
        ("final_norm", _Norm),
        ("head", _Linear),
        *((name, Long) for name in ("num_layers", "hidden", "heads", "window", "inner", "rotated")),
        ("epsilon", ctypes.c_float),
        ("activation", ctypes.c_int32),
        ("parallel", ctypes.c_int32),
    ]


class _Batch(ctypes.Structure):
    _fields_ = [
        *((name, Pointer) for name in ("ids", "rows", "positions", "wanted")),
        *((name, Long) for name in ("tokens", "num_wanted", "num_rows")),
        *((name, Pointer) for name in ("keys", "values", "logits", "seconds")),
        ("threads", Long),
    ]


@cache
def library_file(folder: Path | None = None) -> Path:
    """The compiled library of decoding, in `folder` or in the user's cache; takes seconds the first time.

    Raises:
        CannotCompile: see `shared_library`.
    """
    return shared_library("decoding", SOURCES, OPTIONS, folder)


@cache
def load_library() -> ctypes.CDLL:
    """The compiled functions.

    Raises:
        CannotCompile: there is no compiler, or what it made does not load.
    """
    path = library_file()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise CannotCompile(f"{path} does not load: {error}") from None
    library.forward.argtypes, library.forward.restype = (ctypes.POINTER(_Model), ctypes.POINTER(_Batch)), None
    library.read_all.argtypes, library.read_all.restype = (Pointer, Long, Long), ctypes.c_float
    return library


def usable_threads() -> int:
    """The processors that this process may use, up to where waiting for each other costs more than they save."""
    return min(len(os.sched_getaffinity(0)), MOST_THREADS)


class NativeModel:
    """A model as the C++ function takes it."""

    def __init__(self, model: Model, threads: int | None = None):
        """Uses `threads` threads, or as many as there are processors for this process.

        Raises:
            CannotCompile: see `load_library`.
        """
        self._library = load_library()
        self._model = model
        self._threads = threads or usable_threads()
        config = model.config
        self.seconds: np.ndarray | None = None
        """Time spent in each of PHASES so far (float64), where somebody puts zeros here."""
        self.blocks = -(-config.seq_length // LANES)
        self._rotations = None
        if config.family == "gpt_neox":
            half = config.rotary_size // 2
            exponents = np.arange(0, config.rotary_size, 2, dtype=np.float32) / config.rotary_size
            frequencies = (1.0 / config.rotary_base**exponents).astype(np.float32)
            angles_KR = np.arange(config.seq_length, dtype=np.float32)[:, None] * frequencies[:half]
            self._rotations = (np.cos(angles_KR), np.sin(angles_KR))
        self._gather()
        self.bind()

    def empty_cache(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys [L, B, A, K/16, D, 16] and values [L, B, A, K, D], K rounded up; memory is taken where it is used."""
        config = self._model.config
        outer, width = (config.num_layers, rows, config.num_heads), config.head_size
        keys = np.zeros((*outer, self.blocks, width, LANES), np.float32)
        return keys, np.zeros((*outer, self.blocks * LANES, width), np.float32)

    def bind(self) -> None:
        """Looks anew where the weights lie; they move when something is loaded into them."""
        model, config = self._model, self._model.config
        self._kept: list[np.ndarray] = []
        described = _Model(
            words=self._address(model.word_embedding.weight),
            final_norm=self._norm(model.final_norm),
            num_layers=config.num_layers,
            hidden=config.hidden_size,
            heads=config.num_heads,
            window=config.seq_length,
            inner=config.feed_forward_size,
            epsilon=config.layer_norm_epsilon,
            activation=ACTIVATIONS[config.activation],
        )
        blocks = list(model.blocks)
        if isinstance(model, CodeGeeX):
            blocks.append(model.top_query)
            described.places = self._address(model.position_embedding.weight)
            described.questions = self._address(model.query_embedding.weight)
            described.head = _Linear(described.words, None, None, config.vocab_size, config.hidden_size)
        else:
            described.head = self._linear(model.head)
            described.parallel = config.parallel_residual
            described.rotated = config.rotary_size
            assert self._rotations is not None
            described.cosines, described.sines = (table.ctypes.data for table in self._rotations)
        self._layers = (_Layer * len(blocks))(*map(self._layer, blocks))
        described.layers = self._layers
        self._described = described

    def forward(
        self,
        ids_N: np.ndarray,
        rows_N: np.ndarray,
        positions_N: np.ndarray,
        wanted_W: np.ndarray,
        cache: tuple[np.ndarray, np.ndarray],
    ) -> np.ndarray:
        """Puts tokens of any rows into the cache -> logits [W, V] of those that are wanted (indices into N).

        Rows, positions and indices are the caller's to keep within the cache: what comes before a token in its row must
        be in the cache or among the tokens.

        Raises:
            ValueError: an id that the model has no row for.
        """
        config = self._model.config
        arrays = [np.ascontiguousarray(array, np.int32) for array in (ids_N, rows_N, positions_N, wanted_W)]
        if not 0 <= arrays[0].min() <= arrays[0].max() < config.vocab_size:
            raise ValueError(f"ids from {arrays[0].min()} to {arrays[0].max()}: at least 0, below {config.vocab_size}")
        logits_WV = np.empty((len(arrays[3]), config.vocab_size), np.float32)
        batch = _Batch(
            *(array.ctypes.data for array in arrays),
            len(arrays[0]),
            len(arrays[3]),
            cache[0].shape[1],
            cache[0].ctypes.data,
            cache[1].ctypes.data,
            logits_WV.ctypes.data,
            None if self.seconds is None else self.seconds.ctypes.data,
            self._threads,
        )
        self._library.forward(self._described, batch)
        return logits_WV

    def _gather(self) -> None:
        """Moves the weights, one by one, into one block of memory.

        A block of megabytes gets large pages, which are read up to one and a half times as fast as those of 4 kB that
        separate tensors lie in. It starts with the weights in the order of use.
        """
        parameters = list(self._model.get_parameters())
        starts = np.cumsum(
            [0, *(-(-parameter.asnumpy().nbytes // LINE_BYTES) * LINE_BYTES for parameter in parameters)]
        )
        block = np.empty(starts[-1] + LINE_BYTES, np.uint8)
        block = block[-block.ctypes.data % LINE_BYTES :]
        for parameter, start in zip(parameters, starts[:-1], strict=True):
            weights = parameter.asnumpy()
            moved = block[start : start + weights.nbytes].view(weights.dtype).reshape(weights.shape)
            moved[...] = weights
            parameter.set_data(ms.Tensor.from_numpy(moved))

    def _layer(self, block) -> _Layer:
        attention, fed = block.attention, block.feed_forward
        linears = (attention.query, attention.key, attention.value, attention.output, fed.up, fed.down)
        norms = (block.attention_norm, block.feed_forward_norm)
        return _Layer(*map(self._norm, norms), *map(self._linear, linears))

    def _linear(self, linear: Linear | Int8Linear) -> _Linear:
        scale = self._address(linear.scale) if isinstance(linear, Int8Linear) else None
        bias = None if linear.bias is None else self._address(linear.bias)
        return _Linear(self._address(linear.weight), scale, bias, linear.out_size, linear.in_size)

    def _norm(self, norm: LayerNorm) -> _Norm:
        return _Norm(self._address(norm.gamma), self._address(norm.beta))

    def _address(self, parameter: Parameter) -> int:
        array = parameter.asnumpy()
        self._kept.append(array)
        return array.ctypes.data
