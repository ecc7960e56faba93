"""Which rank holds which part of a tensor: model parallel slices, cut again by the optimizer shard.

Rank r of a layout (dp, mp) stands at d = r // mp, m = r % mp. A tensor that is split over mp is cut into mp equal
slices along the dim that SPLIT_DIMS gives; slice m lies on every rank of that m. The others lie whole on every rank.
The ranks that hold the same slice, in ascending order, form groups of `optimizer_shard` neighbours, and each of a group
keeps one piece of the slice along dim 0 as stored: piece (place in the order) % optimizer_shard. So for a split tensor
the piece is d % optimizer_shard, for one that is not split r % optimizer_shard. Where dim 0 cannot be divided, the
slice stays whole. All this is MindSpore's own rule (CreateGroupForOptShard in its operator_info.cc, and
TensorLayout::GenerateOptShardSliceShape).

Others number the pieces of unsplit tensors along dp as well, d % optimizer_shard; where the copies contradict the first
rule and agree with this one, it is taken. MindSpore also keeps tensors whole that are smaller than a threshold, or were
marked `parallel_optimizer=False`, as CodeGeeX's layer norms and biases are: when ranks are read, the shape of what is
stored says which it is.

Covers: every (dp, mp, shard) whose sizes divide. Does not cover: pipeline stages, and networks whose operators order
the devices otherwise; copies that differ reveal the latter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mindgeex.common.errors import UserError

BLOCK_DIMS = {
    **{f"attention.{name}.{leaf}": 0 for name in ("query", "key", "value") for leaf in ("weight", "bias")},
    "attention.output.weight": 1,
    "feed_forward.up.weight": 0,
    "feed_forward.up.bias": 0,
    "feed_forward.down.weight": 1,
}
SPLIT_DIMS = {"word_embedding.weight": 0, "head.weight": 0, **BLOCK_DIMS}
"""Our name, without the block's -> the dim that is split over mp: columns going in, rows coming out."""
MEGATRON_SPLIT_DIMS = {**SPLIT_DIMS, "query_embedding.weight": 0}
"""CodeGeeX's Megatron partitions split the top query table as well (its convert_ckpt_parallel.py)."""

MAX_RANKS = 16_384
"""Ten times the cluster that CodeGeeX was trained on."""


@dataclass(frozen=True)
class Layout:
    """How many ranks there are, and along which axes tensors are cut."""

    dp: int = 1
    """Data parallel axis."""
    mp: int = 1
    """Model parallel axis, the inner one."""
    optimizer_shard: int = 1
    """Neighbours on the data parallel axis that share one slice among them."""

    def __post_init__(self) -> None:
        if self.ranks > MAX_RANKS:
            raise UserError(f"layout: {self.ranks} ranks: at most {MAX_RANKS} can be handled")
        for name in ("dp", "mp", "optimizer_shard"):
            if getattr(self, name) < 1:
                raise UserError(f"layout: {name}={getattr(self, name)}: it must be at least 1")
        if self.dp % self.optimizer_shard:
            raise UserError(
                f"layout: dp={self.dp} is not divisible by optimizer_shard={self.optimizer_shard}: "
                "give a shard that divides it"
            )

    @property
    def ranks(self) -> int:
        """Number of devices."""
        return self.dp * self.mp

    def __str__(self) -> str:
        return f"dp={self.dp},mp={self.mp},shard={self.optimizer_shard}"

    def holders(self, split: bool, m: int, along_dp: bool = False) -> list[int]:
        """The ranks with slice m of a tensor that is split over mp, or all ranks: ascending, or first along dp."""
        if split:
            return [d * self.mp + m for d in range(self.dp)]
        return [d * self.mp + m for m in range(self.mp) for d in range(self.dp)] if along_dp else [*range(self.ranks)]


def parse_layout(text: str, where: str) -> Layout:
    """`dp=4,mp=4,shard=2`; what is left out is 1.

    Raises:
        UserError: another key, no number, or sizes that do not fit.
    """
    sizes: dict[str, int] = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*(dp|mp|shard)\s*=\s*(\d{1,6})\s*", part)
        if not found or found[1] in sizes:
            raise UserError(f"{where} is {text!r}: write it as dp=4,mp=4,shard=2")
        sizes[found[1]] = int(found[2])
    return Layout(sizes.get("dp", 1), sizes.get("mp", 1), sizes.get("shard", 1))


def split_dim(name: str, dims: Mapping[str, int]) -> int | None:
    """The dim along which one of our tensors, or a moment of it, is split over mp, or None."""
    return dims.get(re.sub(r"^(adam_[mv]\.)?((blocks\.\d+|top_query)\.)?", "", name))


def slice_shape(name: str, shape: tuple[int, ...], mp: int, dims: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of one mp slice of our tensor `name`.

    Raises:
        UserError: mp does not divide the dim.
    """
    dim = split_dim(name, dims)
    if dim is None or mp == 1:
        return shape
    if shape[dim] % mp:
        raise UserError(
            f"{name} {list(shape)}: dim {dim} cannot be split over mp={mp}: choose an mp that divides {shape[dim]}"
        )
    return (*shape[:dim], shape[dim] // mp, *shape[dim + 1 :])
