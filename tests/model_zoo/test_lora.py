"""LoRA: begins as the base, trains its additions alone, and goes into the weights and out of them again."""

import dataclasses

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindgeex.cli.main import main
from mindgeex.common.errors import UserError
from mindgeex.model_zoo.checkpoints.adapter import (
    AdapterInfo,
    load_adapter,
    read_adapter,
    read_adapter_tensors,
    save_adapter,
)
from mindgeex.model_zoo.checkpoints.convert import convert
from mindgeex.model_zoo.checkpoints.initial import initial_config, load_weights
from mindgeex.model_zoo.checkpoints.native import (
    WEIGHTS_FILE,
    load_model,
    named_parameters,
    save_model,
    weights_sha256,
)
from mindgeex.model_zoo.config import ComputeConfig
from mindgeex.model_zoo.families import build_model
from mindgeex.model_zoo.lora import adapter_parameters, add_lora, merge, unmerge
from mindgeex.model_zoo.lora_config import LoraConfig
from tests.model_zoo.adapted import CONFIG, IDS, fill_additions, logits

LORA = LoraConfig(rank=4, alpha=8.0, targets=("query", "value", "down"))


def model_of(family: str, compute: ComputeConfig | None = None):
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(1)
    return build_model(CONFIG[family], compute).set_train(False)


def trained(model, steps: int = 3):
    """A few steps of Adam on the sum of squared logits; returns the losses."""
    weights = ms.ParameterTuple(model.trainable_params())
    optimizer = nn.Adam(weights, learning_rate=0.01)

    def loss(ids, seeds):
        return model(ids, seeds).astype(ms.float32).square().mean()

    step = ms.value_and_grad(loss, None, weights)

    @ms.jit
    def run(ids, seeds):
        value, gradients = step(ids, seeds)
        return ms.ops.depend(value, optimizer(gradients))

    seeds = ms.Tensor(np.zeros(len(IDS), np.int32))
    return [float(run(ms.Tensor(IDS), seeds).asnumpy()) for _ in range(steps)]


def difference(one, other) -> float:
    """Largest difference of two plain models' weights; comparing logits would compile two graphs."""
    first, second = named_parameters(one), named_parameters(other)
    assert first.keys() == second.keys()
    return max(np.abs(first[name].asnumpy() - second[name].asnumpy()).max() for name in first)


def values(parameters) -> dict[str, np.ndarray]:
    return {name: parameter.asnumpy().copy() for name, parameter in parameters.items()}


@pytest.mark.parametrize("family", ["codegeex", "gpt_neox"])
def test_a_model_with_lora_begins_as_its_base_trains_its_additions_alone_and_merges_into_equal_logits(family) -> None:
    plain = model_of(family)
    before, weights = logits(plain), values(named_parameters(plain))
    model = model_of(family)
    add_lora(model, LORA)
    assert np.array_equal(logits(model), before)

    names = set(adapter_parameters(model))
    assert {parameter.name for parameter in model.trainable_params()} == names
    blocks = ["blocks.0", "top_query" if family == "codegeex" else "blocks.1"]
    layers = ("attention.query", "attention.value", "feed_forward.down")
    assert names == {f"{block}.{layer}.lora_{ab}" for block in blocks for layer in layers for ab in "ab"}

    losses = trained(model)
    assert losses[-1] < losses[0]
    after = values(named_parameters(model))
    assert all(np.array_equal(after[name], array) for name, array in weights.items())
    assert all(after[name].any() for name in names)
    adapted = logits(model)
    assert np.abs(adapted - before).max() > 1e-3

    adapter = values(adapter_parameters(model))
    merge(model)
    assert set(named_parameters(model)) == set(weights)
    assert np.abs(logits(model) - adapted).max() <= 1e-5
    assert len(model.trainable_params()) == len(weights)

    unmerge(model, LORA, adapter)
    restored = values(named_parameters(model))
    assert max(np.abs(restored[name] - array).max() for name, array in weights.items()) <= 3e-8
    assert np.abs(logits(model) - before).max() <= 1e-5


def test_additions_train_in_half_precision_with_recomputation_and_dropout() -> None:
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(1)
    config = dataclasses.replace(CONFIG["codegeex"], dropout_rate=0.1)
    model = build_model(config, ComputeConfig(dtype="float16"))
    add_lora(model, LORA)
    for block in model.blocks:
        block.recompute()
    model.set_train(True)
    losses = trained(model, 4)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_a_depends_on_the_seed_and_the_layer_alone() -> None:
    first, second, other = (model_of("gpt_neox") for _ in range(3))
    add_lora(first, LORA, seed=3)
    ms.set_seed(99)
    add_lora(second, LORA, seed=3)
    add_lora(other, LORA, seed=4)
    a, b, c = (values(adapter_parameters(model)) for model in (first, second, other))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    firsts = [a[name] for name in a if name.endswith("query.lora_a")]
    assert not np.array_equal(firsts[0], firsts[1])
    assert not np.array_equal(firsts[0], c["blocks.0.attention.query.lora_a"])


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A base, an adapter that is more than zero, and the adapted model's logits."""
    folder = tmp_path_factory.mktemp("lora")
    base, place = folder / "base", folder / "adapter"
    model = model_of("codegeex")
    for path in (base, place):
        path.mkdir()
    (base / "tokenizer").mkdir()
    (base / "tokenizer" / "vocab.json").write_text("{}")
    save_model(base, model.config, named_parameters(model))
    add_lora(model, LORA)
    fill_additions(model)
    save_adapter(place, model.config, adapter_parameters(model), AdapterInfo("../base", weights_sha256(base), LORA))
    return base, place, logits(model)


