"""The hosts file that a rank table is made from: servers and the addresses of their NPUs, in the order of the ranks.

Several ways to write a server, which may be mixed; `#` begins a comment:

    10.0.0.1 192.168.100.101 192.168.101.101     # a line: the server, then device 0, device 1, ...

    10.0.0.2 slots=2                             # or the server alone (slots, as in MPI, is compared),
    address_0=192.168.100.102                    # followed by its /etc/hccn.conf as it is
    netmask_0=255.255.255.0                      # (everything there but the addresses is skipped)
    address_1=192.168.101.102

    10.0.0.3                                     # or by what hccn_tool prints; without the command line before it,
    hccn_tool -i 0 -ip -g                        # an address is that of the next device
    ipaddr:192.168.100.103
    netmask:255.255.255.0

    10.0.0.4 super_pod=0                         # version 1.2: the server's super pod, and its devices' SDIDs, as
    super_device_0=37748736                      # `npu-smi info -t spod-info -i N -c C` prints them

What follows a server may stand in a file of its own instead, named like the server, in a folder.

Covers: IPv4 and IPv6. Does not cover: asking the servers (`ssh SERVER cat /etc/hccn.conf > FOLDER/SERVER`).
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from mindgeex.common.errors import UserError

ADDRESS = re.compile(r"address_(\d+)\s*=\s*(.*)")
OTHER_HCCN_KEY = re.compile(r"(?!super_device_)\w+\s*=")
TOOL_COMMAND = re.compile(r"(?:.*[\s/#$])?hccn_tool\s+-i\s+(\d+)\s+-ip\s+-g")
TOOL_ADDRESS = re.compile(r"ipaddr\s*:\s*(.*)")
TOOL_OTHER = re.compile(r"(?:netmask|gateway)\s*:")
SUPER_DEVICE = re.compile(r"super_device_(\d+)\s*=\s*(.*)")
OPTION = re.compile(r"(slots|super_pod)=(.+)")
SUFFIXES = ("", ".conf", ".txt", ".log")
"""Of a server's own file."""


@dataclass
class Host:
    """A server as its operator knows it, before anything has a rank."""

    name: str
    """What identifies the server, usually its IP address."""
    device_ips: dict[int, str] = field(default_factory=dict)
    """Number of the NPU within the server -> address of its network card."""
    super_pod_id: str | None = None
    super_device_ids: dict[int, str] = field(default_factory=dict)
    """Number of the NPU within the server -> within the super pod."""


@dataclass
class _Block:
    """A server while its lines are read."""

    host: Host
    where: str
    slots: int | None = None
    asked: int | None = None
    """Device of the hccn_tool command line before."""


def read_hosts(path: Path, folder: Path | None = None) -> list[Host]:
    """The hosts in a file, in its order.

    Args:
        path: the hosts file.
        folder: where each server has a file named like it (or with .conf, .txt or .log) with what the hosts file leaves
            out; servers that have addresses in the hosts file need none.

    Raises:
        UserError: a file is missing or not text; or, with the line: an address that is none, a device given twice,
            an address before any server, a server without devices or with another number of them than the first.
    """
    blocks: list[_Block] = []
    for where, text in _lines(path):
        if not (blocks and _take(blocks[-1], text, where)):
            if _belongs_to_a_server(text):
                raise UserError(f"{where}: {text!r} comes before any server: put the server's IP on a line above it")
            blocks.append(_begin(text, where))
    for block in blocks:
        if folder is not None and not block.host.device_ips:
            _read_own_file(block, folder)
    _check_counts(blocks, path)
    return [block.host for block in blocks]


