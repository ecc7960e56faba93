"""Rank tables of HCCL: the nouns, how one is made from a list of hosts or merged from several, and the JSON.

Covers: version 1.0 (910, Atlas A2), 1.2 (super pods of Atlas A3). Does not cover: `msrun`, which needs no rank table;
optional keys (ports, backup addresses): they are not kept when tables are merged.
Source of the layout: CANN documentation, HCCL user guide, "rank table configuration".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.common.files import write_json
from mindgeex.hccl_configs.check import find_problems, read_tree
from mindgeex.hccl_configs.hosts import Host


@dataclass(frozen=True)
class Device:
    """One NPU, or one die of it where each is a device of its own (Atlas A3)."""

    device_id: int
    """Its number within the server, the N of /dev/davinciN."""
    device_ip: str
    """Address of the NPU's own network card, from /etc/hccn.conf of its server; not the server's address."""
    rank_id: int
    """Its number within the cluster, from 0."""
    super_device_id: str | None = None
    """Its number within the super pod, the SDID of `npu-smi info -t spod-info`."""


@dataclass(frozen=True)
class Server:
    """One machine and its devices."""

    server_id: str
    """Unique name, usually the machine's IP address; shorter than 64 characters."""
    devices: tuple[Device, ...]
    """In ascending order of device_id."""
    super_pod_id: str | None = None

    @property
    def ranks(self) -> tuple[int, ...]:
        """Of its devices, in their order."""
        return tuple(device.rank_id for device in self.devices)


@dataclass(frozen=True)
class RankTable:
    """Every server of the cluster, in the order of their ranks."""

    servers: tuple[Server, ...]

    @property
    def num_devices(self) -> int:
        """How many NPUs, and so how many ranks, the cluster has."""
        return sum(len(server.devices) for server in self.servers)

    @property
    def version(self) -> str:
        """1.2 if any server is in a super pod."""
        return "1.2" if any(server.super_pod_id is not None for server in self.servers) else "1.0"

    def as_tree(self) -> dict[str, Any]:
        """The table as HCCL reads it; every number is text there."""
        tree: dict[str, Any] = {
            "version": self.version,
            "server_count": str(len(self.servers)),
            "server_list": [
                {"server_id": server.server_id, "device": [_device_tree(device) for device in server.devices]}
                for server in self.servers
            ],
        }
        if self.version == "1.2":
            pods: dict[str, list[dict[str, str]]] = {}
            for server in self.servers:
                if server.super_pod_id is not None:
                    pods.setdefault(server.super_pod_id, []).append({"server_id": server.server_id})
            tree["super_pod_list"] = [{"super_pod_id": pod, "server_list": members} for pod, members in pods.items()]
        return tree | {"status": "completed"}


def make_rank_table(hosts: Sequence[Host]) -> RankTable:
    """Numbers the devices of all hosts, host after host, from 0.

    Neighbouring ranks share a server, so model parallelism, whose groups are neighbouring ranks, stays inside one.
    """
    servers, rank = [], 0
    for host in hosts:
        devices = tuple(
            Device(i, ip, rank + at, host.super_device_ids.get(i))
            for at, (i, ip) in enumerate(sorted(host.device_ips.items()))
        )
        servers.append(Server(host.name, devices, host.super_pod_id))
        rank += len(devices)
    return RankTable(tuple(servers))


def read_rank_table(path: Path) -> RankTable:
    """A rank table from its file.

    Raises:
        UserError: the file is missing or not JSON, or it has problems that `mindgeex hccl check` would find, subnets
            aside (the first one is given).
    """
    tree, comments = read_tree(path)
    problems = [f"line {line}: {text!r} is a comment" for line, text in comments] + find_problems(tree, subnet_bits=0)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"{path}: {problems[0]}{more}: `mindgeex hccl check {path}` lists all")
    return _from_tree(tree)


def merge_rank_tables(paths: Sequence[Path]) -> RankTable:
    """One table of the servers of several, in their order; ranks are numbered anew.

    Raises:
        UserError: a file is missing, not JSON or has problems, numbers of ranks aside (the first one is given).
    """
    servers: list[Server] = []
    for path in paths:
        tree, _ = read_tree(path)
        _renumber(tree)
        if problems := find_problems(tree, subnet_bits=0):
            raise UserError(f"{path}: {problems[0]}: correct it before it is merged (`mindgeex hccl check {path}`)")
        servers += _from_tree(tree).servers
    tree = RankTable(tuple(servers)).as_tree()
    _renumber(tree)
    if problems := find_problems(tree, subnet_bits=0):
        raise UserError(f"{', '.join(map(str, paths))} do not go together: {problems[0]}")
    return _from_tree(tree)


def write_rank_table(table: RankTable, path: Path, subnet_bits: int = 0) -> None:
    """Writes the table's JSON, atomically.

    Raises:
        UserError: the table has problems that `mindgeex hccl check` would find, or the file cannot be written.
    """
    problems = find_problems(table.as_tree(), subnet_bits)
    if problems:
        raise UserError(f"{path} was not written:\n  " + "\n  ".join(problems))
    write_json(path, table.as_tree())


def _device_tree(device: Device) -> dict[str, str]:
    tree = {"device_id": str(device.device_id), "device_ip": device.device_ip, "rank_id": str(device.rank_id)}
    if device.super_device_id is not None:
        tree["super_device_id"] = device.super_device_id
    return tree


def _from_tree(tree: dict[str, Any]) -> RankTable:
    """A table that has no problems; servers in the order of their ranks."""
    pods = {
        member["server_id"]: pod["super_pod_id"]
        for pod in tree.get("super_pod_list", ())
        for member in pod["server_list"]
    }
    servers = [
        Server(
            server["server_id"],
            tuple(
                Device(int(d["device_id"]), d.get("device_ip", ""), int(d["rank_id"]), d.get("super_device_id"))
                for d in server["device"]
            ),
            pods.get(server["server_id"]),
        )
        for server in tree["server_list"]
    ]
    return RankTable(tuple(sorted(servers, key=lambda server: server.ranks)))


def _renumber(tree: Any) -> None:
    """Numbers every device that can be found, from 0."""
    servers = tree.get("server_list") if isinstance(tree, dict) else None
    rank = 0
    for server in servers if isinstance(servers, list) else []:
        devices = server.get("device") if isinstance(server, dict) else None
        for device in devices if isinstance(devices, list) else []:
            if isinstance(device, dict):
                device["rank_id"] = str(rank)
                rank += 1
