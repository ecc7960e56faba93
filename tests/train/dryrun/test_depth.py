"""A deep step that follows from two shallow ones is the deep step, item by item and in its order."""

import dataclasses
import json

import pytest

from mindgeex.common.config import as_tree
from mindgeex.model_zoo.config import load_model_config
from mindgeex.train.config import load_recipe
from mindgeex.train.dryrun.compiled import Compiled, key
from mindgeex.train.dryrun.depth import Irregular, extend, name_blocks, repetitions, shallow_layers
from mindgeex.train.dryrun.graph import Product
from mindgeex.train.dryrun.memory import Layout
from mindgeex.train.dryrun.plan import Plan, compile_plan, make_plan
from mindgeex.train.dryrun.report import as_json, compilation_line
from mindgeex.train.parallel_config import ParallelConfig
from mindgeex.train.pipeline import stages
from tests.train.dryrun.conftest import needs_standins

SIZES = {
    "hidden_size": 64, "num_heads": 4, "feed_forward_size": 256, "vocab_size": 256, "seq_length": 32, "eod_id": 0,
}  # fmt: skip


def graph(blocks):
    """Runs that begin or end like what is beside them, and one whose items repeat inside a block."""
    return "emb" + "gwgm" * blocks + "gwgh" + "m" + "xxy" * blocks + "xxz" + "r" * blocks + "rn"


@pytest.mark.parametrize("layers", [0, 1, 2, 36])
def test_runs_between_other_items_get_longer_by_as_many_blocks(layers):
    assert "".join(extend(graph(2), graph(3), layers)) == graph(3 + layers)
    assert repetitions(graph(2), graph(3))[0] == (len("emb" + "gwgm" * 2 + "gwg"), 4)


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ("abab", "ababcb"),  # the third block is another
        ("aab", "aacb"),  # something new
        ("ab", "aab"),  # twice is no run yet
        (graph(2), graph(3) + "n"),
        (graph(3), graph(2)),  # what the larger lacks
        ("ab" * 2 + "c" * 4, "ab" * 3 + "c" * 9 + "d"),
    ],
)
def test_what_does_not_repeat_is_refused(small, large):
    with pytest.raises(Irregular, match="without repetitions"):
        extend(small, large, 1)


@pytest.mark.parametrize(("pp", "interleave", "layers"), [(1, 1, 40), (4, 1, 40), (4, 2, 45), (3, 1, 40)])
def test_both_compilations_have_stages_of_the_same_kind_and_every_stage_gets_a_layer_more(pp, interleave, layers):
    config = dataclasses.replace(load_model_config("gpt_neox_tiny"), num_layers=layers)
    parallel = ParallelConfig(npus=pp, pp=pp, interleave=interleave)
    small, large = shallow_layers(config, parallel)
    assert (layers - large) % (large - small) == 0

    def held(count):
        placed = stages(dataclasses.replace(config, num_layers=count), parallel)
        numbers = [at for path, at in placed.items() if path.startswith("blocks.")]
        return [numbers.count(stage) for stage in range(pp)]

    assert [b - a for a, b in zip(held(small), held(large), strict=True)] == [interleave] * pp
    more = (layers - large) // (large - small)
    assert held(layers) == [count + interleave * more for count in held(large)]
    assert shallow_layers(dataclasses.replace(config, num_layers=large), parallel) is None


def test_blocks_get_the_numbers_of_their_stage_and_a_wrong_count_is_refused():
    config = dataclasses.replace(load_model_config("gpt_neox_tiny"), num_layers=8)
    parallel = ParallelConfig(npus=2, pp=2, interleave=2)
    one = Layout("blocks.*.attention.query.weight", (8, 8), (8, 8), (1,), (-1, -1), 1)
    named = [item.name.split(".")[1] for item in name_blocks([one] * 4, config, parallel, 1)]
    assert named == ["2", "3", "6", "7"]
    for count in (3, 5):
        with pytest.raises(Irregular, match="than 4 times"):
            name_blocks([one] * count, config, parallel, 1)


def deep_recipe(folder, family, layers, *settings):
    sizes = folder / f"{family}.yaml"
    model = dataclasses.replace(load_model_config(f"{family}_tiny"), num_layers=layers, **SIZES)
    sizes.write_text(json.dumps(as_tree(model)))
    return load_recipe("codegeex_tiny", [f"model={sizes}", "compute.dtype=float16", *settings])


def test_all_layers_are_taken_where_two_shallow_models_do_not_show_what_more_are_and_the_report_says_so(tmp_path):
    recipe = deep_recipe(tmp_path, "gpt_neox", 5)
    model = load_model_config(recipe.model)
    parts = {"kind": "MatMul", "shapes": ((8, 8), (8, 8), (8, 8)), "transposes": False}
    product = [Product(**parts | {"kind": kind}) for kind in ("MatMul", "BatchMatMul")]
    for layers, order in ((3, [0, 0]), (4, [0, 0, 1]), (5, [0, 1, 0, 1, 0])):
        known = tmp_path / f"{key(recipe, dataclasses.replace(model, num_layers=layers), 0)}.json"
        known.write_text(
            json.dumps(Compiled([], [], [product[at] for at in order], "stand-ins", 1.0, 2.0, 3.0, 10**9).as_tree())
        )
    made, layers, why = compile_plan(recipe, model, 0, tmp_path, None, whole=False)
    assert ([item.kind for item in made.products].count("BatchMatMul"), layers) == (2, (5,))
    assert why == "3 and 4 layers do not show what more are: 2 items are not 3 without repetitions"
    line = compilation_line(Plan(recipe, model, 0, made, layers, why))
    assert line.startswith("compiled all 5 layers (3 and 4 layers do not show what more are")


@needs_standins
@pytest.mark.parametrize(
    ("family", "layers", "rank", "settings"),
    [
        ("codegeex", 7, 1535, [
            "compute.recompute=true", "batch.tokens_per_step=12288", "parallel.npus=1536", "parallel.mp=4",
            "parallel.optimizer_shard=16", "parallel.optimizer_level=level2",
        ]),
        ("gpt_neox", 10, 5, ["batch.tokens_per_step=128", "parallel.npus=8", "parallel.mp=2", "parallel.pp=2",
                            "batch.accumulate=2", "batch.micro_rows=1"]),
    ],
)  # fmt: skip
def test_a_deep_step_is_what_two_shallow_ones_show_it_to_be(tmp_path, family, layers, rank, settings):
    recipe = deep_recipe(tmp_path, family, layers, *settings)
    plan = make_plan(recipe, rank, cache=tmp_path / "plans")
    whole = make_plan(recipe, rank, cache=tmp_path / "plans", whole=True)
    assert (plan.why_whole, whole.why_whole, whole.layers) == ("", "as asked", (whole.model.num_layers,))
    for name in ("weights", "collectives", "products"):
        assert getattr(plan.compiled, name) == getattr(whole.compiled, name), name
    first, second = as_json(plan), as_json(whole)
    assert first.pop("compilation") != second.pop("compilation")
    assert first == second
    assert f"layers, extended to {whole.model.num_layers}," in compilation_line(plan)
    assert Compiled.from_tree(json.loads(json.dumps(plan.compiled.as_tree()))) == plan.compiled
