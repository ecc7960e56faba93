"""RUN/run.yaml: what a run was asked for, so that a resumed one is the same."""

import logging
from pathlib import Path
from typing import Any

import yaml

from mindgeex.common.config import as_tree, read_yaml
from mindgeex.common.errors import UserError
from mindgeex.common.files import atomic_file
from mindgeex.train.checkpointing import CONFIG_FILE
from mindgeex.train.config import RunConfig
from mindgeex.train.events import write_event

logger = logging.getLogger(__name__)

FREE = ("cadence", "guard")
"""What a resumed run may change: neither the data nor a sound step depends on it."""


def run_tree(config: RunConfig, fingerprint: str) -> dict[str, Any]:
    """What run.yaml holds."""
    return {**as_tree(config), "data": fingerprint}


def open_run(folder: Path, config: RunConfig, fingerprint: str, resume: bool) -> None:
    """Writes run.yaml, or checks on resume that the run is the same.

    Args:
        folder: of the run.
        config: the resolved recipe.
        fingerprint: of the data.
        resume: whether a run may be there.

    Raises:
        UserError: the run exists and is not to be resumed, or is to be resumed with other settings (named).
    """
    path, tree = folder / CONFIG_FILE, run_tree(config, fingerprint)
    if path.exists():
        if not resume:
            raise UserError(f"{folder}: a run is there already: give --resume to go on with it, or another --out")
        before = read_yaml(path)
        for key in dict.fromkeys([*before, *tree]):
            if key not in FREE and before.get(key) != tree.get(key):
                raise UserError(
                    f"{path}: {key} was {before.get(key)!r} and is now {tree.get(key)!r}: a resumed run must be the "
                    "same; give another --out for a new one"
                )
    else:
        if resume:
            logger.info("%s: no run there yet: starting one", folder)
        write_event(folder, 0, "started")
    with atomic_file(path) as partial:
        partial.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
