"""Sizes: what ships, what is counted, what is refused."""

import pytest
import yaml

from mindgeex.common.config import as_tree
from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import config_names, load_model_config


@pytest.mark.parametrize("name", config_names())
def test_every_shipped_model_loads(name):
    assert load_model_config(name).parameters > 0


def test_codegeex_13b_has_the_published_parameters():
    assert load_model_config("codegeex_13b").parameters == 12_873_943_040


def test_codegeex_13b_is_645_tensors_of_that_size_without_allocating_them():
    from mindspore.nn.utils import no_init_parameters

    from mindgeex.model_zoo.families import build_model

    with no_init_parameters():
        parameters = build_model(load_model_config("codegeex_13b")).trainable_params()
    assert len(parameters) == 645
    assert sum(parameter.size for parameter in parameters) == 12_873_943_040
    assert len({parameter.name for parameter in parameters}) == 645


@pytest.mark.parametrize("name", config_names())
def test_names_and_shapes_are_those_of_the_network_without_allocating_it(name):
    from mindspore.nn.utils import no_init_parameters

    from mindgeex.model_zoo.families import build_model

    config = load_model_config(name)
    with no_init_parameters():
        built = {parameter.name: parameter.shape for parameter in build_model(config).trainable_params()}
    assert built == config.shapes
    assert list(built) == list(config.shapes)


def test_codefuse_13b_has_the_published_parameters():
    config = load_model_config("codefuse_13b")
    assert round(config.parameters / 1e9, 2) == 13.62
    assert config.tensor_groups()[1].count == 40


def test_flops_a_token_are_two_a_weight_and_the_scores():
    config = load_model_config("codegeex_tiny")  # 5 layers, hidden 128, feed-forward 512, window 256, vocabulary 3072
    weights = 5 * (4 * 128 * 128 + 2 * 128 * 512) + 3072 * 128
    assert config.forward_flops_per_token() == 2 * weights + 5 * 4 * 256 * 128
    assert config.forward_flops_per_token(context=1) == 2 * weights + 5 * 4 * 128
    assert load_model_config("gpt_neox_tiny").forward_flops_per_token() == config.forward_flops_per_token()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "hidden_size=128 is not divisible by num_heads=3: set num_heads="),
        ({"hiden_size": 1}, "unknown key 'hiden_size'.*did you mean 'hidden_size'"),
        ({"family": "codegex"}, "did you mean 'codegeex'"),
        ({"eod_id": 99999}, "eod_id=99999 is outside the vocabulary"),
        ({"num_layers": 1}, "num_layers is 1"),
        ({"activation": "glu"}, "activation is 'glu'.*did you mean 'gelu'"),
        ({"init_std": 0}, "init_std is 0"),
        ({"family": "gpt_neox", "rotary_pct": 1.5}, "rotary_pct=1.5 rotates 48 of the 32"),
        ({"dropout_rate": 1.0}, "dropout_rate is 1.0"),
        ({"seq_length": "long"}, "'seq_length' is 'long'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_the_remedy(tmp_path, changes, message):
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump({**as_tree(load_model_config("codegeex_tiny")), **changes}))
    with pytest.raises(UserError, match=message):
        load_model_config(str(path))


def test_an_unknown_model_gets_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'codegeex_13b'"):
        load_model_config("codegeex_13")