def example_hosts(num_servers: int, num_devices: int = 8, pod_servers: int | None = None) -> list[Host]:
    """Servers of a cluster that does not exist, for examples and rehearsals: all addresses are private ones.

    Args:
        num_servers: up to 65,000.
        num_devices: of each.
        pod_servers: servers in a super pod; None: no super pods.
    """
    hosts = []
    for number in range(num_servers):
        high, low = divmod(number, 250)
        ips = {device: f"10.{100 + device}.{high}.{low + 1}" for device in range(num_devices)}
        host = Host(f"10.0.{high}.{low + 1}", ips)
        if pod_servers is not None:
            pod, place = divmod(number, pod_servers)
            numbers = {device: str(place * num_devices + device) for device in range(num_devices)}
            host = replace(host, super_pod_id=str(pod), super_device_ids=numbers)
        hosts.append(host)
    return hosts


def _lines(path: Path) -> Iterable[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: give a list of servers, one a line: SERVER DEVICE_IP...") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    for number, line in enumerate(lines, start=1):
        # A prompt may end in '#': [root@node0 ~]# hccn_tool -i 0 -ip -g
        text = line.strip() if TOOL_COMMAND.fullmatch(line.strip()) else line.partition("#")[0].strip()
        if text:
            yield f"{path}, line {number}", text


def _belongs_to_a_server(text: str) -> bool:
    return any(pattern.match(text) for pattern in (ADDRESS, TOOL_COMMAND, TOOL_ADDRESS, SUPER_DEVICE))


def _begin(text: str, where: str) -> _Block:
    name, *words = text.split()
    block = _Block(Host(name), where)
    for word in words:
        option = OPTION.fullmatch(word)
        if option is None:
            _add_device(block.host, len(block.host.device_ips), word, where)
        elif option[1] == "super_pod":
            block.host.super_pod_id = option[2]
        elif option[2].isdigit():
            block.slots = int(option[2])
        else:
            raise UserError(f"{where}: slots is {option[2]!r}: give the number of the server's devices")
    return block


def _take(block: _Block, text: str, where: str) -> bool:
    """Adds a line to a server's block; False if it begins another server."""
    if match := ADDRESS.fullmatch(text):
        _add_device(block.host, int(match[1]), match[2], where)
    elif match := TOOL_COMMAND.fullmatch(text):
        block.asked = int(match[1])
    elif match := TOOL_ADDRESS.fullmatch(text):
        device_id = len(block.host.device_ips) if block.asked is None else block.asked
        _add_device(block.host, device_id, match[1], where)
        block.asked = None
    elif match := SUPER_DEVICE.fullmatch(text):
        block.host.super_device_ids[int(match[1])] = match[2]
    else:
        return bool(OTHER_HCCN_KEY.match(text) or TOOL_OTHER.match(text))
    return True


def _read_own_file(block: _Block, folder: Path) -> None:
    candidates = [folder / (block.host.name + suffix) for suffix in SUFFIXES]
    own = next((path for path in candidates if path.is_file()), None)
    if own is None:
        raise UserError(
            f"{block.where}: server {block.host.name} has no addresses there and no file {candidates[0]}: "
            f"ssh {block.host.name} cat /etc/hccn.conf > {candidates[0]}"
        )
    for where, text in _lines(own):
        if not _take(block, text, where):
            raise UserError(
                f"{where}: {text!r} is neither a line of hccn.conf nor of `hccn_tool -i N -ip -g`: remove it"
            )


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


def _check_counts(blocks: list[_Block], path: Path) -> None:
    if not blocks:
        raise UserError(f"{path}: lists no server: write one a line: SERVER DEVICE_IP...")
    first = blocks[0].host
    usual = len(first.device_ips)
    for block in blocks:
        where, count = f"{block.where}: server {block.host.name}", len(block.host.device_ips)
        if count == 0:
            raise UserError(f"{where} has no device: add its devices' IPs, or the lines of its /etc/hccn.conf")
        if block.slots not in (None, count):
            raise UserError(f"{where} has slots={block.slots} and {count} addresses: correct one of the two")
        if count != usual:
            raise UserError(f"{where} has {count} devices and {first.name} has {usual}: give every server as many")
