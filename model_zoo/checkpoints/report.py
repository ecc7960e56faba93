"""What a conversion did, tensor by tensor: written as JSON beside the output, and summed up for the terminal."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

REPORT_FILE = "conversion.json"


@dataclass(frozen=True)
class TensorRecord:
    """One stored tensor of the output."""

    ours: tuple[str, ...]
    """Our names of what it holds."""
    source: tuple[str, ...]
    """What these are called in the input."""
    target: str
    """What it is called in the output."""
    shape: tuple[int, ...]
    """Of the whole tensor as stored, before it is cut for ranks."""
    dtype: str
    pieces: int
    """Into how many different pieces it is cut."""
    sha256: tuple[str, ...]
    """Of the bytes of each piece, in order (by slice along mp, then part of the optimizer shard)."""


@dataclass(frozen=True)
class Cast:
    """Values of one tensor that the new type could not hold."""

    name: str
    overflowed: int
    """Finite before, infinite now."""
    flushed: int
    """Not zero before, zero now."""


@dataclass(frozen=True)
class Report:
    """What went in, what came out, and what a user should know."""

    source: str
    target: str
    from_format: str
    to_format: str
    from_layout: str
    to_layout: str
    dtype: str
    """The type asked for; keep: each as it was."""
    files: int
    values: int
    """Of all tensors of the output together."""
    bytes: int
    """Of values in the output, copies on other ranks not counted."""
    seconds: float
    tensors: tuple[TensorRecord, ...]
    casts: tuple[Cast, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)
    """What the input holds beside the weights and the output does not: kind -> number of tensors."""
    absent_ranks: tuple[int, ...] = ()
    """Ranks of the input's layout that were not there; every slice was found elsewhere."""
    logits_difference: float | None = None
    """MINDIR: the largest difference between the logits of the exported graph and of the model."""
    notes: tuple[str, ...] = ()

    @property
    def overflowed(self) -> int:
        """Values that became infinite."""
        return sum(cast.overflowed for cast in self.casts)

    @property
    def flushed(self) -> int:
        """Values that became zero."""
        return sum(cast.flushed for cast in self.casts)

    def as_tree(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)

    def summary(self) -> dict[str, str]:
        """What a terminal shows: label -> text."""
        rows = {
            "from": f"{self.source} ({self.from_format}, {self.from_layout})",
            "to": f"{self.target} ({self.to_format}, {self.to_layout}), {self.files} files",
            "tensors": f"{len(self.tensors):,} with {self.values:,} values, {self.bytes / 1e6:,.1f} MB",
            "type": self.dtype,
        }
        if self.logits_difference is not None:
            rows["check"] = f"the exported graph's logits differ by at most {self.logits_difference:.1e}"
        else:
            rows["check"] = "read back; SHA-256 of every tensor is that of what was written"
        if self.casts:
            rows["lost in the cast"] = (
                f"{self.overflowed:,} values overflowed to infinity, {self.flushed:,} became 0, "
                f"in {len(self.casts)} tensors"
            )
        rows |= {f"dropped: {what}": f"{count:,} tensors" for what, count in self.dropped.items() if count}
        if self.absent_ranks:
            rows["absent ranks"] = f"{len(self.absent_ranks)}; every slice was found on others"
        rows["time"] = f"{self.seconds:.1f} s"
        return rows
