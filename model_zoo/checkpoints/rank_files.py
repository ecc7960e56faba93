"""Which files of a folder are ranks', by their names, and the layout that they make up.

Covers: rank_0/, rank_1/, ... with layout.json or a layout that is given; mp_rank_00_model_states.pt and so on. Does not
cover: what the files hold.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.common.files import read_json
from mindgeex.model_zoo.checkpoints.layout import Layout

LAYOUT_FILE = "layout.json"
RANK_FOLDER = re.compile(r"rank_(\d+)")
PARTITION = re.compile(r"mp_rank_(\d+)_model_states\.pt")


def rank_files(path: Path, layout: Layout | None) -> tuple[dict[int, Path], Layout]:
    """Rank -> its file or folder, ascending, and the layout; of a checkpoint in one piece, the path itself is rank 0.

    Raises:
        UserError: a partition is missing, a rank is there twice, or the layout is not told or does not fit.
    """
    entries = sorted(path.iterdir()) if path.is_dir() else []
    partitions = _numbered(entries, PARTITION)
    if partitions:
        missing = next((rank for rank in range(len(partitions)) if rank not in partitions), None)
        if missing is not None:
            raise UserError(f"{path}: partition {missing} of {max(partitions) + 1} is missing: copy it there, too")
        found = Layout(mp=len(partitions))
        if layout not in (None, found):
            raise UserError(f"{path}: --from-layout {layout}: there are {found.mp} partitions, which is {found}")
        return partitions, found
    ranks = _numbered([entry for entry in entries if entry.is_dir()], RANK_FOLDER)
    if not ranks:
        if layout and layout.ranks > 1:
            raise UserError(f"{path}: --from-layout {layout}: there is no folder rank_0, rank_1, ... in it")
        return {0: path}, Layout()
    layout = layout or _read_layout(path)
    beyond = [rank for rank in ranks if rank >= layout.ranks]
    if beyond:
        raise UserError(
            f"{path}: has rank_{max(beyond)}, but {layout} has ranks 0 to {layout.ranks - 1}: check --from-layout"
        )
    return ranks, layout


def _numbered(entries: Iterable[Path], pattern: re.Pattern[str]) -> dict[int, Path]:
    """Rank -> the entry that has its number, ascending."""
    found: dict[int, Path] = {}
    for entry in entries:
        if match := pattern.fullmatch(entry.name):
            other = found.setdefault(int(match[1]), entry)
            if other is not entry:
                raise UserError(f"{entry}: is rank {int(match[1])}, as {other.name} is: move one of them away")
    return dict(sorted(found.items()))


def _read_layout(path: Path) -> Layout:
    file = path / LAYOUT_FILE
    if not file.is_file():
        raise UserError(f"{path}: rank folders without {LAYOUT_FILE}: give --from-layout dp=4,mp=4,shard=2")
    tree = read_json(file)

    def size(name: str) -> int:
        value = tree.get(name, 1) if isinstance(tree, dict) else None
        if type(value) is not int:
            raise UserError(f"{file}: {name} is {value!r}: expected a whole number")
        return value

    dp, mp, optimizer_shard = size("dp"), size("mp"), size("optimizer_shard")
    try:
        return Layout(dp, mp, optimizer_shard)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
