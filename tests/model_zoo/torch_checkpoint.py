"""Reads the tensors of a torch zip checkpoint without torch, to compare with the original implementation's numbers."""

import pickle
import zipfile
from pathlib import Path

import numpy as np

RENAMED = (
    ("input_layernorm.weight", "attention_norm.gamma"),
    ("input_layernorm.bias", "attention_norm.beta"),
    ("post_attention_layernorm.weight", "feed_forward_norm.gamma"),
    ("post_attention_layernorm.bias", "feed_forward_norm.beta"),
    ("final_layernorm.weight", "final_norm.gamma"),
    ("final_layernorm.bias", "final_norm.beta"),
    ("attention.dense", "attention.output"),
    ("mlp.dense_h_to_4h", "feed_forward.up"),
    ("mlp.dense_4h_to_h", "feed_forward.down"),
    ("topQueryLayer", "top_query"),
    ("layers.", "blocks."),
)


def read_codegeex(path: Path) -> dict[str, np.ndarray]:
    """Our parameter names -> float32 arrays, from the original's nested checkpoint."""
    language_model = _load(path)["module"]["language_model"]
    tensors = {
        "word_embedding.weight": language_model["embedding"]["word_embeddings"]["weight"],
        "position_embedding.weight": language_model["embedding"]["position_embeddings"]["weight"],
        "query_embedding.weight": language_model["topQueryEmbedding"]["top_query_embeddings"]["weight"],
    }
    for name, array in language_model["transformer"].items():
        for old, new in RENAMED:
            name = name.replace(old, new)
        tensors[name] = array
    return {name: array.astype(np.float32) for name, array in tensors.items()}


def _load(path: Path) -> dict:
    archive = zipfile.ZipFile(path)
    pickled = next(name for name in archive.namelist() if name.endswith("data.pkl"))
    root = pickled.removesuffix("data.pkl")
    types = {"HalfStorage": np.float16, "FloatStorage": np.float32}

    def rebuild(storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *_: object) -> np.ndarray:
        byte_strides = [stride * storage.itemsize for stride in strides]
        return np.array(np.lib.stride_tricks.as_strided(storage[offset:], shape, byte_strides))

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            known = {"_rebuild_tensor_v2": rebuild, "OrderedDict": dict, **types}
            return known[name]

        def persistent_load(self, key: tuple) -> np.ndarray:
            return np.frombuffer(archive.read(f"{root}data/{key[2]}"), key[1])

    return Reader(archive.open(pickled)).load()
