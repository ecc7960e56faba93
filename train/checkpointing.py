"""Checkpoints that are whole or absent: write, verify, publish, keep the newest few.

    RUN/checkpoints/step-00000100/
        model.yaml, model.safetensors   the model (mindgeex.model_zoo.checkpoints.native)
        tokenizer/                      the vocabulary it was trained with
        optimizer.safetensors           both moments of every parameter
        state.json                      step, and the SHA-256 of every other file; written last

Everything else a resumed run needs is a function of the step: the learning rate, the position in the data, the
dropout masks. Covers: kill -9 at any moment, a full disk, damaged files. Does not cover: sharded checkpoints.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindgeex.common.config import as_tree, read_yaml
from mindgeex.common.errors import UserError
from mindgeex.common.files import PARTIAL, atomic_folder, read_json, sha256_file, write_json
from mindgeex.common.versions import versions
from mindgeex.model_zoo.checkpoints.native import MODEL_FILE, WEIGHTS_FILE, load_tensors, save_model, save_tensors
from mindgeex.model_zoo.config import ModelConfig

logger = logging.getLogger(__name__)

STATE_FILE = "state.json"
OPTIMIZER_FILE = "optimizer.safetensors"


@dataclass
class TrainState:
    """What a checkpoint holds: the live parameters of a run."""

    model_config: ModelConfig
    model_parameters: dict[str, Any]
    """Name -> mindspore Parameter of the model."""
    moments: dict[str, Any]
    """Name -> mindspore Parameter: adam_m.* and adam_v.*."""
    tokenizer_folder: Path
    step: int = 0
    """Steps done."""


def save(folder: Path, state: TrainState, keep: int) -> Path:
    """Publishes a checkpoint of `state` under `folder` and deletes all up to it but the newest `keep`.

    A later one was passed over as damaged when the run was resumed: it stays until its step is saved again.

    Raises:
        UserError: the disk is full or the folder cannot be written; earlier checkpoints are untouched.
    """
    path = folder / f"step-{state.step:08d}"
    with atomic_folder(path) as partial:
        save_model(partial, state.model_config, state.model_parameters)
        save_tensors(partial / OPTIMIZER_FILE, state.moments)
        (partial / "tokenizer").mkdir()
        for file in state.tokenizer_folder.iterdir():  # copytree would not let a full disk be told from other errors
            shutil.copyfile(file, partial / "tokenizer" / file.name)
        files = sorted(file for file in partial.rglob("*") if file.is_file())
        digests = {str(file.relative_to(partial)): sha256_file(file) for file in files}
        write_json(partial / STATE_FILE, {"step": state.step, "sha256": digests, "versions": versions()})
        verify(partial)
    for old in [other for other in list_checkpoints(folder) if other <= path][:-keep]:
        shutil.rmtree(old)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Published checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if not path.name.endswith(PARTIAL))


def verify(path: Path) -> int:
    """Checks every file of a checkpoint against its state.json.

    Returns:
        The number of steps done.

    Raises:
        UserError: a file is missing or altered (named).
    """
    state = read_json(path / STATE_FILE)
    if not isinstance(state, dict) or not state.keys() >= {"step", "sha256"}:
        raise UserError(f"{path / STATE_FILE}: altered since it was written: take an earlier checkpoint")
    for name, digest in state["sha256"].items():
        file = path / name
        if not file.is_file():
            raise UserError(f"{file}: missing from the checkpoint: take an earlier one")
        if sha256_file(file) != digest:
            raise UserError(f"{file}: truncated or altered since it was written: take an earlier checkpoint")
    return int(state["step"])


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint that verifies; damaged ones are passed over, and said. None if there is none."""
    for path in reversed(list_checkpoints(folder)):
        try:
            verify(path)
        except UserError as error:
            logger.warning("%s; trying the one before", error)
            continue
        return path
    return None


def restore(path: Path, state: TrainState) -> None:
    """Fills `state` from a checkpoint.

    Raises:
        UserError: it was made with other sizes (named), or the tensors are not those of this run's model.
    """
    before, now = read_yaml(path / MODEL_FILE), as_tree(state.model_config)
    for key in dict.fromkeys([*before, *now]):
        if before.get(key) != now.get(key):
            raise UserError(
                f"{path / MODEL_FILE}: {key} was {before.get(key)!r} and is now {now.get(key)!r}: a resumed run must "
                "have the same model; give another --out for a new one"
            )
    load_tensors(path / WEIGHTS_FILE, state.model_parameters)
    load_tensors(path / OPTIMIZER_FILE, state.moments)
    state.step = int(read_json(path / STATE_FILE)["step"])
