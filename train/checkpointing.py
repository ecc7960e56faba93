"""Checkpoints that are whole or absent: snapshot, write, verify, publish, keep the newest few and every Mth.

    RUN/checkpoints/step-00000100/
        model.yaml, model.safetensors   the model (mindgeex.model_zoo.checkpoints.native); of a LoRA run, its adapter
        tokenizer/                      the vocabulary it was trained with
        optimizer.safetensors           both moments of every parameter that is trained
        run.yaml                        the resolved recipe
        state.json                      the progress, and the SHA-256 of every other file; written last

The learning rate and the dropout masks are functions of step and place in the data; whatever else a resumed run needs
is in `Progress`. A snapshot is a copy in memory, so writing it can happen beside the next steps. Covers: kill -9 at any
moment, a full disk, damaged files. Does not cover: sharded checkpoints.
"""

import copy
import dataclasses
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mindgeex.common.config import as_tree, read_yaml
from mindgeex.common.errors import UserError
from mindgeex.common.files import atomic_folder, read_json, sha256_file, write_json
from mindgeex.common.versions import versions
from mindgeex.model_zoo.checkpoints.native import MODEL_FILE, WEIGHTS_FILE, load_tensors, save_model, save_tensors
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.train.loss_scale import LossScale

logger = logging.getLogger(__name__)

STATE_FILE = "state.json"
OPTIMIZER_FILE = "optimizer.safetensors"
CONFIG_FILE = "run.yaml"
DECIDE_ROUNDING = ("mindspore", "machine", "kernels")
"""What a resumed run must have the same of to end in the same bits."""
NAME = re.compile(r"step-\d{8,}", re.ASCII)


@dataclass
class Progress:
    """Where a run stands; JSON in state.json."""

    step: int = 0
    """Steps done, skipped ones included."""
    updates: int = 0
    """Steps that changed the weights."""
    next_row: int = 0
    """Place in the endless order of rows at which the next step begins; beyond step x rows after a rollback."""
    tokens: int = 0
    """Tokens of input that were computed, of all workers."""
    loss_scale: LossScale = field(default_factory=LossScale)
    guard: dict[str, Any] = field(default_factory=dict)
    """See `guard.Guard.state`."""
    feed: dict[str, Any] = field(default_factory=dict)
    """What a feed remembers, such as the losses that balance its tasks."""


WriteModel = Callable[[Path, ModelConfig, Mapping[str, Any]], None]


@dataclass
class TrainState:
    """The live parameters of a run and its progress."""

    model_config: ModelConfig
    model_parameters: dict[str, Any]
    """Name -> mindspore Parameter of the model that a checkpoint holds."""
    moments: dict[str, Any]
    """Name -> mindspore Parameter: adam_m.* and adam_v.*."""
    tokenizer_folder: Path
    run_config: dict[str, Any] = field(default_factory=dict)
    """The resolved recipe."""
    progress: Progress = field(default_factory=Progress)
    write_model: WriteModel = save_model
    """Writes configuration and parameters into a folder."""
    weights_file: str = WEIGHTS_FILE
    """Where `write_model` puts the parameters."""
    descriptions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """YAML file of `write_model` -> what it must say for a run to go on; model.yaml must say `model_config`."""

    def snapshot(self) -> "TrainState":
        """The same at this moment, in copies that later steps do not change."""
        copies = [_copied(parameters) for parameters in (self.model_parameters, self.moments)]
        progress = copy.deepcopy(self.progress)
        return dataclasses.replace(self, model_parameters=copies[0], moments=copies[1], progress=progress)


def _copied(parameters: Mapping[str, Any]) -> dict[str, Any]:
    import mindspore as ms

    return {name: ms.Tensor(parameter.asnumpy().copy()) for name, parameter in parameters.items()}


def save(folder: Path, state: TrainState, keep: int, keep_every: int | None = None) -> Path:
    """Publishes a checkpoint of `state` under `folder` and deletes those before it that are not to be kept.

    A later one was passed over as damaged when the run was resumed: it stays until its step is saved again.

    Args:
        folder: RUN/checkpoints.
        state: live, or a snapshot.
        keep: the newest so many stay.
        keep_every: those of steps that are multiples of this stay, too.

    Raises:
        UserError: the disk is full or the folder cannot be written; earlier checkpoints are untouched.
    """
    path = checkpoint_path(folder, state.progress.step)
    with atomic_folder(path) as partial:
        state.write_model(partial, state.model_config, state.model_parameters)
        save_tensors(partial / OPTIMIZER_FILE, state.moments)
        (partial / "tokenizer").mkdir()
        for file in state.tokenizer_folder.iterdir():  # copytree would not let a full disk be told from other errors
            shutil.copyfile(file, partial / "tokenizer" / file.name)
        (partial / CONFIG_FILE).write_text(yaml.safe_dump(state.run_config, sort_keys=False), encoding="utf-8")
        files = sorted(file for file in partial.rglob("*") if file.is_file())
        digests = {str(file.relative_to(partial)): sha256_file(file) for file in files}
        progress = dataclasses.asdict(state.progress)
        write_json(partial / STATE_FILE, {"progress": progress, "sha256": digests, "versions": _made_with()})
        verify(partial)
    for old in [other for other in list_checkpoints(folder) if _step(other) <= state.progress.step][:-keep]:
        if not keep_every or _step(old) % keep_every:
            shutil.rmtree(old)
    return path


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / f"step-{step:08d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """Published checkpoints, oldest first; what else lies there, such as a copy under another name, is not ours."""
    return sorted((path for path in folder.glob("step-*") if NAME.fullmatch(path.name)), key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def verify(path: Path) -> Progress:
    """Checks every file of a checkpoint against its state.json.

    Returns:
        The progress it holds.

    Raises:
        UserError: a file is missing or altered (named).
    """
    state = read_json(path / STATE_FILE)
    try:
        progress = Progress(**{**state["progress"], "loss_scale": LossScale(**state["progress"]["loss_scale"])})
        digests = dict(state["sha256"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path / STATE_FILE}: altered since it was written: take an earlier checkpoint") from None
    for name, digest in digests.items():
        file = path / name
        if not file.is_file():
            raise UserError(f"{file}: missing from the checkpoint: take an earlier one")
        if sha256_file(file) != digest:
            raise UserError(f"{file}: truncated or altered since it was written: take an earlier checkpoint")
    return progress


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
    progress = verify(path)
    before, now = read_json(path / STATE_FILE).get("versions", {}), _made_with()
    for name in DECIDE_ROUNDING:
        if name in before and before[name] != now[name]:
            logger.warning(
                "%s: %s was %s and is now %s: the run goes on, but not to the last digit as it would have",
                path, name, before[name], now[name],
            )  # fmt: skip
    for name, now in {MODEL_FILE: as_tree(state.model_config), **state.descriptions}.items():
        before = read_yaml(path / name)
        for key in now:
            if before.get(key) != now[key]:
                raise UserError(
                    f"{path / name}: {key} was {before.get(key)!r} and is now {now[key]!r}: a resumed run must have "
                    "the same model; give another --out for a new one"
                )
    load_tensors(path / state.weights_file, state.model_parameters)
    load_tensors(path / OPTIMIZER_FILE, state.moments)
    state.progress = progress


def _made_with() -> dict[str, str]:
    """What figures depend on: versions, and which kernels ran."""
    from mindgeex.model_zoo.kernels import library

    return {**versions(), "kernels": library.name_here()}
