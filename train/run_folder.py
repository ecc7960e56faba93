"""RUN/run.yaml: what a run was asked for, so that a resumed one is the same."""

import logging
from collections.abc import Mapping
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


def dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree's values by their whole names, such as `optimizer.beta1`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def check_run(folder: Path, config: RunConfig, fingerprint: str, resume: bool) -> None:
    """Checks that no run is there, or that it is the same one.

    Args:
        folder: of the run.
        config: the resolved recipe.
        fingerprint: of the data.
        resume: whether a run may be there.

    Raises:
        UserError: the run exists and is not to be resumed, or is to be resumed with other settings (named).
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        if resume:
            logger.info("%s: no run there yet: starting one", folder)
        return
    if not resume:
        raise UserError(f"{folder}: a run is there already: give --resume to go on with it, or another --out")
    before, now = dotted(read_yaml(path)), dotted(run_tree(config, fingerprint))
    is_observed = config.finetune is not None and config.finetune.balance == "coba"
    for key in dict.fromkeys([*before, *now]):
        # Convergence balancing weighs tasks by the held-out losses that it has seen.
        is_free = key.split(".")[0] in FREE and not (is_observed and key == "cadence.evaluate_steps")
        if not is_free and before.get(key) != now.get(key):
            raise UserError(
                f"{path}: {key} was {before.get(key)!r} and is now {now.get(key)!r}: a resumed run must be the same; "
                "give another --out for a new one"
            )


def write_run(folder: Path, config: RunConfig, fingerprint: str) -> None:
    """Writes run.yaml: from now on there is a run in the folder.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        write_event(folder, 0, "started")
    with atomic_file(path) as partial:
        partial.write_text(yaml.safe_dump(run_tree(config, fingerprint), sort_keys=False), encoding="utf-8")
