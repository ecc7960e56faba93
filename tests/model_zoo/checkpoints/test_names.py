"""The tables of names: complete for every size, and as the originals have them."""

import numpy as np
import pytest

from mindgeex.model_zoo.checkpoints.formats import FORMATS, fused
from mindgeex.model_zoo.checkpoints.names import Row, moment_rows
from mindgeex.model_zoo.config import load_model_config
from tests.model_zoo.checkpoints.checkpoint import codegeex, gpt_neox


def variants():
    for form in FORMATS.values():
        for family in form.families:
            yield pytest.param(form, family, id=f"{form.name}-{family}")
    for name in ("codegeex-torch", "megatron"):
        yield pytest.param(fused(FORMATS[name]), "codegeex", id=f"{name}-fused")


@pytest.mark.parametrize(("form", "family"), list(variants()))
def test_every_tensor_has_exactly_one_place(form, family):
    config = load_model_config("codegeex_13b" if family == "codegeex" else "codefuse_13b")
    rows = form.rows(config)
    ours = [name for row in rows for name in row.ours]
    assert sorted(ours) == sorted(config.shapes)
    assert len({row.stored for row in rows}) == len(rows)
    for row in rows:
        assert len({config.shapes[name] for name in row.ours}) == 1


def stored(form, config):
    return {row.stored: row for row in form.rows(config)}


def test_the_original_mindspore_names_and_what_lies_transposed():
    rows = stored(FORMATS["codegeex-mindspore"], codegeex())
    assert rows["backbone.embedding.word_embedding.embedding_table"].ours == ("word_embedding.weight",)
    assert rows["backbone.embedding.position_embedding.embedding_table"].ours == ("position_embedding.weight",)
    assert rows["backbone.top_query_embedding.embedding_table"].ours == ("query_embedding.weight",)
    assert rows["backbone.layernorm.gamma"].ours == ("final_norm.gamma",)
    assert rows["backbone.blocks.1.layernorm2.beta"].ours == ("blocks.1.feed_forward_norm.beta",)
    assert rows["backbone.blocks.0.attention.dense2.weight"].ours == ("blocks.0.attention.key.weight",)
    assert rows["backbone.top_query_layer.output.mapping.bias"].ours == ("top_query.feed_forward.up.bias",)
    transposed = {name for name, row in rows.items() if row.form == "transposed"}
    leaves = ("attention.projection.weight", "output.mapping.weight", "output.projection.weight")
    layers = ("blocks.0", "blocks.1", "top_query_layer")
    assert transposed == {f"backbone.{layer}.{leaf}" for layer in layers for leaf in leaves}


def test_the_original_torch_names():
    rows = stored(FORMATS["codegeex-torch"], codegeex())
    assert len(rows) == len(codegeex().shapes)
    assert rows["module/language_model/topQueryEmbedding/top_query_embeddings/weight"].form == "same"
    place = "module/language_model/transformer/"
    assert rows[place + "topQueryLayer.mlp.dense_4h_to_h.weight"].ours == ("top_query.feed_forward.down.weight",)
    assert rows[place + "layers.1.post_attention_layernorm.bias"].ours == ("blocks.1.feed_forward_norm.beta",)
    assert rows[place + "final_layernorm.weight"].ours == ("final_norm.gamma",)


def test_the_fused_names_of_the_original():
    rows = stored(fused(FORMATS["codegeex-torch"]), codegeex())
    place = "module/language_model/transformer/"
    joined = rows[place + "layers.0.attention.query_key_value.weight"]
    assert joined.ours == tuple(f"blocks.0.attention.{name}.weight" for name in ("query", "key", "value"))
    assert joined.form == "joined"
    assert rows[place + "topQueryLayer.attention.key_value.bias"].ours == (
        "top_query.attention.key.bias",
        "top_query.attention.value.bias",
    )
    assert rows[place + "topQueryLayer.attention.query.weight"].ours == ("top_query.attention.query.weight",)


def test_hugging_face_interleaves_queries_keys_and_values_head_by_head():
    config = gpt_neox()
    row = stored(FORMATS["hf"], config)["gpt_neox.layers.1.attention.query_key_value.weight"]
    heads, width, hidden = config.num_heads, config.head_size, config.hidden_size
    theirs = np.arange(heads * 3 * width * hidden).reshape(heads * 3 * width, hidden)
    by_head = theirs.reshape(heads, 3, width, hidden)
    query, key, value = row.unpack(theirs, width)
    for head in range(heads):
        for i in range(width):
            assert (query[head * width + i] == by_head[head, 0, i]).all()
            assert (key[head * width + i] == by_head[head, 1, i]).all()
            assert (value[head * width + i] == by_head[head, 2, i]).all()
    assert (row.pack([query, key, value], width) == theirs).all()


@pytest.mark.parametrize("form", ["same", "transposed", "joined", "interleaved"])
def test_unpacking_undoes_packing(form):
    ours = ("a",) if form in ("same", "transposed") else ("a", "b", "c")
    row = Row(ours, "x", form)
    rng = np.random.default_rng(0)
    for shape in ((8, 6), (8,)):
        if form == "transposed" and len(shape) == 1:
            continue
        arrays = [rng.random(shape) for _ in ours]
        packed = row.pack(arrays, head_size=2)
        assert packed.shape == row.packed_shape(shape)
        for before, after in zip(arrays, row.unpack(packed, head_size=2), strict=True):
            assert np.array_equal(before, after)


def test_moments_lie_as_their_parameter():
    row = Row(("blocks.0.feed_forward.up.weight",), "backbone.blocks.0.output.mapping.weight", "transposed")
    first, second = moment_rows([row])
    assert first == Row(
        ("adam_m.blocks.0.feed_forward.up.weight",), "adam_m.backbone.blocks.0.output.mapping.weight", "transposed"
    )
    assert second.stored.startswith("adam_v.backbone.")
