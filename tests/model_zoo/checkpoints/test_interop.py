"""What we export loads in PyTorch and transformers, and gives our model's logits; each in a process of its own."""

import dataclasses
import json
import shutil
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.convert import ConvertOptions, convert
from mindgeex.model_zoo.checkpoints.formats import read_tensors
from mindgeex.model_zoo.checkpoints.layout import Layout
from mindgeex.model_zoo.checkpoints.native import load_model, named_parameters, save_model
from mindgeex.model_zoo.families import build_model
from tests.model_zoo.checkpoints.checkpoint import (
    assert_same,
    codegeex,
    gpt_neox,
    random_tensors,
    read_ours,
    write_ours,
    write_sizes,
)
from tests.model_zoo.conftest import ORIGINAL

NO_SEED = ms.Tensor(0, ms.int32)

LOGITS = """
import sys
import numpy as np, torch
from transformers import AutoModelForCausalLM
model, info = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32, output_loading_info=True)
assert not any(info.values()), info
ids = torch.from_numpy(np.load(sys.argv[2])).long()
with torch.no_grad():
    np.savez(sys.argv[3], logits=model.eval()(ids).logits.numpy())
"""

SAVED_AGAIN = """
import sys
from transformers import AutoModelForCausalLM
AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto").save_pretrained(sys.argv[2], max_shard_size="20KB")
"""

FLAT = """
import sys
import numpy as np, torch
def flat(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, prefix + key + "/")
        else:
            assert value.is_contiguous() and value.dtype == torch.float16
            yield prefix + key, value.numpy()
np.savez(sys.argv[2], **dict(flat(torch.load(sys.argv[1], weights_only=True, mmap=True))))
"""


def python(script, *words):
    subprocess.run([sys.executable, "-c", script, *map(str, words)], check=True)


def ours(folder, config, seed=0):
    """A folder of ours as training writes it, with weights of some size, and the model."""
    folder.mkdir()
    model = build_model(config)
    for name, array in random_tensors(config, seed=seed).items():
        named_parameters(model)[name].set_data(ms.Tensor(array))
    save_model(folder, config, named_parameters(model))
    return model.set_train(False)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rotary_pct": 1.0, "activation": "gelu_tanh", "parallel_residual": False, "rotary_base": 500.0},
        {"activation": "fast_gelu", "eod_id": -1},
    ],
    ids=lambda changes: ",".join(changes) or "plain",
)
def test_transformers_loads_what_we_export_and_gives_our_logits(tmp_path, changes):
    pytest.importorskip("transformers", reason="install the extra interop")
    pytest.importorskip("torch", reason="install the extra interop")
    config = gpt_neox(num_layers=3, hidden_size=32, **changes)
    model = ours(tmp_path / "ours", config)
    convert(tmp_path / "ours", tmp_path / "hf", "hf", ConvertOptions(shard_bytes=30_000))
    assert (tmp_path / "hf" / "model.safetensors.index.json").is_file()
    ids = np.random.default_rng(0).integers(0, 32, (2, 8)).astype(np.int32)
    np.save(tmp_path / "ids.npy", ids)
    python(LOGITS, tmp_path / "hf", tmp_path / "ids.npy", tmp_path / "theirs.npz")
    theirs = np.load(tmp_path / "theirs.npz")["logits"]
    assert np.abs(theirs).max() > 0.1
    assert np.abs(theirs - model(ms.Tensor(ids), NO_SEED).asnumpy()).max() < 1e-4


TOKENS = """
import json, sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
cases = [json.loads(line) for line in open(sys.argv[2], encoding="utf-8")]
assert len(cases) > 100
for case in cases:
    assert tokenizer.encode(case["text"]) == case["ids"], case
    assert tokenizer.decode(case["ids"], clean_up_tokenization_spaces=False) == case["decoded"], case
"""


def test_transformers_encodes_and_decodes_as_codegeex_with_the_tokenizer_we_export(tmp_path, reference_data):
    pytest.importorskip("transformers", reason="install the extra interop")
    source = write_ours(tmp_path / "ours", gpt_neox(), random_tensors(gpt_neox()))
    shutil.copytree(reference_data / "tokenizers" / "codegeex", source / "tokenizer")
    convert(source, tmp_path / "hf", "hf")
    python(TOKENS, tmp_path / "hf", reference_data / "fixtures" / "codegeex_tokenizer" / "cases.jsonl")
    convert(tmp_path / "hf", tmp_path / "back", "mindgeex")
    for file in (tmp_path / "back" / "tokenizer").iterdir():
        before, after = ((folder / file.name).read_text() for folder in (source / "tokenizer", file.parent))
        assert before == after or json.loads(before) == json.loads(after)
    assert len(list((tmp_path / "back" / "tokenizer").iterdir())) == 5


IN_BINS = """
import json, sys
import torch
from safetensors.torch import load_file
tensors = load_file(sys.argv[1] + "/model.safetensors")
names = list(tensors)
parts = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
for file, held in parts.items():
    torch.save({name: tensors[name] for name in held}, sys.argv[2] + "/" + file)
index = {"metadata": {}, "weight_map": {name: file for file, held in parts.items() for name in held}}
json.dump(index, open(sys.argv[2] + "/pytorch_model.bin.index.json", "w"))
"""


