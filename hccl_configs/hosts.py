"""The hosts file that a rank table is made from: servers and the addresses of their NPUs, in the order of the ranks.

Two ways to write a server, which may be mixed; `#` begins a comment:

    10.0.0.1 192.168.100.101 192.168.101.101     # a line: the server, then device 0, device 1, ...

    10.0.0.2                                     # or the server alone,
    address_0=192.168.100.102                    # followed by its /etc/hccn.conf as it is
    netmask_0=255.255.255.0                      # (everything there but the addresses is skipped)
    address_1=192.168.101.102
"""

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from mindgeex.common.errors import UserError

ADDRESS = re.compile(r"address_(\d+)\s*=\s*(.*)")
OTHER_HCCN_KEY = re.compile(r"\w+\s*=")


@dataclass(frozen=True)
class Host:
    """A server as its operator knows it, before anything has a rank."""

    name: str
    """What identifies the server, usually its IP address."""
    device_ips: dict[int, str] = field(default_factory=dict)
    """Number of the NPU within the server -> address of its network card."""


def read_hosts(path: Path) -> list[Host]:
    """The hosts in a file, in its order.

    Raises:
        UserError: the file is missing or not text; or, with the line: an address that is none, a device given twice,
            an address before any server, a server without devices or with another number of them than the first.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: give a list of servers, one a line: SERVER DEVICE_IP...") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text: {error}") from None

    hosts: list[Host] = []
    begins: list[int] = []
    for number, line in enumerate(lines, start=1):
        text, where = line.partition("#")[0].strip(), f"{path}, line {number}"
        if not text:
            continue
        if match := ADDRESS.fullmatch(text):
            if not hosts:
                raise UserError(f"{where}: {text!r} comes before any server: put the server's IP on a line above it")
            _add_device(hosts[-1], int(match[1]), match[2], where)
        elif not OTHER_HCCN_KEY.match(text):
            name, *addresses = text.split()
            hosts.append(Host(name))
            begins.append(number)
            for device_id, address in enumerate(addresses):
                _add_device(hosts[-1], device_id, address, where)
    _check_counts(hosts, begins, path)
    return hosts


def _add_device(host: Host, device_id: int, address: str, where: str) -> None:
    if device_id in host.device_ips:
        raise UserError(f"{where}: device {device_id} of server {host.name} is given twice: remove one")
    try:
        host.device_ips[device_id] = str(ipaddress.ip_address(address))
    except ValueError:
        raise UserError(
            f"{where}: {address!r} is not an IP address: give device {device_id} of server {host.name} "
            "the address in /etc/hccn.conf of that server"
        ) from None


def _check_counts(hosts: list[Host], begins: list[int], path: Path) -> None:
    if not hosts:
        raise UserError(f"{path}: lists no server: write one a line: SERVER DEVICE_IP...")
    usual = len(hosts[0].device_ips)
    for host, line in zip(hosts, begins, strict=True):
        where, count = f"{path}, line {line}: server {host.name}", len(host.device_ips)
        if count == 0:
            raise UserError(f"{where} has no device: add its devices' IPs, or the lines of its /etc/hccn.conf")
        if count != usual:
            raise UserError(f"{where} has {count} devices and {hosts[0].name} has {usual}: give every server as many")
