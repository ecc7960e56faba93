"""Which ranks work together for a given split of a training run, and whether their traffic stays inside a server.

    rank = (stage * dp + replica) * mp + part        # part changes fastest: model parallel groups are neighbours

Covers: mp, dp, pp and the shards of the optimizer, `optimizer_shard` neighbours in a dp group each. Does not
cover: expert, context and sequence parallelism with groups of their own.
Source: MindSpore numbers the devices of a stage row by row over (dp, mp), and stages are blocks of neighbouring ranks
(MindSpore documentation, "operator-level parallelism", "pipeline parallelism", "optimizer parallelism").
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mindgeex.common.errors import UserError


@dataclass(frozen=True)
class Split:
    """How a run's ranks share the work."""

    world: int
    """Ranks."""
    mp: int = 1
    """Parts of each matrix."""
    pp: int = 1
    """Stages of layers."""
    optimizer_shard: int = 1
    """Ranks of a dp group that share one copy of the optimizer's state."""

    def __post_init__(self) -> None:
        for name in ("mp", "pp", "optimizer_shard"):
            if getattr(self, name) < 1:
                raise UserError(f"{_option(name)} {getattr(self, name)}: it must be at least 1")
        if self.world % self.pp:
            raise UserError(f"--pp {self.pp} does not divide {self.world:,} NPUs: {_nearest(self.pp, self.world)}")
        if (self.world // self.pp) % self.mp:
            stage = self.world // self.pp
            raise UserError(f"--mp {self.mp} does not divide the {stage:,} NPUs of a stage: {_nearest(self.mp, stage)}")
        if self.dp % self.optimizer_shard:
            raise UserError(
                f"--optimizer-shard {self.optimizer_shard} does not divide dp {self.dp} (NPUs / mp / pp): "
                f"{_nearest(self.optimizer_shard, self.dp)}"
            )

    @property
    def dp(self) -> int:
        """Replicas of the model."""
        return self.world // (self.mp * self.pp)

    def group_of(self, kind: str, rank: int) -> range:
        """The ranks that a rank works with.

        Args:
            kind: mp, dp, pp or optimizer_shard.
            rank: any.
        """
        stage_ranks = self.dp * self.mp
        stage, place = divmod(rank, stage_ranks)
        replica, part = divmod(place, self.mp)
        begin = stage * stage_ranks
        if kind == "mp":
            first = begin + replica * self.mp
            return range(first, first + self.mp)
        if kind == "pp":
            return range(place, self.world, stage_ranks)
        first_replica, size = (
            (0, self.dp) if kind == "dp" else (replica - replica % self.optimizer_shard, self.optimizer_shard)
        )
        first = begin + first_replica * self.mp + part
        return range(first, first + size * self.mp, self.mp)

    def groups(self, kind: str) -> Iterator[range]:
        """All groups of a kind, in the order of their first ranks."""
        return (group for rank in range(self.world) if (group := self.group_of(kind, rank))[0] == rank)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _nearest(wanted: int, number: int) -> str:
    divisors = sorted((n for n in range(1, number + 1) if number % n == 0), key=lambda n: (abs(n - wanted), n))
    return f"the nearest that do are {' and '.join(map(str, sorted(divisors[:2])))}"
