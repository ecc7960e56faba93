"""The rank table of HCCL's version 1.0: the nouns, how one is made from a list of hosts, and its JSON.

Covers: clusters of Ascend servers whose devices have a network address of their own (910, Atlas A2).
Does not cover: version 1.2 (super pods of Atlas A3); `msrun`, which needs no rank table.
Source of the layout: CANN documentation, HCCL user guide, "rank table configuration".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.common.files import write_json
from mindgeex.hccl_configs.check import VERSION, find_problems
from mindgeex.hccl_configs.hosts import Host


@dataclass(frozen=True)
class Device:
    """One NPU."""

    device_id: int
    """Its number within the server, the N of /dev/davinciN."""
    device_ip: str
    """Address of the NPU's own network card, from /etc/hccn.conf of its server; not the server's address."""
    rank_id: int
    """Its number within the cluster, from 0."""


@dataclass(frozen=True)
class Server:
    """One machine and its devices."""

    server_id: str
    """Unique name, usually the machine's IP address; shorter than 64 characters."""
    devices: tuple[Device, ...]
    """In ascending order of device_id."""


@dataclass(frozen=True)
class RankTable:
    """Every server of the cluster, in the order of their ranks."""

    servers: tuple[Server, ...]

    @property
    def num_devices(self) -> int:
        """How many NPUs, and so how many ranks, the cluster has."""
        return sum(len(server.devices) for server in self.servers)

    def as_tree(self) -> dict[str, Any]:
        """The table as HCCL reads it; every number is text there."""
        return {
            "version": VERSION,
            "server_count": str(len(self.servers)),
            "server_list": [
                {
                    "server_id": server.server_id,
                    "device": [
                        {"device_id": str(d.device_id), "device_ip": d.device_ip, "rank_id": str(d.rank_id)}
                        for d in server.devices
                    ],
                }
                for server in self.servers
            ],
            "status": "completed",
        }


def make_rank_table(hosts: Sequence[Host]) -> RankTable:
    """Numbers the devices of all hosts, host after host, from 0.

    Neighbouring ranks share a server, so model parallelism, whose groups are neighbouring ranks, stays inside one.
    """
    servers, rank = [], 0
    for host in hosts:
        devices = tuple(Device(i, ip, rank + at) for at, (i, ip) in enumerate(sorted(host.device_ips.items())))
        servers.append(Server(host.name, devices))
        rank += len(devices)
    return RankTable(tuple(servers))


def write_rank_table(table: RankTable, path: Path) -> None:
    """Writes the table's JSON, atomically.

    Raises:
        UserError: the table has problems that `mindgeex hccl check` would find, or the file cannot be written.
    """
    problems = find_problems(table.as_tree())
    if problems:
        raise UserError(f"{path} was not written:\n  " + "\n  ".join(problems))
    write_json(path, table.as_tree())
