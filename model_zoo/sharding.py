"""Which piece of every operator's inputs an NPU holds: one table a family, over the mesh (dp, mp).

dp cuts the rows of a batch. mp cuts a linear layer's outputs (column-parallel: queries, keys, values, the first half of
the feed-forward) or its inputs (row-parallel: what comes after them), so that a block needs one sum over mp after its
attention and one after its feed-forward (Shoeybi et al. 2019, Megatron-LM, section 3). The word embedding and the head
are cut by the vocabulary. The model files know nothing of this: a path names a cell and its operator.

Between the products that are cut, every NPU of an mp group computes the same norms, dropouts and sums; or, if asked
for, each those of its own tokens: the sum over mp then scatters, and the next product gathers (Korthikanti et al. 2022,
Reducing Activation Recomputation in Large Transformer Models, section 4.2.2).

Covers: both families, matmul and flash attention, with and without dropout. Does not cover: experts.
"""

# Shapes: B batch, S sequence, H hidden, A heads, D head width, F feed-forward width, V vocabulary, N = B*S
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import ModelConfig

Cuts = tuple[tuple[int, ...], ...]
"""For every input of an operator, into how many pieces each of its axes is cut."""
RESULT = ".result"
"""Behind an operator's path: how its result is cut, where that does not follow from its inputs."""


def token_cuts(config: ModelConfig, dp: int, mp: int, micro_rows: int) -> tuple[int, int]:
    """How [B, S] is cut where the NPUs of an mp group share the tokens of their rows, one after the other.

    Whole rows as far as there are any, then the sequence: so the pieces are those of the flat [N, H], too.

    Raises:
        UserError: a piece would begin in one row and end in another; with the nearest number of rows that has none.
    """
    if not shares_tokens(config, mp, micro_rows):
        legal = [rows for rows in range(1, micro_rows + mp) if shares_tokens(config, mp, rows)]
        near = min(legal, key=lambda rows: (abs(rows - micro_rows), rows))
        raise UserError(
            f"parallel.sequence_parallel needs a batch.micro_rows that divides parallel.mp={mp} or is a multiple of "
            f"it, not {micro_rows}: set batch.micro_rows={near}"
        )
    whole_rows = min(mp, micro_rows)
    return dp * whole_rows, mp // whole_rows


