"""What the log of a worker that left tells: its last traceback, and whether it only missed another worker."""

import re
from pathlib import Path

EXCERPT_LINES = 60
MISSED_ANOTHER = re.compile(r"MissingRanks|Launch kernel failed: \S*(AllReduce|AllGather|Broadcast)|\bEI00(02|06|15)\b")
"""Ours, MindSpore's, or HCCL's codes for having waited too long."""


def excerpt_of(log: Path) -> str:
    """The last traceback, and what follows it; without one, the last lines."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    lines = lines[starts[-1] :] if starts else lines[-EXCERPT_LINES // 2 :]
    if len(lines) > EXCERPT_LINES:
        lines = [*lines[: EXCERPT_LINES // 4], "...", *lines[-EXCERPT_LINES * 3 // 4 :]]
    return "\n".join(lines)


def missed_another(log: str) -> bool:
    """Whether a worker's last words are that another did not come."""
    return MISSED_ANOTHER.search(log) is not None
