"""What can be set about how a run is spread over NPUs; apart from the cells, so that a recipe needs no mindspore."""

from dataclasses import dataclass

from mindgeex.common.errors import UserError, did_you_mean

LEVELS = ("level1", "level2", "level3")


@dataclass(frozen=True)
class ParallelConfig:
    """The mesh of NPUs, and what they are able to."""

    npus: int = 1
    """All NPUs of the run; dp follows: npus / mp."""
    mp: int = 1
    """NPUs that share a layer, cut column- and row-parallel."""
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
        for name in ("npus", "mp", "optimizer_shard", "npus_per_server"):
            if getattr(self, name) < 1:
                raise UserError(f"parallel.{name} is {getattr(self, name)}: it must be at least 1")
        for name in ("memory_gb", "peak_tflops", "memory_gb_per_s", "inside_gb_per_s", "across_gb_per_s"):
            if not getattr(self, name) > 0:
                raise UserError(f"parallel.{name} is {getattr(self, name)}: it must be greater than 0")
        if not 0 < self.matmul_efficiency <= 1:
            raise UserError(f"parallel.matmul_efficiency is {self.matmul_efficiency}: it must be in (0, 1]")
        if self.npus % self.mp:
            raise UserError(f"parallel.mp={self.mp} does not divide parallel.npus={self.npus}: {self._near('mp')}")
        if self.dp % self.optimizer_shard:
            raise UserError(
                f"parallel.optimizer_shard={self.optimizer_shard} does not divide the {self.dp} NPUs that hold "
                f"the same weights (npus / mp): {self._near('optimizer_shard')}"
            )
        if self.optimizer_level not in LEVELS:
            raise UserError(
                f"parallel.optimizer_level is {self.optimizer_level!r}{did_you_mean(self.optimizer_level, LEVELS)}"
            )

    def _near(self, name: str) -> str:
        whole, wanted = (self.npus if name == "mp" else self.dp), getattr(self, name)
        legal = [n for n in range(1, whole + 1) if whole % n == 0]
        return f"set parallel.{name}={min(legal, key=lambda n: (abs(n - wanted), n))}"

    @property
    def dp(self) -> int:
        """Groups of NPUs that compute different rows."""
        return self.npus // self.mp
