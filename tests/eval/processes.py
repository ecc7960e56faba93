"""Processes of this machine, for tests that kill some."""

from pathlib import Path


def parent(pid: int) -> int:
    """The process that started it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
