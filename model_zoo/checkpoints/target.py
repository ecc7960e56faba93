"""Where a conversion writes: what is refused before anything is read, and which containers the target consists of.

Covers: one file, a folder, a folder of rank folders. Does not cover: object stores.
"""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

from mindgeex.common.errors import UserError
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
    real, input_real = target.resolve(), source.resolve()
    if real == input_real or real in input_real.parents:
        raise UserError(f"{target}: would replace the input {source}: choose another path")
    if target.exists() or target.is_symlink():
        if not overwrite:
            raise UserError(f"{target}: exists already: choose another path, or give --overwrite")
        if target.is_dir() == is_file(target, form, layout):
            kind = "a folder" if target.is_dir() else "a file"
            raise UserError(f"{target}: is {kind}, and the output is not: choose another path")
    if target.suffix in SUFFIXES and not is_file(target, form, layout):
        raise UserError(f"{target}: format {form.name} makes a folder here: choose a name without {target.suffix}")


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
