"""Scripts that start a command on one or many servers, all from one template.

    settings          what the workers' environment needs, each with its reason
    start_workers     this server's workers: by msrun, or one process a device with a rank table
    main              where the servers come from: this one, a list (ssh), Slurm, ModelArts, Volcano on Kubernetes

The script that reaches every server is the same, sent over standard input: nothing has to be copied before, and nothing
is quoted twice. SIGTERM reaches the workers, which may save; when workers fail, the others are told to end.

With `restarts`, the script instead starts one `mindgeex train --hosts`, which watches the servers (watched.py).

Covers: bash 4.4 and newer; servers that share the working folder; logs of each rank in one folder.
Does not cover: restarts with a rank table, or on Kubernetes and ModelArts, whose scheduler gives them; installing.
Sources: MindSpore documentation, "msrun" and "environment variables"; CANN documentation, HCCL_CONNECT_TIMEOUT and
HCCL_EXEC_TIMEOUT; Volcano's job plugins (VC_*); ModelArts (MA_NUM_HOSTS, VC_*).
"""

import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mindgeex.common.errors import UserError
from mindgeex.hccl_configs.msrun import GRACE_S
from mindgeex.hccl_configs.rank_table import read_rank_table
from mindgeex.hccl_configs.watched import watched_main

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
PLATFORM_VARIABLES = "RANK_TABLE_FILE RANK_ID RANK_SIZE DEVICE_ID ASCEND_DEVICE_ID MS_ROLE"
"""Left by clusters' own launchers; a worker that finds them believes them."""
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


def render(config: LaunchConfig) -> str:
    """The script, or for Kubernetes the YAML of the job, that a configuration stands for.

    Raises:
        UserError: the rank table has problems, or is not one of `nodes` servers with `devices` each.
    """
    if config.rank_table is not None:
        _check_table(config)
    if config.kind == "kubernetes":
        from mindgeex.hccl_configs.volcano import volcano_job

        return volcano_job(config, _script(config))
    return _script(config)


def _check_table(config: LaunchConfig) -> None:
    assert config.rank_table is not None
    table = read_rank_table(config.rank_table)
    for place, server in enumerate(table.servers):
        ids = [device.device_id for device in server.devices]
        if len(table.servers) != config.nodes or ids != list(range(config.devices)):
            raise UserError(
                f"{config.rank_table}: server {server.server_id} (number {place} of {len(table.servers)}) has devices "
                f"{ids}, but --nodes {config.nodes} --devices {config.devices}: they have to agree, devices from 0"
            )


TEMPLATE = r"""#!/usr/bin/env bash
{header}
# Arguments stand in single quotes as they were given.
# shellcheck disable=SC2016
set -euo pipefail

nodes={nodes}
devices={devices}
workdir={workdir}
{logs}command=({command})

settings() {{
{settings}
}}

{parts}

main "$@" </dev/null
exit
"""

STOP = r"""stop() {
  kill -TERM "${pids[@]}" 2>/dev/null || true
}

"""
"""Unless workers have their own."""

WAIT = r"""pids=()
was_signalled=0

# Waits for all; the first that fails stops the others. A signal does so, too, and is no failure if they end well.
wait_for_all() {
  local left=${#pids[@]} status=0 is_stopping=0 code
  trap 'was_signalled=1; trap "" TERM INT HUP; stop' TERM INT HUP
  while ((left > 0)); do
    code=0
    wait -n || code=$?
    if ((was_signalled)); then # nobody has ended, only the waiting has
      was_signalled=0 is_stopping=1
      continue
    fi
    if ((is_stopping && code == 127)) && [[ -z $(jobs -pr) ]]; then
      break # somebody had ended all the same
    fi
    left=$((left - 1))
    if ((code != 0 && status == 0)); then
      status=$code
      stop
    fi
  done
  return "$status"
}"""

CHECK_ASCEND = r"""  if [[ -z "${ASCEND_HOME_PATH:-}" && -f /usr/local/Ascend/ascend-toolkit/set_env.sh ]]; then
    set +u # it reads variables that may not be there
    # shellcheck disable=SC1091
    source /usr/local/Ascend/ascend-toolkit/set_env.sh
    set -u
  fi
  local found=(/dev/davinci[0-9]*)
  if [[ ! -e ${found[0]} ]] || ((${#found[@]} < devices)); then
    echo "$(hostname): fewer than $devices NPUs in /dev/davinci*" >&2
    return 2
  fi
"""

START_MSRUN = r"""# This server's workers: start_workers NUMBER-OF-SERVER ADDRESS-OF-FIRST-SERVER
start_workers() {{
  local node=$1 master=$2
  cd -- "$workdir"
  mkdir -p -- "$logs"
  unset {variables}
  settings
{check}  echo "server $node: $devices workers, logs in $logs/worker_RANK.log"
  # msrun, but SIGTERM reaches the workers, and it ends when they fail
  python -m mindgeex.hccl_configs.msrun --worker_num="$((nodes * devices))" --local_worker_num="$devices" \
    --master_addr="$master" --master_port={port} --node_rank="$node" --cluster_time_out=1800 \
    --log_dir="$logs" --join=True "${{command[@]}}" &
  pids=("$!")
  wait_for_all
}}"""

