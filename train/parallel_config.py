"""What can be set about how a run is spread over NPUs; apart from the cells, so that a recipe needs no mindspore."""

from collections.abc import Iterable
from dataclasses import dataclass

from mindgeex.common.errors import UserError, did_you_mean

LEVELS = ("level1", "level2", "level3")


@dataclass(frozen=True)
class ParallelConfig:
    """The mesh of NPUs, and what they are able to."""

    npus: int = 1
    """All NPUs of the run; dp follows: npus / (mp x pp)."""
    mp: int = 1
    """NPUs that share a layer, cut column- and row-parallel."""
    pp: int = 1
    """Stages of the pipeline: each holds consecutive layers and works on another micro batch (1F1B); needs
    batch.accumulate >= pp."""
    interleave: int = 1
    """Pieces of the model that a stage holds: with 2, stage 0 of 4 holds the first and the fifth eighth of the layers.
    A shorter bubble, more messages."""
    sequence_parallel: bool = False
    """The NPUs of an mp group share norms, dropouts and sums by tokens, instead of each computing them all: less memory
    and time. A sum over mp is sent as a scatter and a gather, which are as many bytes; a block that is computed again
    gathers again."""
    optimizer_shard: int = 1
    """NPUs among which the weights that they hold alike, and both moments, are cut (HSDP); 1: they are not."""
    optimizer_level: str = "level1"
    """What is cut: level1 weights and moments, level2 gradients, too, level3 also gathers weights again for the
    backward pass instead of keeping them."""
    npus_per_server: int = 8
    memory_gb: float = 32.0
    """Of one NPU, in 10^9 bytes."""
    peak_tflops: float = 256.0
    """Of one NPU in half precision (Ascend 910: 256, as its maker publishes)."""
    matmul_efficiency: float = 0.5
    """Share of the peak that large products reach; an assumption to be replaced by a measurement."""
    memory_gb_per_s: float = 1000.0
    """Between an NPU and its memory; an assumption."""
    inside_gb_per_s: float = 30.0
    """Between NPUs of one server (HCCS), one direction; an assumption."""
    across_gb_per_s: float = 12.5
    """Between servers (RoCE, 100 Gbit/s), one direction."""

    def __post_init__(self) -> None:
        for name in ("npus", "mp", "pp", "interleave", "optimizer_shard", "npus_per_server"):
            if getattr(self, name) < 1:
                raise UserError(f"parallel.{name} is {getattr(self, name)}: it must be at least 1")
        for name in ("memory_gb", "peak_tflops", "memory_gb_per_s", "inside_gb_per_s", "across_gb_per_s"):
            if not getattr(self, name) > 0:
                raise UserError(f"parallel.{name} is {getattr(self, name)}: it must be greater than 0")
        if not 0 < self.matmul_efficiency <= 1:
            raise UserError(f"parallel.matmul_efficiency is {self.matmul_efficiency}: it must be in (0, 1]")
        if self.npus % self.mp:
            raise UserError(f"parallel.mp={self.mp} does not divide parallel.npus={self.npus}: {self._near('mp')}")
        if self.npus // self.mp % self.pp:
            raise UserError(
                f"parallel.pp={self.pp} does not divide parallel.npus / mp = {self.npus // self.mp}: {self._near('pp')}"
            )
        if self.interleave > 1 and self.pp == 1:
            raise UserError(
                f"parallel.interleave={self.interleave} needs stages: set parallel.pp, or parallel.interleave=1"
            )
        if self.dp % self.optimizer_shard:
            raise UserError(
                f"parallel.optimizer_shard={self.optimizer_shard} does not divide the {self.dp} NPUs that hold "
                f"the same weights (npus / mp / pp): {self._near('optimizer_shard')}"
            )
        if self.optimizer_level not in LEVELS:
            raise UserError(
                f"parallel.optimizer_level is {self.optimizer_level!r}{did_you_mean(self.optimizer_level, LEVELS)}"
            )

    def _near(self, name: str) -> str:
        whole = {"mp": self.npus, "pp": self.npus // self.mp}.get(name, self.dp)
        return f"set parallel.{name}={nearest(getattr(self, name), divisors(whole))}"

    @property
    def dp(self) -> int:
        """Groups of NPUs that compute different rows."""
        return self.npus // self.mp // self.pp

    @property
    def stage_npus(self) -> int:
        """NPUs of one stage; rank r is in stage r // stage_npus."""
        return self.npus // self.pp


def divisors(whole: int) -> list[int]:
    """Of a number, ascending."""
    return [n for n in range(1, whole + 1) if whole % n == 0]


def nearest(wanted: int, legal: Iterable[int]) -> int:
    """The one that differs least; of two, the smaller."""
    return min(legal, key=lambda n: (abs(n - wanted), n))
