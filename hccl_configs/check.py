"""Finds mistakes in a rank table before a thousand processes do: all of them, each with its entry and the remedy.

Covers: what the file alone can show, in versions 1.0 and 1.2; with `resolve`, whether the servers' names are known.
Does not cover: whether the addresses answer, whether this machine is one of the servers, whether the links work.
Source of the rules: CANN documentation, HCCL user guide, "rank table configuration" (Atlas A2 and Atlas A3), which
wants ranks without gaps that do not interleave between servers, and device_ip wherever more than one super pod works.
"""

import ipaddress
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.hccl_configs.json_comments import split_comments
from mindgeex.hccl_configs.network import SUBNET_BITS, subnet_problems, unknown_names
from mindgeex.hccl_configs.super_pods import super_pod_problems

VERSIONS = ("1.0", "1.2")
"""1.2 knows super pods."""
MAX_SERVER_ID_CHARS = 63
MAX_DIGITS = 18
"""Of a number; longer ones are no number of a device."""
USUAL_DEVICES, MOST_DEVICES = 8, 16
"""Of a server; a table whose servers have more than the usual number, or one of super pods, may go up to the most."""
Seen = dict[Any, str]
"""A value that has to be unique -> the entry that has it already."""


def check_rank_table(path: Path, subnet_bits: int = SUBNET_BITS, resolve: bool = False) -> list[str]:
    """The problems of a rank table file, in the order of the file; an empty list if it is sound.

    Args:
        path: the JSON file.
        subnet_bits: length of the prefix that devices of one number share; 0 where their networks are routed.
        resolve: ask the system for the addresses of servers that are given by name.

    Raises:
        UserError: the file is missing, or is not JSON even without its comments (with the line).
    """
    tree, comments = read_tree(path)
    problems = [f"line {line}: {text!r} is a comment, which JSON does not have: remove it" for line, text in comments]
    problems += find_problems(tree, subnet_bits)
    return problems + unknown_names(tree) if resolve else problems


def read_tree(path: Path) -> tuple[Any, list[tuple[int, str]]]:
    """What a JSON file holds, and line and text of the comments that it should not have.

    Raises:
        UserError: the file is missing or not JSON (with line and column).
    """
    try:
        text, comments = split_comments(path.read_text(encoding="utf-8"))
        return json.loads(text), comments
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from None


def find_problems(tree: Any, subnet_bits: int = SUBNET_BITS) -> list[str]:
    """The problems of a rank table that was read from JSON."""
    return list(_problems(tree, subnet_bits))


def _problems(tree: Any, subnet_bits: int) -> Iterator[str]:
    if not isinstance(tree, dict):
        yield f"the file holds a {type(tree).__name__}: it has to be a mapping with version, server_count, server_list"
        return
    if tree.get("version") not in VERSIONS:
        yield f"version is {_shown(tree, 'version')}: write '1.0', as text, or '1.2' for super pods"
    if tree.get("status") != "completed":
        yield f"status is {_shown(tree, 'status')}: HCCL waits until it is 'completed'"
    servers = tree.get("server_list")
    if not isinstance(servers, list) or not servers:
        yield f"server_list is {_shown(tree, 'server_list')}: it has to be a list of at least one server"
        return
    if tree.get("server_count") != str(len(servers)):
        yield (
            f"server_count is {_shown(tree, 'server_count')}: server_list has {len(servers)}, "
            f"so write '{len(servers)}', as text"
        )
    yield from _ServerCheck(tree, servers).problems()
    yield from super_pod_problems(tree)
    yield from subnet_problems(servers, subnet_bits)


