"""Conversion: between every two formats bit for bit, and what stands beside the weights."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.convert import ConvertOptions, convert
from mindgeex.model_zoo.checkpoints.formats import FORMATS, read_tensors
from mindgeex.model_zoo.checkpoints.layout import Layout
from tests.model_zoo.checkpoints.checkpoint import (
    TYPES,
    assert_same,
    codegeex,
    gpt_neox,
    random_tensors,
    read_ours,
    write_ours,
    write_sizes,
)
from tests.model_zoo.conftest import ORIGINAL
from tests.model_zoo.torch_checkpoint import read_codegeex

CODEGEEX = {
    "mindgeex": ("mindgeex", ConvertOptions()),
    "shards": ("mindgeex", ConvertOptions(shard_bytes=5000)),
    "mindspore": ("mindspore", ConvertOptions()),
    "original": ("codegeex-mindspore", ConvertOptions()),
    "torch": ("codegeex-torch", ConvertOptions()),
    "torch-fused": ("codegeex-torch", ConvertOptions(fused_qkv=True)),
    **{f"megatron-{n}": ("megatron", ConvertOptions(layout=Layout(mp=n))) for n in (1, 2, 4)},
    **{f"megatron-{n}-fused": ("megatron", ConvertOptions(layout=Layout(mp=n), fused_qkv=True)) for n in (1, 2, 4)},
    "ranks": ("mindspore", ConvertOptions(layout=Layout(4, 2, 2))),
    "original-ranks": ("codegeex-mindspore", ConvertOptions(layout=Layout(2, 4, 2))),
    "our-ranks": ("mindgeex", ConvertOptions(layout=Layout(2, 2, 1))),
}
NEOX = {
    name: CODEGEEX[name] for name in ("mindgeex", "shards", "mindspore", "ranks", "our-ranks")
} | {"hf": ("hf", ConvertOptions()), "hf-shards": ("hf", ConvertOptions(shard_bytes=5000))}  # fmt: skip
WAYS = [(codegeex, first, CODEGEEX) for first in CODEGEEX] + [(gpt_neox, first, NEOX) for first in NEOX]


@pytest.mark.parametrize(("make", "first", "ways"), WAYS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_pair_of_formats_gives_the_same_bits(tmp_path, make, first, ways):
    tensors = random_tensors(make())
    source = write_ours(tmp_path / "source", make(), tensors)
    convert(source, tmp_path / "first", *ways[first])
    for second in ways:
        convert(tmp_path / "first", tmp_path / second, *ways[second])
        convert(tmp_path / second, tmp_path / f"{second}-back", "mindgeex")
        assert_same(read_ours(tmp_path / f"{second}-back"), tensors)
        if first == "mindgeex":
            continue
        assert (tmp_path / f"{second}-back" / "model.yaml").is_file()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["mindspore", "original", "torch-fused", "megatron-2-fused", "original-ranks"])
def test_types_are_kept_unless_another_is_asked_for(tmp_path, dtype, name):
    tensors = random_tensors(codegeex(), dtype)
    write_ours(tmp_path / "float32", codegeex(), {k: v.astype(np.float32) for k, v in tensors.items()})
    form, options = CODEGEEX[name]
    convert(tmp_path / "float32", tmp_path / "typed", form, replace(options, dtype=dtype))
    report = convert(tmp_path / "typed", tmp_path / "back", "mindgeex")
    found = {name: ref.read() for name, ref in read_tensors("safetensors", tmp_path / "back").items()}
    assert_same(found, tensors)
    assert report.casts == ()
    assert {record.dtype for record in report.tensors} == {dtype}


def test_values_that_the_new_type_cannot_hold_are_counted(tmp_path):
    tensors = random_tensors(codegeex())
    tensors["blocks.0.attention.key.weight"][0, :3] = [1e6, -7e4, np.inf]
    tensors["blocks.1.feed_forward.up.bias"][:2] = [1e-9, 0.0]
    source = write_ours(tmp_path / "source", codegeex(), tensors)
    report = convert(source, tmp_path / "half.pt", "codegeex-torch", ConvertOptions(dtype="float16"))
    assert [(cast.name, cast.overflowed, cast.flushed) for cast in report.casts] == [
        ("blocks.0.attention.key.weight", 2, 0),
        ("blocks.1.feed_forward.up.bias", 0, 1),
    ]
    assert (report.overflowed, report.flushed) == (2, 1)
    assert "2 values overflowed" in report.summary()["lost in the cast"]


def test_the_originals_torch_checkpoint_comes_back_identical(tmp_path, reference_data):
    original = reference_data / "fixtures" / "codegeex_torch_tiny" / "checkpoint.pt"
    options = ConvertOptions(model=str(write_sizes(tmp_path, ORIGINAL)))
    convert(original, tmp_path / "ours", "mindgeex", options)
    ours = read_ours(tmp_path / "ours")
    assert_same({name: array.astype(np.float32) for name, array in ours.items()}, read_codegeex(original))
    for way in CODEGEEX:
        convert(tmp_path / "ours", tmp_path / way, *CODEGEEX[way])
        convert(tmp_path / way, tmp_path / f"{way}.pt", "codegeex-torch")
        before, after = (read_tensors("torch", path) for path in (original, tmp_path / f"{way}.pt"))
        assert_same({name: t.read() for name, t in after.items()}, {name: t.read() for name, t in before.items()})


def test_the_hugging_face_fixture_comes_back_identical(tmp_path, reference_data):
    original = reference_data / "fixtures" / "gpt_neox_hf_tiny"
    for way in NEOX:
        convert(original, tmp_path / way, *NEOX[way])
        convert(tmp_path / way, tmp_path / f"{way}-back", "hf")
        assert_same(read_ours(tmp_path / f"{way}-back"), read_ours(original))
        before, after = (json.loads((p / "config.json").read_text()) for p in (original, tmp_path / f"{way}-back"))
        assert {key for key, value in after.items() if before.get(key, value) != value} == set()


def test_megatron_partitions_are_cut_as_the_original_cuts_them(tmp_path):
    config, tensors = codegeex(), random_tensors(codegeex())
    source = write_ours(tmp_path / "source", config, tensors)
    convert(source, tmp_path / "out", "megatron", ConvertOptions(layout=Layout(mp=2)))
    convert(source, tmp_path / "fused", "megatron", ConvertOptions(layout=Layout(mp=2), fused_qkv=True))
    for rank in (0, 1):
        found = read_tensors("torch", tmp_path / "out" / f"mp_rank_{rank:02d}_model_states.pt")
        part = {name.removeprefix("module/language_model/"): ref.read() for name, ref in found.items()}
        layer = "transformer/layers.1."

        def share(name, dim, rank=rank):
            return np.split(tensors[name], 2, dim)[rank]

        assert np.array_equal(part["embedding/word_embeddings/weight"], share("word_embedding.weight", 0))
        assert np.array_equal(part["topQueryEmbedding/top_query_embeddings/weight"], share("query_embedding.weight", 0))
        assert np.array_equal(part["embedding/position_embeddings/weight"], tensors["position_embedding.weight"])
        assert np.array_equal(part[layer + "attention.dense.weight"], share("blocks.1.attention.output.weight", 1))
        assert np.array_equal(part[layer + "attention.dense.bias"], tensors["blocks.1.attention.output.bias"])
        assert np.array_equal(part[layer + "mlp.dense_h_to_4h.bias"], share("blocks.1.feed_forward.up.bias", 0))
        assert np.array_equal(part[layer + "mlp.dense_4h_to_h.weight"], share("blocks.1.feed_forward.down.weight", 1))
        fused = read_tensors("torch", tmp_path / "fused" / f"mp_rank_{rank:02d}_model_states.pt")
        joined = [share(f"blocks.1.attention.{name}.weight", 0) for name in ("query", "key", "value")]
        stored = fused["module/language_model/" + layer + "attention.query_key_value.weight"].read()
        assert np.array_equal(stored, np.concatenate(joined))


def test_the_report_lists_every_tensor_with_the_sum_of_what_was_written(tmp_path):
    tensors = random_tensors(codegeex())
    source = write_ours(tmp_path / "source", codegeex(), tensors)
    report = convert(source, tmp_path / "out.ckpt", "codegeex-mindspore")
    tree = json.loads((tmp_path / "out.ckpt.conversion.json").read_text())
    assert json.loads(json.dumps(report.as_tree())) == tree
    by_target = {record["target"]: record for record in tree["tensors"]}
    assert len(by_target) == len(tensors)
    row = by_target["backbone.blocks.1.output.mapping.weight"]
    up = np.ascontiguousarray(tensors["blocks.1.feed_forward.up.weight"].T)
    assert row["source"] == ["blocks.1.feed_forward.up.weight"]
    assert row["shape"] == list(up.shape)
    assert row["sha256"] == [hashlib.sha256(up.tobytes()).hexdigest()]
    assert tree["values"] == codegeex().parameters
    assert tree["bytes"] == 4 * codegeex().parameters


def test_the_tokenizer_is_carried_along(tmp_path):
    source = write_ours(tmp_path / "source", gpt_neox(), random_tensors(gpt_neox()))
    (source / "tokenizer").mkdir()
    for name in ("vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json"):
        (source / "tokenizer" / name).write_text(f'{{"{name}": 1}}')
    convert(source, tmp_path / "hf", "hf")
    assert (tmp_path / "hf" / "merges.txt").read_text() == '{"merges.txt": 1}'
    report = convert(tmp_path / "hf", tmp_path / "back", "mindspore")
    assert {file.name for file in (tmp_path / "back" / "tokenizer").iterdir()} == {
        "vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json"
    }  # fmt: skip
    assert not [note for note in report.notes if "tokenizer" in note]


def test_a_shipped_model_is_known_by_its_shapes(tmp_path):
    from mindgeex.model_zoo.config import load_model_config

    config = load_model_config("codegeex_tiny")
    tensors = random_tensors(config)
    source = write_ours(tmp_path / "source", config, tensors)
    convert(source, tmp_path / "one.ckpt", "codegeex-mindspore")
    report = convert(tmp_path / "one.ckpt", tmp_path / "back", "mindgeex")
    assert any("codegeex_tiny" in note for note in report.notes)
    assert yaml.safe_load((tmp_path / "back" / "model.yaml").read_text())["num_heads"] == config.num_heads
    assert_same(read_ours(tmp_path / "back"), tensors)


def test_a_file_is_read_by_its_bytes_whatever_stands_beside(tmp_path):
    source = write_ours(tmp_path / "source", codegeex(), random_tensors(codegeex()))
    convert(source, tmp_path / "x" / "one.pt", "codegeex-torch")
    sizes = str(write_sizes(tmp_path / "sizes", codegeex()))
    with pytest.raises(UserError, match="give --model NAME or --model FILE.yaml"):
        convert(tmp_path / "x" / "one.pt", tmp_path / "y", "mindgeex")
    convert(tmp_path / "x" / "one.pt", tmp_path / "y", "mindgeex", ConvertOptions(model=sizes))
    assert_same(read_ours(tmp_path / "y"), random_tensors(codegeex()))


def test_every_format_is_covered_here():
    assert {form for form, _ in [*CODEGEEX.values(), *NEOX.values()]} == set(FORMATS) - {"mindir"}
