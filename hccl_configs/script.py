"""Scripts that start a command on one or many servers, put together from the parts in scripts/.

    settings          what the workers' environment needs, each with its reason
    start_workers     this server's workers: by msrun, or one process a device with a rank table
    main              where the servers come from: this one, a list (ssh), Slurm, ModelArts, Volcano on Kubernetes

The script that reaches every server is the same, sent over standard input: nothing has to be copied before, and nothing
is quoted twice. SIGTERM reaches the workers, which may save; when workers fail, the others are told to end.

With `restarts`, the script instead starts one `mindgeex train --hosts`, which watches the servers.

Sources: Volcano's job plugins (VC_*); ModelArts (MA_NUM_HOSTS, VC_*).
"""

import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.hccl_configs.launch import LaunchConfig
from mindgeex.hccl_configs.msrun import GRACE_S
from mindgeex.hccl_configs.rank_table import read_rank_table

PARTS = Path(__file__).parent / "scripts"
TEMPLATE = r"""#!/usr/bin/env bash
{header}
# Arguments stand in single quotes as they were given.
# shellcheck disable=SC2016
set -euo pipefail

{variables}

settings() {{
{settings}
}}

{parts}

main "$@" </dev/null
exit
"""


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


def _script(config: LaunchConfig) -> str:
    parts = "\n".join((PARTS / f"{name}.sh").read_text(encoding="utf-8") for name in _parts(config)).strip()
    return TEMPLATE.format(
        header="\n".join(_header(config)),
        variables="\n".join(
            f"{name}={value}" for name, value in _variables(config).items() if re.search(rf"\b{name}\b", parts)
        ),
        settings=_exports(config.settings),
        parts=parts,
    )


def _parts(config: LaunchConfig) -> tuple[str, ...]:
    """Names of files in scripts/."""
    if config.restarts:
        return ("stop", "wait", *(["hosts_of_slurm"] if config.kind == "slurm" else []), "watched")
    start = ("stop", "wait", "prepare", "msrun") if config.rank_table is None else ("wait", "prepare", "rank_table")
    main = {"slurm": "on_slurm", "modelarts": "on_volcano", "kubernetes": "on_volcano"}
    return *start, "on_listed_servers" if config.hosts else main.get(config.kind, "on_this_server")


def _variables(config: LaunchConfig) -> dict[str, str]:
    """What the parts read, quoted for bash."""

    def array(words: Sequence[str]) -> str:
        return f"({' '.join(map(shlex.quote, words))})"

    return {
        "nodes": str(config.nodes),
        "devices": str(config.devices),
        "device_target": config.device_target,
        "workdir": shlex.quote(config.workdir),
        "logs": shlex.quote(posixpath.join(config.workdir, config.logs)),
        "command": array(config.command),
        "port": str(config.port),
        "table": shlex.quote(str(config.rank_table and config.rank_table.absolute())),
        "grace_s": str(GRACE_S),
        "hosts": array(config.hosts),
        "reach": "()",
        "restarts": str(config.restarts),
    }


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
