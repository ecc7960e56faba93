"""Our checkpoint format: what is written is read back, and what does not fit is named."""

import mindspore as ms
import numpy as np
import pytest

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.containers.safetensors_file import ShardedSafetensorsWriter
from mindgeex.model_zoo.checkpoints.convert import ConvertOptions, convert
from mindgeex.model_zoo.checkpoints.native import (
    load_model,
    load_tensors,
    named_parameters,
    read_tensors,
    save_model,
    save_tensors,
    weights_sha256,
)
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.model_zoo.families import build_model
from tests.model_zoo.checkpoints.arrays import specs


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


TYPES = (ms.float32, ms.float16, ms.bfloat16, ms.int32)


def parameters(value, **dtypes):
    return {name: ms.Parameter(ms.Tensor(np.full((2, 3), value), dtype)) for name, dtype in dtypes.items()}


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_parameters_of_every_type_come_back(tmp_path, dtype):
    save_tensors(tmp_path / "a.safetensors", parameters(3, a=dtype, b=ms.float32))
    loaded = parameters(0, a=dtype, b=ms.float32)
    load_tensors(tmp_path / "a.safetensors", loaded)
    assert loaded["a"].dtype == dtype and loaded["a"].asnumpy().astype(float).tolist() == [[3] * 3] * 2
    assert read_tensors(tmp_path / "a.safetensors")["b"].tolist() == [[3] * 3] * 2


def test_weights_of_another_float_type_are_cast_and_other_types_are_refused(tmp_path):
    save_tensors(tmp_path / "a.safetensors", parameters(1.5, a=ms.float16))
    loaded = parameters(0, a=ms.float32)
    load_tensors(tmp_path / "a.safetensors", loaded)
    assert loaded["a"].dtype == ms.float32 and loaded["a"].asnumpy().tolist() == [[1.5] * 3] * 2
    with pytest.raises(UserError, match="tensor a has type float16, the model's is int32: use the model"):
        load_tensors(tmp_path / "a.safetensors", parameters(0, a=ms.int32))


def test_shards_with_an_index_are_loaded_as_one_file_is(saved):
    folder, model = saved
    tensors = read_tensors(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    with ShardedSafetensorsWriter(folder, specs(tensors), 1000) as writer:
        for name, tensor in tensors.items():
            writer.write(name, tensor)
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    for before, after in zip(model.get_parameters(), load_model(folder).get_parameters(), strict=True):
        assert np.array_equal(before.asnumpy(), after.asnumpy())


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


def test_a_sharded_model_loads_and_has_a_digest_of_its_own(saved, tmp_path):
    folder, model = saved
    sharded = tmp_path / "sharded"
    convert(folder, sharded, "mindgeex", ConvertOptions(shard_bytes=4000))
    assert len(list(sharded.glob("model-*.safetensors"))) > 1
    for before, after in zip(model.get_parameters(), load_model(sharded).get_parameters(), strict=True):
        assert np.array_equal(before.asnumpy(), after.asnumpy())
    digests = {weights_sha256(folder), weights_sha256(sharded)}
    assert len(digests) == 2
    shard = sorted(sharded.glob("model-*.safetensors"))[-1]
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert weights_sha256(sharded) not in digests
