"""Where a conversion writes: what is refused before anything is read, and which containers the target consists of.

Covers: one file, a folder, a folder of rank folders. Does not cover: object stores.
"""

import contextlib
import fcntl
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.common.files import PARTIAL, disk_errors
from mindgeex.model_zoo.checkpoints.formats import Format
from mindgeex.model_zoo.checkpoints.layout import Layout

SPARE_FILES = 200
"""Files that the process has open beside the ranks'."""
SUFFIXES = (".ckpt", ".pt", ".safetensors", ".mindir")


def check_target(source: Path, target: Path, form: Format, layout: Layout, moments: bool, overwrite: bool) -> None:
    """Refuses what cannot be written.

    Raises:
        UserError: the format does not hold what was asked for, or something is at the target.
    """
    if moments and not form.ranks:
        raise UserError(f"--moments: format {form.name} does not hold them: leave it out, or choose mindspore")
    if layout.ranks > 1 and not form.ranks and not (form.name == "megatron" and layout == Layout(mp=layout.mp)):
        raise UserError(f"layout {layout}: format {form.name} has no rank files: choose mindspore or mindgeex")
    real, input_real = _real(target), _real(source)
    if real == input_real or real in input_real.parents:
        raise UserError(f"{target}: would replace the input {source}: choose another path")
    for place in _prepared_in(real):
        if place == input_real or place in input_real.parents:
            raise UserError(f"{source}: lies where {target} is prepared, which is emptied first: rename it")
    _refuse_taken(target, overwrite)
    if os.path.lexists(target):
        if os.path.ismount(real):
            raise UserError(f"{target}: is a mount point, which cannot be replaced: name a folder in it")
        if any(real == part or real in part.parents for part in map(_real, input_real.rglob("*"))):
            raise UserError(f"{target}: would replace a part of the input {source}: choose another path")
        if target.exists() and target.is_dir() == is_file(target, form, layout):
            kind = "a folder" if target.is_dir() else "a file"
            raise UserError(f"{target}: is {kind}, and the output is not: choose another path")
    if target.suffix in SUFFIXES and not is_file(target, form, layout):
        raise UserError(f"{target}: format {form.name} makes a folder here: choose a name without {target.suffix}")


@contextlib.contextmanager
def sole_conversion(target: Path, overwrite: bool) -> Iterator[None]:
    """Keeps other conversions away from a target for the block. A lock that was left behind by a kill holds nobody up.

    Raises:
        UserError: another process is writing there, or did so just now; or its folder cannot be written.
    """
    real = _real(target)
    lock = real.with_name(f"{real.name}.lock{PARTIAL}")
    with disk_errors(target):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(file.fileno()), os.stat(lock))
        except (BlockingIOError, FileNotFoundError):
            ours = False
        except OSError:  # a file system that has no locks
            ours = True
        if not ours:  # or it is of a conversion that ended between our opening and our locking it
            raise UserError(f"{target}: another process is writing it: wait for it, or choose another path")
        try:
            _refuse_taken(target, overwrite)
            yield
        finally:
            lock.unlink(missing_ok=True)


def _real(path: Path) -> Path:
    """Without symbolic links, as far as they lead somewhere."""
    return Path(os.path.realpath(path))


def _prepared_in(real: Path) -> list[Path]:
    """Where a target is, or the one it replaces, while it is being written (see common/files.py)."""
    return [_real(real.with_name(real.name + suffix)) for suffix in (PARTIAL, ".replaced" + PARTIAL)]


def _refuse_taken(target: Path, overwrite: bool) -> None:
    with disk_errors(target):
        if (target.exists() or target.is_symlink()) and not overwrite:
            raise UserError(f"{target}: exists already: choose another path, or give --overwrite")


def is_file(target: Path, form: Format, layout: Layout) -> bool:
    """Whether the output is one file."""
    single = form.container in ("mindspore", "torch") and form.name != "megatron"
    return single and layout.ranks == 1 and target.suffix == form.suffix


def has_rank_folders(form: Format, layout: Layout) -> bool:
    """Whether the output consists of rank_0/, rank_1/, ..."""
    return layout.ranks > 1 and form.name != "megatron"


def containers(place: Path, form: Format, layout: Layout, single: bool) -> dict[int, Path]:
    """Rank -> the container to write in `place`: a file, or for safetensors a folder."""
    if single:
        return {0: place}
    if form.name == "megatron":
        return {rank: place / f"mp_rank_{rank:02d}_model_states.pt" for rank in range(layout.ranks)}
    paths = {}
    for rank in range(layout.ranks):
        folder = place / f"rank_{rank}" if has_rank_folders(form, layout) else place
        folder.mkdir(exist_ok=True)
        paths[rank] = folder if form.container == "safetensors" else folder / f"model{form.suffix}"
    return paths


@contextlib.contextmanager
def open_files(count: int) -> Iterator[None]:
    """Lets the process have `count` files open, beside a few, for the block.

    Raises:
        UserError: the system does not allow so many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * count + SPARE_FILES
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        yield
        return
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise UserError(f"{count} rank files need {wanted} open files, the limit is {hard}: raise it (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