def shares_tokens(config: ModelConfig, mp: int, micro_rows: int) -> bool:
    """Whether every NPU of an mp group can have as many tokens, as whole rows or as equal parts of one."""
    return micro_rows % mp == 0 or (mp % micro_rows == 0 and config.seq_length % (mp // micro_rows) == 0)


def layer_norm(rows: tuple[int, ...]) -> dict[str, Cuts]:
    """The axis that is normalised stays whole."""
    return {"norm": (rows, (1,), (1,))}


def column_linear(dp: int, mp: int) -> dict[str, Cuts]:
    """Outputs are cut."""
    return {"matmul": ((dp, 1), (mp, 1)), "add": ((dp, mp), (mp,))}


def row_linear(dp: int, mp: int, tokens: int) -> dict[str, Cuts]:
    """Inputs are cut, and the products are summed over mp; `tokens` are the pieces of the sums."""
    plan: dict[str, Cuts] = {"matmul": ((dp, mp), (1, mp)), "add": ((tokens, 1), (1,))}
    return plan if tokens == dp else plan | {f"matmul{RESULT}": ((tokens, 1),)}


def dropout(cuts: tuple[int, ...]) -> dict[str, Cuts]:
    """Of values that are cut like this."""
    return {
        "drop": (cuts, cuts),
        "scale": (cuts,),
        **under("keeps", hashed_bits(cuts)),
    }


def hashed_bits(cuts: tuple[int, ...]) -> dict[str, Cuts]:
    """The bits that decide about values that are cut like this: every NPU hashes the indices of its own."""
    axes = len(cuts)

    def only(*kept: int) -> tuple[int, ...]:
        return tuple(cut if axis in kept else 1 for axis, cut in enumerate(cuts))

    adds = {
        name: (only(*range(axis)), only(axis)) if axis < axes else (cuts, cuts)  # the latter is not used
        for axis, name in ((1, "first"), (2, "second"), (3, "third"))
    }
    return {
        "spread": (only(0),),
        "season": (only(0), ()),
        **adds,
        "shift": (cuts, ()),
        "xor": (cuts, cuts),
        "mix": (cuts,),
        "reaches": (cuts, ()),
    }


def document_mask(dp: int) -> dict[str, Cuts]:
    """Made anew by every NPU from its rows' ids."""
    rows, scores = (dp, 1), (dp, 1, 1)
    return {
        "equal": (rows, ()),
        "place": (rows, (1, 1)),
        "latest": (rows,),
        "cut": (rows,),
        "shift": (rows, rows),
        "since": ((1, 1), rows),
        "before": ((1, 1, 1), scores),
        "either": (scores, (1, 1, 1)),
        "scale": ((dp, 1, 1, 1),),
    }


def attention(dp: int, mp: int, tokens: int, rotary: bool) -> dict[str, Cuts]:
    """Heads are cut over mp."""
    heads, placed, everyone = (dp, mp, 1, 1), (dp, 1, mp, 1), (dp, 1, 1, 1)
    plan = {
        **under("query", column_linear(dp, mp)),
        **under("key", column_linear(dp, mp)),
        **under("value", column_linear(dp, mp)),
        "split": (placed,),
        **under("core", {
            "scale": (heads,),
            "scores": (heads, heads),
            "hide": (heads, everyone),
            "softmax": (heads,),
            "mix": (heads, heads),
            **under("dropout", dropout(heads)),
        }),
        "merge": (heads,),
        **under("output", row_linear(dp, mp, tokens)),
    }  # fmt: skip
    if rotary:
        plan |= {
            "turn": (everyone, (1, 1, 1, 1)),
            "cos": (everyone,),
            "sin": (everyone,),
            "cut": (placed,),
            "times": (placed, everyone),
            "less": (placed, placed),
            "plus": (placed, placed),
            "join": (placed, placed),
        }
    return plan


def flash_core(dp: int, mp: int) -> dict[str, Cuts]:
    """In place of the operators of `core`: queries, keys, values, then the bits kept if any, and the mask."""
    heads, everyone = (dp, mp, 1, 1), (dp, 1, 1, 1)
    bits = {f"keeps.{bit}.{name}": cuts for bit in range(8) for name, cuts in hashed_bits(heads).items()}
    return {
        "plain": (heads, heads, heads, everyone),
        "dropping": (heads, heads, heads, heads, everyone),
        **bits,
        "place": (heads,),
        "pack": (heads, heads),
    }


def activation(name: str, cuts: tuple[int, ...]) -> dict[str, Cuts]:
    """The activation of the feed-forward layer, whose values are cut over mp."""
    if name == "fast_gelu":
        return {"scale": (cuts,), "sigmoid": (cuts,), "gate": (cuts, cuts)}
    if name == "gelu":
        return {"scale": (cuts,), "erf": (cuts,), "shift": (cuts, ()), "gate": (cuts, cuts)}
    return {"gelu": (cuts,)}


def block(config: ModelConfig, dp: int, mp: int, flash: bool, rows: tuple[int, int, int]) -> dict[str, Cuts]:
    """Operators of one block; `rows` is how what flows between blocks is cut."""
    tokens = rows[0] * rows[1]
    plan = {
        **under("attention_norm", layer_norm(rows)),
        **under("attention", attention(dp, mp, tokens, config.family == "gpt_neox")),
        **under("attention_dropout", dropout(rows)),
        "attention_residual": (rows, rows),
        **under("feed_forward_norm", layer_norm(rows)),
        **under("feed_forward.up", column_linear(dp, mp)),
        **under("feed_forward.activation", activation(config.activation, (dp, 1, mp))),
        **under("feed_forward.down", row_linear(dp, mp, tokens)),
        **under("feed_forward_dropout", dropout(rows)),
        "feed_forward_residual": (rows, rows),
    }
    if flash:
        plan = {path: cuts for path, cuts in plan.items() if not path.startswith("attention.core.")}
        plan |= under("attention.core", flash_core(dp, mp))
    return plan


def sharding_plan(
    config: ModelConfig, dp: int, mp: int, flash: bool = False, tokens: tuple[int, int] | None = None
) -> dict[str, Cuts]:
    """Operator path -> how its inputs are cut; `blocks.*` stands for every block.

    Args:
        config: sizes.
        dp: groups of NPUs with different rows.
        mp: NPUs of a group.
        flash: attention is the fused kernel.
        tokens: how [B, S] is cut between the products (`token_cuts`); over dp alone by default.

    Raises:
        UserError: mp does not divide the heads, the feed-forward width or the vocabulary.
    """
    check_divisible(config, mp)
    rows = (*(tokens or (dp, 1)), 1)
    one = block(config, dp, mp, flash, rows)
    plan = {
        **under("document_mask", document_mask(dp)),
        "word_embedding.gather": ((mp, 1), (dp, 1)),
        **under("embedding_dropout", dropout(rows)),
        **under("blocks.*", one),
        **under("final_norm", layer_norm(rows)),
        "head.matmul": ((dp, 1), (mp, 1)),
    }
    if config.family == "codegeex":
        plan |= {
            "position_embedding.gather": ((1, 1), (dp, 1)),
            "embed": (rows, rows),
            "query_embedding.gather": ((1, 1), (dp, 1)),
            **under("top_query", one),
        }
    else:
        plan |= {"head.add": ((dp, mp), (mp,))}
    return plan


def check_divisible(config: ModelConfig, mp: int) -> None:
    """Refuses an mp that cuts a head, a row of the feed-forward layer or of the vocabulary in two.

    Raises:
        UserError: with the nearest mp that does not.
    """
    sizes = {name: getattr(config, name) for name in ("num_heads", "feed_forward_size", "vocab_size")}
    if all(size % mp == 0 for size in sizes.values()):
        return
    nearest = min(legal_mp(config), key=lambda n: (abs(n - mp), n))
    name, size = next((name, size) for name, size in sizes.items() if size % mp)
    raise UserError(f"parallel.mp={mp} does not divide {name}={size}: set parallel.mp={nearest}")


def legal_mp(config: ModelConfig) -> list[int]:
    """Every mp that cuts nothing in two, ascending."""
    sizes = (config.num_heads, config.feed_forward_size, config.vocab_size)
    return [n for n in range(1, config.num_heads + 1) if all(size % n == 0 for size in sizes)]


def check_shard(config: ModelConfig, mp: int, dp: int, shard: int) -> None:
    """Refuses a number of optimizer shards that divides the first axis of no tensor that mp left.

    Raises:
        UserError: with the nearest number that divides one.
    """
    plan = sharding_plan(config, dp, mp)
    axes = set()
    for name, shape in config.shapes.items():
        cuts = cuts_of(name, plan)
        axes.add(shape[0] // (cuts[0] if cuts else 1))
    legal = [n for n in range(1, dp + 1) if dp % n == 0 and any(axis % n == 0 for axis in axes)]
    if shard not in legal:
        nearest = min(legal, key=lambda n: (abs(n - shard), n))
        raise UserError(
            f"parallel.optimizer_shard={shard} divides the first axis of no tensor (after mp={mp}: "
            f"{', '.join(map(str, sorted(axes)))}): set parallel.optimizer_shard={nearest}"
        )


def under(prefix: str, plan: Mapping[str, Cuts]) -> dict[str, Cuts]:
    """The same paths, seen from further out."""
    return {f"{prefix}.{path}": cuts for path, cuts in plan.items()}


def operators(cell: Any) -> Iterator[tuple[str, Any]]:
    """Path and primitive of every operator that a cell or one below it holds as an attribute."""
    from mindspore import ops

    for path, inner in cell.cells_and_names():
        for name, value in {**vars(inner), **vars(inner).get("_primitives", {})}.items():
            if isinstance(value, ops.Primitive) and "fused" not in name and "folded" not in name:  # of a CPU only
                yield (f"{path}.{name}" if path else name), value


def shard(model: Any, plan: Mapping[str, Cuts]) -> None:
    """Tells every operator of a model how its inputs, and its result, are cut.

    Raises:
        KeyError: a path of the plan is not in the model, or an operator of the model is not in the plan.
    """
    found = dict(operators(model))
    named = {path: re.sub(r"^blocks\.\d+\.", "blocks.*.", path) for path in found}
    if missing := {path.removesuffix(RESULT) for path in plan} - set(named.values()):
        raise KeyError(f"the model has no operator {', '.join(sorted(missing))}")
    if forgotten := {path for path in named.values() if path not in plan}:
        raise KeyError(f"the plan does not cut {', '.join(sorted(forgotten))}")
    for path, primitive in found.items():
        primitive.shard(plan[named[path]], plan.get(named[path] + RESULT))


def cuts_of(parameter: str, plan: Mapping[str, Cuts]) -> tuple[int, ...]:
    """How a plan cuts a parameter, from the operator that reads it."""
    cell, _, leaf = re.sub(r"^blocks\.\d+\.", "blocks.*.", parameter).rpartition(".")
    if leaf in ("gamma", "beta"):
        return (1,)
    if f"{cell}.gather" in plan:
        return plan[f"{cell}.gather"][0]
    return plan[f"{cell}.{'add' if leaf == 'bias' else 'matmul'}"][1]
