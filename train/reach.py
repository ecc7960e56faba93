"""Which hosts a run is on, the command that starts a shell there, and the variables that go along."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from mindgeex.common.errors import UserError

SSH = "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=10 {host}"
SHELL = ("sh", "-s")
HOST = re.compile(r"[A-Za-z0-9_.:@\[\]-]+")
FORWARDED = re.compile(r"(ASCEND|HCCL|MS|GLOG|OMP|PYTHON|PROTOCOL_BUFFERS)_?\w*|PATH|LD_LIBRARY_PATH|LD_PRELOAD")
"""Variables that go along to other hosts."""
OF_A_LAUNCHER = ("RANK_TABLE_FILE", "RANK_ID", "RANK_SIZE", "DEVICE_ID", "ASCEND_DEVICE_ID", "MS_ROLE")
"""Left by clusters' own launchers; a worker that finds them believes them."""


@dataclass(frozen=True)
class Reach:
    """Which hosts, and how a shell is started there."""

    hosts: tuple[str, ...] = ()
    """Their names, the first one first; none: this machine."""
    per_host: int = 1
    """Workers of each."""
    command: str = SSH
    """Words as a shell would split them; {host} stands for the name."""

    def __post_init__(self) -> None:
        for host in self.hosts:
            if not HOST.fullmatch(host) or host.startswith("-"):
                raise UserError(f"--hosts {host!r}: give a host's name or address, such as user@10.0.0.1")
        if doubled := [host for host in self.hosts if self.hosts.count(host) > 1]:
            raise UserError(f"--hosts: {doubled[0]} is there twice: name every host once")
        if self.hosts and "{host}" not in self.command:
            raise UserError(f"--reach {self.command!r}: write {{host}} where the host's name belongs")

    @property
    def world(self) -> int:
        """Workers of all hosts."""
        return self.per_host * max(1, len(self.hosts))

    def shell(self, host: str) -> tuple[str, ...]:
        """The command that runs a shell on a host."""
        return (*(word.replace("{host}", host) for word in shlex.split(self.command)), *SHELL)


def forwarded(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that other hosts are sent."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if FORWARDED.fullmatch(name) and name not in OF_A_LAUNCHER
    }
