"""The size of a step in tokens, and how it is cut into micro batches, accumulation and workers.

rows of a step = micro_rows x accumulate x workers = tokens_per_step / seq_length
"""

from dataclasses import dataclass

from mindgeex.common.errors import UserError


@dataclass(frozen=True)
class BatchConfig:
    """How many tokens a step takes; what is left out follows from the rest."""

    tokens_per_step: int
    """Tokens of input in one step of all workers together; a multiple of seq_length."""
    micro_rows: int | None = None
    """Rows that one worker computes at once; a worker's whole share by default."""
    accumulate: int | None = None
    """Micro batches whose gradients are added before an update; as many as it takes by default."""

    def __post_init__(self) -> None:
        for name in ("tokens_per_step", "micro_rows", "accumulate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"batch.{name} is {value}: it must be at least 1")


@dataclass(frozen=True)
class BatchPlan:
    """A step cut up; every factor is at least 1."""

    micro_rows: int
    accumulate: int
    workers: int
    seq_length: int

    @property
    def worker_rows(self) -> int:
        """Rows of one worker in a step."""
        return self.micro_rows * self.accumulate

    @property
    def rows(self) -> int:
        """Rows of all workers in a step."""
        return self.worker_rows * self.workers

    @property
    def tokens(self) -> int:
        """Tokens of input of all workers in a step."""
        return self.rows * self.seq_length


def plan_batch(config: BatchConfig, seq_length: int, workers: int) -> BatchPlan:
    """Cuts a step up.

    Raises:
        UserError: the numbers do not fit together; the message holds numbers that do.
    """
    rows, rest = divmod(config.tokens_per_step, seq_length)
    if rest or not rows:
        near = max(1, round(config.tokens_per_step / seq_length)) * seq_length
        raise UserError(
            f"batch.tokens_per_step={config.tokens_per_step} is no multiple of the rows' seq_length={seq_length}: "
            f"set batch.tokens_per_step={near}"
        )
    share, rest = divmod(rows, workers)
    if rest or not share:
        near = max(1, round(rows / workers)) * workers * seq_length
        raise UserError(
            f"batch.tokens_per_step={config.tokens_per_step} is {rows} rows, which {workers} workers cannot share "
            f"equally: set batch.tokens_per_step={near}, or another number of workers"
        )
    micro, accumulate = config.micro_rows, config.accumulate
    if micro is None and accumulate is None:
        micro = share
    if micro is None:
        micro = max(1, share // (accumulate or 1))
    if accumulate is None:
        accumulate = max(1, share // micro)
    if micro * accumulate != share:
        have = micro * accumulate * workers
        fix = (
            f"batch.accumulate={share // micro}" if share % micro == 0 else f"batch.tokens_per_step={have * seq_length}"
        )
        raise UserError(
            f"batch.tokens_per_step={config.tokens_per_step} is {rows} rows of {seq_length}, but micro_rows {micro} x "
            f"accumulate {accumulate} x workers {workers} = {have}: set {fix}"
        )
    return BatchPlan(micro, accumulate, workers, seq_length)
