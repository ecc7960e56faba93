"""Processes of this machine, for tests that kill some or look for what is left."""

import contextlib
from pathlib import Path


def parent(pid: int) -> int:
    """The process that started it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def below(root: int) -> dict[int, str]:
    """The living processes below one: id -> name. The sandbox makes the harness the parent of all orphans, too."""
    rows = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it may end while we look
            name, _, rest = path.read_text(errors="replace").rpartition(")")
            state, its_parent = rest.split()[:2]
            if state not in "ZX":
                rows[int(path.parent.name)] = int(its_parent), name.partition("(")[2]
    found, waiting = {}, [root]
    while waiting:
        starter = waiting.pop()
        children = {pid: name for pid, (its_parent, name) in rows.items() if its_parent == starter}
        waiting += children
        found |= children
    return found