def test_an_adapter_is_small_and_comes_back_as_it_was(adapter) -> None:
    base, place, adapted = adapter
    assert (place / "adapter.safetensors").stat().st_size < (base / WEIGHTS_FILE).stat().st_size / 5
    info = read_adapter(place)
    assert (info.base, info.lora) == ("../base", LORA)
    model = load_model(base)
    add_lora(model, info.lora)
    load_adapter(place, model)
    assert np.array_equal(logits(model), adapted)


def test_a_folder_with_an_adapter_loads_as_its_base_with_the_adapter_merged(adapter) -> None:
    _, place, adapted = adapter
    model = load_model(place)
    assert adapter_parameters(model) == {}
    assert np.abs(logits(model) - adapted).max() <= 1e-5
    started = model_of("codegeex")
    assert initial_config(place) == started.config
    load_weights(place, started)
    assert difference(started, model) == 0


def test_an_adapter_on_an_adapter_and_one_on_another_format_find_their_bases(adapter, tmp_path) -> None:
    base, place, _ = adapter
    convert(base, tmp_path / "base.ckpt", "mindspore")
    with pytest.raises(UserError, match="does not say the model's sizes"):
        initial_config(tmp_path / "base.ckpt")
    assert initial_config(tmp_path / "base.ckpt", str(base / "model.yaml")) == CONFIG["codegeex"]
    for name, other in (("first", place), ("second", tmp_path / "base.ckpt")):
        model = load_model(place if name == "first" else base)
        add_lora(model, LORA)
        (tmp_path / name).mkdir()
        info = AdapterInfo(str(other), weights_sha256(other), LORA)
        save_adapter(tmp_path / name, model.config, adapter_parameters(model), info)
        assert difference(load_model(tmp_path / name), load_model(place if name == "first" else base)) == 0


def test_the_command_line_merges_and_unmerges(adapter, tmp_path, capsys) -> None:
    base, place, _ = adapter
    merged, back = tmp_path / "merged", tmp_path / "back"
    assert main(["lora", "merge", str(place), "--out", str(merged)]) == 0
    assert difference(load_model(merged), load_model(place)) == 0
    assert (merged / "tokenizer" / "vocab.json").is_file()
    assert main(["lora", "unmerge", str(merged), "--adapter", str(place), "--out", str(back)]) == 0
    assert "the base's weights" in capsys.readouterr().out
    assert difference(load_model(back), load_model(base)) <= 3e-8
    assert main(["lora", "merge", str(place), "--out", str(merged)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_another_base_is_refused_by_its_sha_and_a_missing_one_by_its_path(adapter, tmp_path, capsys) -> None:
    base, place, _ = adapter
    other = tmp_path / "other"
    other.mkdir()
    model = load_model(base)
    parameters = named_parameters(model)
    parameters["final_norm.gamma"].set_data(parameters["final_norm.gamma"] + 1)
    save_model(other, model.config, parameters)
    assert main(["lora", "merge", str(place), "--out", str(tmp_path / "x"), "--base", str(other)]) == 2
    assert "are not those that the adapter" in capsys.readouterr().err
    assert main(["lora", "merge", str(place), "--out", str(tmp_path / "x"), "--base", str(tmp_path / "gone")]) == 2
    assert "gone: no such file or folder" in capsys.readouterr().err


def test_mistakes_are_named(adapter) -> None:
    base, place, _ = adapter
    with pytest.raises(UserError, match="did you mean 'query'"):
        LoraConfig(targets=("querry",))
    with pytest.raises(UserError, match="rank is 0"):
        LoraConfig(rank=0)
    with pytest.raises(UserError, match="'head', but a codegeex model has no linear layer of it"):
        add_lora(load_model(base), LoraConfig(targets=("head",)))
    with pytest.raises(UserError, match="has LoRA additions already"):
        model = load_model(base)
        add_lora(model, LORA)
        add_lora(model, LORA)
    with pytest.raises(UserError, match="adds to top_query"):
        unmerge(model_of("gpt_neox"), LORA, read_adapter_tensors(place))
    with pytest.raises(UserError, match="its family is 'codegeex', the model's is 'gpt_neox'"):
        load_weights(base, model_of("gpt_neox"))