def test_the_older_bin_files_of_hugging_face_folders_are_read(tmp_path):
    pytest.importorskip("torch", reason="install the extra interop")
    tensors = random_tensors(gpt_neox())
    convert(write_ours(tmp_path / "ours", gpt_neox(), tensors), tmp_path / "hf", "hf")
    (tmp_path / "bins").mkdir()
    shutil.copy(tmp_path / "hf" / "config.json", tmp_path / "bins")
    python(IN_BINS, tmp_path / "hf", tmp_path / "bins")
    convert(tmp_path / "bins", tmp_path / "back", "mindgeex")
    assert_same(read_ours(tmp_path / "back"), tensors)
    (tmp_path / "bins" / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(UserError, match="pytorch_model-00002-of-00002.bin: no such file"):
        convert(tmp_path / "bins", tmp_path / "again", "mindgeex")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_transformers_saves_again_comes_back_bit_for_bit(tmp_path, dtype):
    pytest.importorskip("transformers", reason="install the extra interop")
    pytest.importorskip("torch", reason="install the extra interop")
    ours(tmp_path / "ours", gpt_neox())
    convert(tmp_path / "ours", tmp_path / "hf", "hf", ConvertOptions(dtype=dtype))
    python(SAVED_AGAIN, tmp_path / "hf", tmp_path / "again")
    convert(tmp_path / "hf", tmp_path / "first", "mindgeex")
    convert(tmp_path / "again", tmp_path / "second", "mindgeex")
    first, second = (read_tensors("safetensors", tmp_path / name) for name in ("first", "second"))
    assert len(first) == len(gpt_neox().shapes)
    for name, tensor in first.items():
        assert str(tensor.dtype) == dtype
        assert tensor.spec == second[name].spec
        assert tensor.read().tobytes() == second[name].read().tobytes()


def test_the_hugging_face_fixture_gives_its_logits_after_conversion(tmp_path, reference_data):
    folder = reference_data / "fixtures" / "gpt_neox_hf_tiny"
    convert(folder, tmp_path / "ours", "mindgeex")
    expected = np.load(folder / "expected.npz")
    logits = load_model(tmp_path / "ours")(ms.Tensor(expected["input_ids"]), NO_SEED).asnumpy()
    assert np.abs(logits - expected["logits"]).max() < 1e-4


def test_the_originals_torch_checkpoint_gives_its_logits_after_conversion(tmp_path, reference_data):
    folder = reference_data / "fixtures" / "codegeex_torch_tiny"
    options = ConvertOptions(model=str(write_sizes(tmp_path, dataclasses.replace(ORIGINAL, eod_reset=False))))
    convert(folder / "checkpoint.pt", tmp_path / "ours", "mindgeex", options)
    expected = np.load(folder / "expected.npz")
    ids = np.pad(expected["input_ids"], ((0, 0), (0, 16))).astype(np.int32)
    logits = load_model(tmp_path / "ours")(ms.Tensor(ids), NO_SEED).asnumpy()
    assert np.abs(logits[:, :48] - expected["logits"]).max() < 1e-4


@pytest.mark.parametrize("make", [codegeex, gpt_neox])
def test_mindspore_loads_what_we_export_into_the_model(tmp_path, make):
    model = ours(tmp_path / "ours", make())
    convert(tmp_path / "ours", tmp_path / "one.ckpt", "mindspore")
    other = build_model(make()).set_train(False)
    assert ms.load_param_into_net(other, ms.load_checkpoint(str(tmp_path / "one.ckpt"))) == ([], [])
    ids = ms.Tensor(np.arange(8, dtype=np.int32)[None])
    assert np.array_equal(other(ids, NO_SEED).asnumpy(), model(ids, NO_SEED).asnumpy())


@pytest.mark.parametrize("fused_qkv", [False, True])
def test_torch_loads_what_we_export_without_running_its_pickle(tmp_path, fused_qkv):
    pytest.importorskip("torch", reason="install the extra interop")
    tensors = random_tensors(codegeex())
    source = write_ours(tmp_path / "ours", codegeex(), tensors)
    half = ConvertOptions(dtype="float16", fused_qkv=fused_qkv)
    convert(source, tmp_path / "one.pt", "codegeex-torch", half)
    python(FLAT, tmp_path / "one.pt", tmp_path / "theirs.npz")
    theirs = np.load(tmp_path / "theirs.npz")
    place = "module/language_model/transformer/layers.1."
    up = tensors["blocks.1.feed_forward.up.weight"].astype(np.float16)
    assert np.array_equal(theirs[place + "mlp.dense_h_to_4h.weight"], up)
    parts = [tensors[f"blocks.1.attention.{name}.bias"].astype(np.float16) for name in ("query", "key", "value")]
    if fused_qkv:
        assert np.array_equal(theirs[place + "attention.query_key_value.bias"], np.concatenate(parts))
    else:
        assert np.array_equal(theirs[place + "attention.key.bias"], parts[1])
        assert len(theirs.files) == len(tensors)


def test_torch_loads_every_partition(tmp_path):
    pytest.importorskip("torch", reason="install the extra interop")
    tensors = random_tensors(codegeex())
    source = write_ours(tmp_path / "ours", codegeex(), tensors)
    convert(source, tmp_path / "parts", "megatron", ConvertOptions(dtype="float16", layout=Layout(mp=2)))
    halves = []
    for rank in (0, 1):
        python(FLAT, tmp_path / "parts" / f"mp_rank_0{rank}_model_states.pt", tmp_path / f"{rank}.npz")
        found = np.load(tmp_path / f"{rank}.npz")
        halves.append(found["module/language_model/transformer/topQueryLayer.mlp.dense_4h_to_h.weight"])
    whole = tensors["top_query.feed_forward.down.weight"].astype(np.float16)
    assert np.array_equal(np.concatenate(halves, axis=1), whole)
