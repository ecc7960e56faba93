"""`mindgeex launch`: a script that starts a command on one or many servers."""

from pathlib import Path
from typing import Annotated, Literal

import tyro


def launch(
    command: Annotated[tuple[str, ...], tyro.conf.Positional],
    kind: Literal["msrun", "ssh", "rank-table", "slurm", "kubernetes", "modelarts"] = "msrun",
    nodes: int = 1,
    devices: int = 8,
    hosts: tuple[str, ...] = (),
    rank_table: Path | None = None,
    workdir: Path = Path("."),
    logs: str = "logs",
    device_target: Literal["Ascend", "CPU"] = "Ascend",
    port: int = 8118,
    name: str = "mindgeex",
    env: tuple[str, ...] = (),
    scheduler_options: tuple[str, ...] = (),
    image: str | None = None,
    claim: str | None = None,
    restarts: int = 0,
    spare_nodes: int = 0,
    out: Path | None = None,
    print: bool = False,  # noqa: A002
) -> None:
    """Write a script that starts a command on one or many servers; printed, unless --out names a file.

    Args:
        command: what runs in every worker, after `--`: a command of mindgeex, such as train --recipe codegeex_13b, or
            python and its arguments.
        kind: msrun: this server. ssh: the servers of --hosts. rank-table: this server or --hosts, without msrun. slurm,
            kubernetes (Volcano) and modelarts: the servers that those give.
        nodes: servers.
        devices: workers of each server.
        hosts: servers to reach with ssh, the first one first; with --restarts, those beyond --nodes are spare ones.
        rank_table: table of --kind rank-table, at the same path on all servers.
        workdir: folder that the workers run in, the same on every server.
        logs: folder of the logs, absolute or below workdir.
        device_target: CPU: no NPUs are looked for.
        port: of MindSpore's scheduler, on the first server.
        name: of the job.
        env: NAME=VALUE each: more variables of the workers, or other values.
        scheduler_options: more options of sbatch, in one word each, such as --scheduler-options=--partition=npu.
        image: container image (kubernetes).
        claim: persistent volume claim that is mounted at workdir (kubernetes).
        restarts: how often a `train` goes on from its last checkpoint after a failure; it is watched then (ssh, slurm).
        spare_nodes: further servers to ask Slurm for, which take the place of lost ones at a restart.
        out: file to write; made executable.
        print: print the script even if it is written.
    """
    import sys

    from mindgeex.cli.main import COMMANDS
    from mindgeex.common.files import atomic_file
    from mindgeex.hccl_configs.launch import LaunchConfig
    from mindgeex.hccl_configs.script import render

    if command and command[0] in {words.split()[0] for words in COMMANDS}:
        command = ("python", "-m", "mindgeex.cli.main", *command)
    config = LaunchConfig(
        kind, command, nodes, devices, str(workdir.absolute()), logs, device_target, port, name, hosts, rank_table,
        env, scheduler_options, image, claim, restarts, spare_nodes,
    )  # fmt: skip
    text = render(config)
    if out is not None:
        with atomic_file(out) as partial:
            partial.write_text(text, encoding="utf-8")
            partial.chmod(0o755)
    if print or out is None:
        sys.stdout.write(text)
    else:
        sys.stdout.write(f"{out}: {config.nodes} servers x {config.devices} workers\n")
