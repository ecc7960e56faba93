"""Our checkpoint format: what is written is read back, and what does not fit is named."""

import mindspore as ms
import numpy as np
import pytest

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.native import load_model, load_tensors, named_parameters, read_tensors, save_model
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.families import build_model


def small(**changes):
    sizes = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "vocab_size": 32, "seq_length": 8}
    return ModelConfig(family="codegeex", feed_forward_size=64, eod_id=0, **{**sizes, **changes})


@pytest.fixture
def saved(tmp_path):
    model = build_model(small())
    save_model(tmp_path, model.config, named_parameters(model))
    return tmp_path, model


def test_a_model_comes_back_bit_for_bit(saved):
    folder, model = saved
    loaded = load_model(folder)
    assert loaded.config == model.config
    for before, after in zip(model.get_parameters(), loaded.get_parameters(), strict=True):
        assert before.name == after.name
        assert np.array_equal(before.asnumpy(), after.asnumpy())
    ids = ms.Tensor(np.arange(8, dtype=np.int32)[None])
    seed = ms.Tensor(0, ms.int32)
    assert np.array_equal(model.set_train(False)(ids, seed).asnumpy(), loaded(ids, seed).asnumpy())


def test_weights_of_another_shape_are_refused_with_both_shapes_and_change_nothing(saved):
    folder, _ = saved
    other = build_model(small(hidden_size=32))
    before = other.word_embedding.weight.asnumpy().copy()
    with pytest.raises(UserError, match=r"word_embedding.weight has shape \[32, 16\], the model's is \[32, 32\]"):
        load_tensors(folder / "model.safetensors", named_parameters(other))
    assert np.array_equal(other.word_embedding.weight.asnumpy(), before)


def test_weights_of_another_depth_are_refused_by_name(saved):
    folder, _ = saved
    with pytest.raises(UserError, match=r"16 missing \(blocks.1.attention"):
        load_tensors(folder / "model.safetensors", named_parameters(build_model(small(num_layers=3))))


def test_a_truncated_file_is_named(saved):
    path = saved[0] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model.safetensors: truncated or damaged"):
        read_tensors(path)


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match="not a checkpoint: it has no model.yaml"):
        load_model(tmp_path)
