"""The search: only legal layouts, the fastest that fits first, and figures that follow from sizes."""

import dataclasses
import math

import pytest

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import load_model_config
from mindgeex.model_zoo.sharding import check_shard
from mindgeex.train.config import load_recipe
from mindgeex.train.dryrun import analytic
from mindgeex.train.dryrun.report import search_json, search_lines
from mindgeex.train.dryrun.search import best_shards, layouts, search
from mindgeex.train.parallel_config import ParallelConfig


@pytest.fixture(scope="module")
def ranking():
    return search(load_recipe("codegeex_13b_64"))


def test_the_first_fits_and_none_that_fits_is_faster(ranking):
    fitting = [one for one in ranking if one.fits]
    assert ranking[0] is fitting[0]
    assert ranking[0].times.step_s == min(one.times.step_s for one in fitting)
    assert len(fitting) < len(ranking)
    text = search_lines(ranking, ranking[:3], [])
    assert text[-1].startswith("the first: --set parallel.mp=")
    assert search_json(ranking[:1], [])[0]["step_s"] == ranking[0].times.step_s


def test_of_layouts_that_differ_in_their_shards_alone_the_fastest_is_shown(ranking):
    shown = best_shards(ranking)

    def without_shards(one):
        return [text for text in one.overrides if "optimizer_shard" not in text]

    assert shown[0] is ranking[0]
    assert len({str(without_shards(one)) for one in shown}) == len(shown) < len(ranking)
    for one in shown:
        assert one is next(other for other in ranking if without_shards(other) == without_shards(one))


def test_gradients_kept_in_slices_are_scattered_for_every_micro_batch():
    found = [
        analytic.predict(recipe.parallel, recipe.batch, recipe.compute, load_model_config(recipe.model))[1].optimizer_s
        for level in ("level1", "level2")
        for rows in (16, 4)
        for recipe in [
            load_recipe("codegeex_13b_64", [f"batch.micro_rows={rows}", f"parallel.optimizer_level={level}"])
        ]
    ]
    assert found[0] == found[1] == found[2] < found[3]


def test_shared_tokens_keep_an_eighth_of_every_blocks_input_and_add_the_heads_to_what_is_sent():
    recipe = load_recipe("codegeex_13b_1536")
    model, compute = load_model_config(recipe.model), dataclasses.replace(recipe.compute, recompute=False)
    shared = dataclasses.replace(recipe.parallel, sequence_parallel=True)

    def predicted(parallel, compute):
        return analytic.predict(parallel, recipe.batch, compute, model)

    hidden = 16 * model.seq_length * model.hidden_size
    saved = predicted(recipe.parallel, recipe.compute)[0] - predicted(shared, recipe.compute)[0]
    assert saved == hidden * 7 // 8 * (40 * 2 + (2 * 4 + 2 * 2))  # inputs of 40 blocks, and the norms of one at work
    once, twice = predicted(recipe.parallel, compute)[1], predicted(shared, compute)[1]
    head = 2 * hidden * 2 * 7 / 8 / (recipe.parallel.inside_gb_per_s * 1e9)  # gathered, and its derivative scattered
    assert twice.tensor_parallel_s - once.tensor_parallel_s == pytest.approx(head)


def test_what_the_search_names_is_a_recipe_that_loads_and_cuts_the_step_as_it_says(ranking):
    best = ranking[0]
    assert load_recipe("codegeex_13b_64", best.overrides) == best.config


def test_every_layout_shares_npus_rows_and_heads_without_rest():
    config = load_recipe("codefuse_13b_64")
    model = load_model_config(config.model)
    found = list(layouts(config, model))
    rows = config.batch.tokens_per_step // model.seq_length
    for one in found:
        parallel, batch = one.parallel, one.batch
        assert parallel.dp * parallel.mp * parallel.pp == 64
        assert batch.micro_rows * batch.accumulate * parallel.dp == rows
        assert batch.accumulate >= parallel.pp
        assert model.num_heads % parallel.mp == 0 == parallel.dp % parallel.optimizer_shard
    assert len({str(one) for one in found}) == len(found)
    assert {one.parallel.pp for one in found} >= {1, 2, 4}


@pytest.mark.parametrize("name", ["codegeex_13b", "codefuse_13b"])
@pytest.mark.parametrize(("mp", "pp", "shard"), [(8, 1, 16), (8, 4, 2), (1, 1, 1), (4, 2, 8)])
def test_slices_times_those_who_share_them_are_the_whole_model(name, mp, pp, shard):
    model = load_model_config(name)
    shapes, seen = model.shapes, set()
    for stage in range(pp):
        parallel = ParallelConfig(npus=384 * mp, mp=mp, pp=pp, optimizer_shard=shard)
        for layout in analytic.layouts(model, parallel, stage):
            seen.add(layout.name)
            pieces = math.prod(shapes[layout.name]) / layout.values
            assert pieces in (1, mp, shard, mp * shard), layout
            if "norm" not in layout.name and layout.name.endswith("query.weight"):
                assert pieces == mp * shard
    assert seen == set(shapes)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", ["codegeex_13b", "codefuse_13b"])
def test_products_are_three_times_the_forward_pass_and_a_fourth_less_the_sums_that_nobody_reads_if_computed_again(
    name, recompute
):
    model, rows = load_model_config(name), 2
    compute = load_recipe("codegeex_13b_64", [f"compute.recompute={str(recompute).lower()}"]).compute
    parallel = ParallelConfig(npus=64, mp=8, pp=4)
    total = sum(
        product.flops * product.count
        for stage in range(4)
        for product in analytic.products(model, compute, parallel, rows, stage)
    )
    tokens, tied = rows * model.seq_length, model.family == "codegeex"
    forward = model.forward_flops_per_token() * tokens
    head = 2 * model.vocab_size * model.hidden_size * tokens
    layer, down = (forward - head) // model.num_layers, 2 * model.hidden_size * model.feed_forward_size * tokens
    mixed = 0 if tied else 2 * model.hidden_size**2 * tokens  # not needed again by a branch in parallel
    again = (model.num_layers - tied) * (layer - down - mixed) if recompute else 0
    assert total * parallel.mp == 3 * forward + again


def test_a_shard_that_fits_no_tensor_is_refused_with_the_nearest_that_does():
    model = load_model_config("codegeex_13b")
    check_shard(model, 8, 192, 16)
    with pytest.raises(UserError, match=r"optimizer_shard=11 divides .* no tensor .*: set parallel.optimizer_shard="):
        check_shard(model, 8, 121, 11)


def test_tokens_that_no_layout_shares_are_refused_with_a_number_that_one_does():
    config = load_recipe("codegeex_13b_64", ["batch.tokens_per_step=2048", "batch.micro_rows=1"])
    with pytest.raises(UserError, match="set batch.tokens_per_step=131072"):
        search(config)
