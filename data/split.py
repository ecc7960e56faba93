"""Which repositories are held out: a hash of the name decides, so none changes sides as a corpus grows.

Covers: whole repositories. Does not cover: forks under another name (see dedup.py), a share exact in bytes.
"""

import hashlib
from collections.abc import Iterable


def unit_hash(seed: int, *words: str) -> float:
    """A number in [0, 1) that depends on nothing but the seed and the words; equal on every machine."""
    value = hashlib.sha256("\0".join((str(seed), *words)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(value[:7], "big") / 2**56


def heldout_repositories(repositories: Iterable[str], seed: int, share: float) -> set[str]:
    """The repositories whose hash is below `share`.

    With two or more, both sides get one: the lowest hash is held out, or the highest trained on, if need be.
    """
    order = sorted(set(repositories), key=lambda repo: (unit_hash(seed, "split", repo), repo))
    heldout = {repo for repo in order if unit_hash(seed, "split", repo) < share}
    if len(order) >= 2 and share > 0:
        heldout = (heldout or {order[0]}) - ({order[-1]} if len(heldout) == len(order) else set())
    return heldout if len(order) >= 2 else set()