START_TABLE = r"""# This server's workers: start_workers NUMBER-OF-SERVER
start_workers() {{
  local node=$1 device rank
  cd -- "$workdir"
  mkdir -p -- "$logs"
  unset {variables}
  settings
  export RANK_TABLE_FILE={table}
  export RANK_SIZE=$((nodes * devices))
{check}  echo "server $node: $devices workers, logs in $logs/rank-RANK.log"
  for ((device = 0; device < devices; device++)); do
    rank=$((node * devices + device))
    RANK_ID=$rank DEVICE_ID=$device "${{command[@]}}" >"$logs/rank-$(printf '%05d' "$rank").log" 2>&1 &
    pids+=("$!")
  done
  local killer='' status=0
  stop() {{ # workers in the middle of a collective may not hear it
    kill -TERM "${{pids[@]}}" 2>/dev/null || true
    {{ sleep {grace}; kill -KILL "${{pids[@]}}"; }} >/dev/null 2>&1 &
    killer=$!
    disown
  }}
  wait_for_all || status=$?
  if [[ -n $killer ]]; then
    kill -KILL "$killer" || true
  fi
  return "$status"
}}"""

MAIN_LOCAL = r"""main() {
  start_workers 0 127.0.0.1
}"""

MAIN_SSH = r"""hosts=({hosts})

on_host() {{
  ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=30 "$@"
}}

main() {{
  if (($# > 0)); then # sent to a server by the lines below
    mkdir -p -- "$logs"
    echo "$$" >"$logs/server-$1.pid"
    start_workers "$@"
    return
  fi
  local node master=${{hosts[0]#*@}}
  stop() {{
    local node file
    for node in "${{!hosts[@]}}"; do # the script there passes it on
      file=$(printf '%q' "$logs/server-$node.pid")
      on_host "${{hosts[node]}}" "kill -TERM \$(cat $file)" 2>/dev/null || true
    done
  }}
  for node in "${{!hosts[@]}}"; do
    {{ on_host "${{hosts[node]}}" "bash -s -- $node $master" <"$script" 2>&1 | sed -u "s/^/[${{hosts[node]}}] /"; }} &
    pids+=("$!")
  done
  wait_for_all
}}
script=$(readlink -f -- "${{BASH_SOURCE[0]:-/dev/null}}")"""

MAIN_SLURM = r"""main() {
  if [[ ${1:-} == node ]]; then # sent to a server by the lines below
    start_workers "$SLURM_NODEID" "$2"
    return
  fi
  local master
  master=$(scontrol show hostnames "${SLURM_JOB_NODELIST:?submit this script with sbatch}" | sed -n 1p)
  # srun gives its standard input to every server.
  srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --kill-on-bad-exit=1 \
    bash -s -- node "$master" <"$script" &
  pids=("$!")
  wait_for_all
}
script=$(readlink -f -- "${BASH_SOURCE[0]:-/dev/null}")"""

MAIN_PLATFORM = r"""# VC_*: of Volcano, which ModelArts runs on, too.
main() {
  local workers=${VC_WORKER_HOSTS:-127.0.0.1} count
  count=$(tr ',' '\n' <<<"$workers" | wc -l)
  if ((count != nodes)); then
    echo "the job has $count servers ($workers), this script was made for $nodes" >&2
    return 2
  fi
  start_workers "${VC_TASK_INDEX:-0}" "${workers%%,*}"
}"""


def _script(config: LaunchConfig) -> str:
    quote = shlex.quote
    check = CHECK_ASCEND if config.device_target == "Ascend" else ""
    start, stop = "", STOP
    if config.rank_table is not None:
        start = START_TABLE.format(
            variables=PLATFORM_VARIABLES, check=check, table=quote(str(config.rank_table.absolute())), grace=GRACE_S
        )
        stop = ""
    elif not config.restarts:
        start = START_MSRUN.format(variables=PLATFORM_VARIABLES, check=check, port=config.port)
    return TEMPLATE.format(
        header="\n".join(_header(config)),
        nodes=config.nodes,
        devices=config.devices,
        workdir=quote(config.workdir),
        logs="" if config.restarts else f"logs={quote(posixpath.join(config.workdir, config.logs))}\n",
        command=" ".join(map(quote, config.command)),
        settings=_exports(config.settings),
        parts="\n\n".join(part for part in (stop + WAIT, start, _main(config)) if part),
    )


def _header(config: LaunchConfig) -> Sequence[str]:
    lines = [
        f"# {config.nodes} servers x {config.devices} workers ({config.device_target}), --kind {config.kind}; "
        "made by `mindgeex launch`",
    ]
    if config.kind == "slurm":
        lines += [
            f"#SBATCH --job-name={config.name}",
            f"#SBATCH --nodes={config.nodes + config.spare_nodes}",
            "#SBATCH --ntasks-per-node=1",
            "#SBATCH --signal=TERM@600",
            *([f"#SBATCH --gres=npu:{config.devices}"] if config.device_target == "Ascend" else []),
            *(f"#SBATCH {option}" for option in config.scheduler_options),
        ]
    return lines


def _exports(settings: Mapping[str, tuple[str, str]]) -> str:
    return "\n".join(
        f"  # {reason}\n  export {name}={shlex.quote(value)}" for name, (value, reason) in settings.items()
    )


def _main(config: LaunchConfig) -> str:
    if config.restarts:
        return watched_main(config.hosts if config.kind == "ssh" else (), config.restarts)
    if config.hosts:
        return MAIN_SSH.format(hosts=" ".join(map(shlex.quote, config.hosts)))
    if config.kind == "slurm":
        return MAIN_SLURM
    return MAIN_PLATFORM if config.kind in ("modelarts", "kubernetes") else MAIN_LOCAL
