"""What to start, and where: the settings of a launch script, checked.

Covers: bash 4.4 and newer; servers that share the working folder; logs of each rank in one folder.
Does not cover: restarts with a rank table, or on Kubernetes and ModelArts, whose scheduler gives them; installing.
Sources: MindSpore documentation, "msrun" and "environment variables"; CANN documentation, HCCL_CONNECT_TIMEOUT and
HCCL_EXEC_TIMEOUT.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mindgeex.common.errors import UserError

Kind = Literal["msrun", "ssh", "rank-table", "slurm", "kubernetes", "modelarts"]

SETTINGS = {
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": (
        "python",
        "protobuf's C++ code, loaded first, aborts `import mindspore`",
    ),
    "GLOG_v": ("2", "MindSpore's log: 0 debug, 1 info, 2 warnings, 3 errors"),
    "HCCL_CONNECT_TIMEOUT": ("1800", "s until ranks have to meet; HCCL's own 120 is less than compilation takes apart"),
    "HCCL_EXEC_TIMEOUT": ("1800", "s that a collective waits for the slowest rank, such as one that saves"),
    "MS_NODE_TIMEOUT": ("14400", "s without word after which MindSpore gives a worker up; saving takes minutes"),
    "PYTHONUNBUFFERED": ("1", "a rank's log shows its last words even if it is killed"),
}
"""Variable -> value, reason."""
TRAIN = ("-m", "mindgeex.cli.main", "train")
"""What can be watched, behind `python`."""
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,50}[A-Za-z0-9])?")
VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
HOST = re.compile(r"[A-Za-z0-9_.:@\[\]-]+")


@dataclass(frozen=True)
class LaunchConfig:
    """What to start, and where."""

    kind: Kind
    command: tuple[str, ...]
    """A worker's program and its arguments; `python` first under msrun."""
    nodes: int = 1
    """Servers."""
    devices: int = 8
    """Workers of each server."""
    workdir: str = "."
    """Folder that the workers run in, the same on every server."""
    logs: str = "logs"
    """Folder of the logs, absolute or below workdir."""
    device_target: Literal["Ascend", "CPU"] = "Ascend"
    port: int = 8118
    """Of MindSpore's scheduler, on the first server."""
    name: str = "mindgeex"
    """Of the job."""
    hosts: tuple[str, ...] = ()
    """Servers to reach with ssh, the first one first."""
    rank_table: Path | None = None
    env: tuple[str, ...] = ()
    """NAME=VALUE each: more variables of the workers, or other values."""
    scheduler_options: tuple[str, ...] = ()
    """More options of sbatch, such as --partition=npu."""
    image: str | None = None
    """Container image."""
    claim: str | None = None
    """Kubernetes' persistent volume claim that is mounted at workdir."""
    restarts: int = 0
    """How often a training that failed goes on; with any, it is watched."""
    spare_nodes: int = 0
    """Servers that take the place of lost ones (Slurm; with ssh, those of `hosts` beyond `nodes`)."""

    def __post_init__(self) -> None:
        self._check_numbers()
        if not self.command:
            raise UserError("nothing to launch: give the command after --, such as -- train --recipe codegeex_13b")
        for word in (*self.command, *self.env, self.workdir, self.logs):
            if "\0" in word:
                raise UserError(f"{word!r}: no argument of a program can hold a zero byte")
        if self.kind != "rank-table" and self.command[0] not in ("python", "python3"):
            raise UserError(
                f"the command begins with {self.command[0]!r}: msrun starts python only, so write python -m ..."
            )
        if not NAME.fullmatch(self.name):
            raise UserError(f"--name {self.name!r}: letters, digits and dashes only, at most 52")
        for setting in self.env:
            if not VARIABLE.fullmatch(setting):
                raise UserError(f"--env {setting!r}: write NAME=VALUE")
        for host in self.hosts:
            if not HOST.fullmatch(host) or host.startswith("-"):
                raise UserError(f"--hosts {host!r}: give a server's name or address, such as user@10.0.0.1")
        for option in self.scheduler_options:
            if not option.startswith("-") or "\n" in option:
                raise UserError(f"--scheduler-options {option!r}: write one option of sbatch, such as --partition=npu")
        self._check_restarts()
        too_many = not self.restarts and len(self.hosts) > self.nodes
        if self.kind in ("ssh", "rank-table") and self.nodes > 1 and (len(self.hosts) < self.nodes or too_many):
            raise UserError(
                f"--kind {self.kind} has {len(self.hosts)} --hosts for --nodes {self.nodes}: name every server"
            )
        if self.kind == "msrun" and self.nodes != 1:
            raise UserError(
                f"--kind msrun is for one server, not --nodes {self.nodes}: take ssh, slurm or another kind"
            )
        if (self.kind == "rank-table") != (self.rank_table is not None):
            raise UserError("--rank-table FILE goes with --kind rank-table, and only with it")
        if self.kind == "kubernetes" and self.image is None:
            raise UserError("--kind kubernetes needs --image, with MindSpore, CANN and mindgeex in it")

    def _check_numbers(self) -> None:
        for name, low, high in (("nodes", 1, 65_536), ("devices", 1, 1024), ("port", 1024, 65_535)):
            if not low <= getattr(self, name) <= high:
                raise UserError(f"--{name} {getattr(self, name)}: it must be {low} to {high}")

    def _check_restarts(self) -> None:
        if self.restarts < 0 or self.spare_nodes < 0:
            raise UserError("--restarts and --spare-nodes: give numbers from 0")
        if self.restarts and (self.kind not in ("ssh", "slurm") or self.command[1:4] != TRAIN):
            raise UserError(
                f"--restarts watches a `train` that --kind ssh or slurm starts, not --kind {self.kind} with "
                f"{self.command[0]!r}: without it, --resume in the command goes on when the scheduler starts it again"
            )
        if self.restarts and not self.hosts and self.kind == "ssh":
            raise UserError("--kind ssh --restarts: name the servers with --hosts, spare ones last")
        if self.spare_nodes and not (self.restarts and self.kind == "slurm"):
            raise UserError("--spare-nodes goes with --kind slurm --restarts N: one takes over at a restart")

    @property
    def settings(self) -> dict[str, tuple[str, str]]:
        """Environment of the workers: variable -> value, reason."""
        given = {match[1]: (match[2], "as asked for") for match in map(VARIABLE.fullmatch, self.env) if match}
        return {**SETTINGS, **given}