class _ServerCheck:
    """Walks server_list, and remembers what has to be unique in all of it."""

    def __init__(self, tree: dict[str, Any], servers: list[Any]):
        self.servers = servers
        self.names: Seen = {}
        self.addresses: Seen = {}
        self.ranks: Seen = {}
        self.are_ranks_known = True
        """Whether every device has one that can be read."""
        counts = Counter(count for server in servers if (count := len(_devices(server))))
        self.usual_count = counts.most_common(1)[0][0] if counts else 0
        pods = tree.get("super_pod_list") if tree.get("version") == "1.2" else None
        self.needs_address = not (isinstance(pods, list) and len(pods) == 1)
        many = tree.get("version") == "1.2" or self.usual_count > USUAL_DEVICES
        self.max_devices = MOST_DEVICES if many else USUAL_DEVICES

    def problems(self) -> Iterator[str]:
        before = ""
        for position, server in enumerate(self.servers):
            entry = f"server_list[{position}]"
            if isinstance(server, dict):
                for problem in self.of_server(entry, server):
                    before = problem
                    yield problem
            else:
                before = f"{entry} is a {type(server).__name__}: it has to be a mapping with server_id and device"
                yield before
        gap = list(_rank_gaps(self.ranks)) if self.are_ranks_known else []
        yield from gap
        if not (before or gap):
            yield from _rank_order(self.servers)

    def of_server(self, entry: str, server: dict[str, Any]) -> Iterator[str]:
        name, devices = server.get("server_id"), server.get("device")
        if not isinstance(name, str) or not 0 < len(name) <= MAX_SERVER_ID_CHARS:
            shown = _shown(server, "server_id")
            yield f"{entry}: server_id is {shown}: give a text of 1 to {MAX_SERVER_ID_CHARS} characters"
        else:
            yield from _duplicate("server_id", name, entry, self.names, "merge the two, or rename one")
            entry = f"{entry} ({name})"
        if not isinstance(devices, list) or not devices:
            yield f"{entry}: device is {_shown(server, 'device')}: list the server's devices, or remove the server"
            self.are_ranks_known = False
            return
        count = len(_devices(server))
        if count and count != self.usual_count:
            yield (
                f"{entry}: device lists {count} devices, most servers have {self.usual_count}: "
                "list as many everywhere, or leave the server out"
            )
        previous: int | None = -1
        for position, device in enumerate(devices):
            where = f"{entry} device[{position}]"
            if not isinstance(device, dict):
                yield f"{where} is a {type(device).__name__}: it has to be a mapping of device_id, device_ip, rank_id"
                continue
            yield from self.of_device(where, device, previous)
            device_id = whole_number(device.get("device_id"))
            if previous is not None and device_id is not None and device_id < self.max_devices:
                previous = device_id if device_id > previous else None  # one line says that the order is wrong

    def of_device(self, where: str, device: dict[str, Any], previous: int | None) -> Iterator[str]:
        device_id, rank_id = whole_number(device.get("device_id")), whole_number(device.get("rank_id"))
        if device_id is None:
            yield f"{where}: device_id is {_shown(device, 'device_id')}: give the number as text, like '0'"
        elif device_id >= self.max_devices:
            yield (
                f"{where}: device_id {device_id} is outside of 0 to {self.max_devices - 1}: give the N of the device's "
                "/dev/davinciN"
            )
        elif previous is not None and device_id <= previous:
            yield f"{where}: device_id {device_id} comes after {previous}: list devices in ascending order, each once"
        yield from self.of_address(where, device)
        if rank_id is None:
            self.are_ranks_known = False
            yield f"{where}: rank_id is {_shown(device, 'rank_id')}: give the number as text, like '0'"
        else:
            remedy = "number the devices 0, 1, 2, ... over all servers"
            yield from _duplicate("rank_id", rank_id, where, self.ranks, remedy)

    def of_address(self, where: str, device: dict[str, Any]) -> Iterator[str]:
        remedy, address = "take it from /etc/hccn.conf of that server", device.get("device_ip")
        if not address:
            if self.needs_address:
                yield f"{where} has no device_ip: {remedy}"
            return
        try:
            parsed = ipaddress.ip_address(address if isinstance(address, str) else "")
        except ValueError:
            yield f"{where}: device_ip {address!r} is not an IP address: {remedy}"
            return
        yield from _duplicate("device_ip", str(parsed), where, self.addresses, remedy)


def whole_number(value: Any) -> int | None:
    """The number that a text of plain digits stands for; None for anything else."""
    plain = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS
    return int(value) if plain else None


def _devices(server: Any) -> list[dict[str, Any]]:
    devices = server.get("device") if isinstance(server, dict) else None
    return [device for device in devices if isinstance(device, dict)] if isinstance(devices, list) else []


def _shown(tree: dict[str, Any], key: str) -> str:
    return repr(tree[key]) if key in tree else "None, the key is missing"


def _duplicate(key: str, value: Any, where: str, seen: Seen, remedy: str) -> Iterator[str]:
    if value in seen:
        yield f"{where}: {key} {value} is already that of {seen[value]}: {remedy}"
    else:
        seen[value] = where


def _rank_gaps(ranks: Seen) -> Iterator[str]:
    num_missing = max(ranks, default=-1) + 1 - len(ranks)
    if num_missing:
        missing = itertools.islice((rank for rank in itertools.count() if rank not in ranks), min(num_missing, 10))
        shown = ", ".join(map(str, missing)) + (f" and {num_missing - 10} more" if num_missing > 10 else "")
        yield (
            f"rank_id goes up to {max(ranks)} and skips {shown}: number the devices from 0 without gaps "
            "(`mindgeex hccl make` does)"
        )


def _rank_order(servers: list[dict[str, Any]]) -> Iterator[str]:
    """Servers whose ranks are not neighbours in the order of devices; all else about the ranks is right by now."""
    for position, server in enumerate(servers):
        ranks = [int(device["rank_id"]) for device in server["device"]]
        if ranks != list(range(ranks[0], ranks[0] + len(ranks))):
            yield (
                f"server_list[{position}] ({server['server_id']}): rank_id of its devices are {ranks}: give neighbours "
                f"in the order of devices, such as {min(ranks)} to {min(ranks) + len(ranks) - 1}, may not be split "
                "between servers"
            )
