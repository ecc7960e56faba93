"""What operators beside the products read and write in compiled blocks is what the formula of their time counts."""

import dataclasses
import json
import math
import re
from collections import Counter

from mindgeex.common.config import as_tree
from mindgeex.model_zoo.config import load_model_config
from mindgeex.train.config import load_recipe
from mindgeex.train.dryrun.estimate import accesses, layer_bytes
from mindgeex.train.dryrun.graph import COLLECTIVES, PRODUCTS, TENSOR, find_graph
from mindgeex.train.parallel_config import ParallelConfig
from tests.train.dryrun.conftest import needs_standins
from tests.train.dryrun.ranks import print_ranks

OPERATOR = re.compile(r"  %\d+\([^)]*\) = (?:PrimFunc_)?(\w+)\(")
NOTHING_MOVES = (
    "Cast",
    "Depend",
    "Load",
    "MakeTuple",
    "Partial",
    "Reshape",
    "TupleGetItem",
    "UpdateState",
    *COLLECTIVES,
    *PRODUCTS,
)
SIZES = {
    "hidden_size": 64, "num_heads": 4, "feed_forward_size": 160, "vocab_size": 256, "seq_length": 24, "eod_id": 0,
}  # fmt: skip
ROWS, MP = 4, 2
TOKENS = ROWS * SIZES["seq_length"]
KINDS = {
    TOKENS * 64: "whole", TOKENS * 64 // MP: "heads", TOKENS * 160 // MP: "inner", TOKENS * 24 * 4 // MP: "scores",
    TOKENS * 64 // MP // 2: "half heads",
}  # fmt: skip
"""Numbers that no other tensor has."""


def counted(text: str) -> Counter:
    """Backward or not, kind -> values of this kind that are read or written, in whole tensors."""
    lines, counts = text.splitlines(), Counter()
    for at, line in enumerate(lines):
        if (found := OPERATOR.match(line)) and found[1] not in NOTHING_MOVES:
            backward = any("scope: (Gradients/" in later for later in lines[at + 1 : at + 4])
            shapes = [[int(n) for n in shape.replace(",", " ").split()] for kind, shape in TENSOR.findall(lines[at + 1])
                      if kind.startswith("Float")]  # fmt: skip
            tuples = re.findall(r"TupleShape\(((?:\([\d, ]*\),? ?)+)\)", lines[at + 1])
            parts = [part for shape in tuples for part in re.findall(r"\(([\d, ]*)\)", shape)]
            shapes += [[int(n) for n in part.replace(",", " ").split()] for part in parts]
            for shape in shapes:
                if kind := KINDS.get(math.prod(shape)):
                    counts[backward, kind] += 1
    return counts


@needs_standins
def test_a_layer_more_reads_and_writes_as_many_values_as_the_formula_says(tmp_path):
    recipes = {}
    for family, dropout in (("codegeex", 0.1), ("gpt_neox", 0.0)):
        for layers in (2, 3):
            name = f"{family}-{layers}"
            sizes = tmp_path / f"{name}.yaml"
            config = dataclasses.replace(load_model_config(f"{family}_tiny"), **SIZES, num_layers=layers)
            config = dataclasses.replace(config, dropout_rate=dropout)
            sizes.write_text(json.dumps(as_tree(config)))
            settings = [f"model={sizes}", "compute.dtype=float16", "compute.softmax_dtype=float16",
                        f"batch.tokens_per_step={TOKENS}", "parallel.npus=2", f"parallel.mp={MP}"]  # fmt: skip
            recipes[name] = (load_recipe("codegeex_tiny", settings), 0)
    print_ranks(tmp_path, recipes)
    for family in ("codegeex", "gpt_neox"):
        small, large = (counted(find_graph(tmp_path / f"{family}-{n}").read_text(encoding="utf-8")) for n in (2, 3))
        recipe = recipes[f"{family}-3"][0]
        model = load_model_config(recipe.model)
        found = []
        for backward in (False, True):
            more = {kind: large[backward, kind] - small[backward, kind] for kind in KINDS.values()}
            found.append((more["whole"], more["heads"] + more["half heads"] / 2, more["inner"], more["scores"]))
        assert found == accesses(model, recipe.compute), family


def test_values_between_products_cost_an_npu_the_same_whatever_mp_is_unless_their_tokens_are_shared():
    model, compute = load_model_config("codegeex_13b"), load_recipe("codegeex_13b_1536").compute

    def measured(mp, rows, shared=False):
        parallel = ParallelConfig(npus=8, mp=mp, sequence_parallel=shared)
        return layer_bytes(model, compute, parallel, rows)

    one, eight = measured(1, 2), measured(8, 16)
    (whole, *_), (whole_back, *_) = accesses(model, compute)
    copies = 7 * 2 * (2 * model.seq_length * model.hidden_size) * (2 * whole + whole_back)
    assert eight - one == copies
    assert measured(8, 16, shared=True) == one
