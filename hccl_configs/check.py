"""Finds mistakes in a rank table before a thousand processes do: all of them, each with its entry and the remedy.

Covers: what the file alone can show, in version 1.0.
Does not cover: whether the addresses answer, whether this machine is one of the servers, whether the links work.
"""

import ipaddress
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mindgeex.common.files import read_json

VERSION = "1.0"
"""The only layout written and understood here."""
MAX_SERVER_ID_CHARS = 63
MAX_DIGITS = 18
"""Of a number; longer ones are no number of a device."""
Seen = dict[Any, str]
"""A value that has to be unique -> the entry that has it already."""


def check_rank_table(path: Path) -> list[str]:
    """The problems of a rank table file, in the order of the file; an empty list if it is sound.

    Raises:
        UserError: the file is missing, or is not JSON (with the line).
    """
    return find_problems(read_json(path))


def find_problems(tree: Any) -> list[str]:
    """The problems of a rank table that was read from JSON."""
    return list(_problems(tree))


def _problems(tree: Any) -> Iterator[str]:
    if not isinstance(tree, dict):
        yield f"the file holds a {type(tree).__name__}: it has to be a mapping with version, server_count, server_list"
        return
    if tree.get("version") != VERSION:
        yield f"version is {tree.get('version')!r}: only {VERSION!r}, as text, is known here"
    if tree.get("status") != "completed":
        yield f"status is {tree.get('status')!r}: HCCL waits until it is 'completed'"
    servers = tree.get("server_list")
    if not isinstance(servers, list) or not servers:
        yield f"server_list is {servers!r}: it has to be a list of at least one server"
        return
    if tree.get("server_count") != str(len(servers)):
        yield f"server_count is {tree.get('server_count')!r}: server_list has {len(servers)}, so write '{len(servers)}'"

    names: Seen = {}
    addresses: Seen = {}
    ranks: Seen = {}
    for position, server in enumerate(servers):
        entry = f"server_list[{position}]"
        if not isinstance(server, dict):
            yield f"{entry} is a {type(server).__name__}: it has to be a mapping with server_id and device"
            continue
        yield from _server_problems(entry, server, names, addresses, ranks)
    yield from _rank_gaps(ranks)


def _server_problems(entry: str, server: dict[str, Any], names: Seen, addresses: Seen, ranks: Seen) -> Iterator[str]:
    name, devices = server.get("server_id"), server.get("device")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_SERVER_ID_CHARS:
        yield f"{entry}: server_id is {name!r}: give a text of 1 to {MAX_SERVER_ID_CHARS} characters"
    else:
        yield from _duplicate("server_id", name, entry, names, "merge the two, or rename one")
        entry = f"{entry} ({name})"
    if not isinstance(devices, list) or not devices:
        yield f"{entry}: device is {devices!r}: list the server's devices, or remove the server"
        return

    previous = -1
    for position, device in enumerate(devices):
        where = f"{entry} device[{position}]"
        if not isinstance(device, dict):
            yield f"{where} is a {type(device).__name__}: it has to be a mapping of device_id, device_ip, rank_id"
            continue
        device_id = _whole_number(device.get("device_id"))
        if device_id is None:
            yield f"{where}: device_id is {device.get('device_id')!r}: give the number as text, like '0'"
        elif device_id <= previous:
            yield f"{where}: device_id {device_id} comes after {previous}: list devices in ascending order, each once"
        previous = previous if device_id is None else max(previous, device_id)
        yield from _address_problems(where, device.get("device_ip"), addresses)
        rank_id = _whole_number(device.get("rank_id"))
        if rank_id is None:
            yield f"{where}: rank_id is {device.get('rank_id')!r}: give the number as text, like '0'"
        else:
            yield from _duplicate("rank_id", rank_id, where, ranks, "number the devices 0, 1, 2, ... over all servers")


def _address_problems(where: str, address: Any, addresses: Seen) -> Iterator[str]:
    remedy = "take it from /etc/hccn.conf of that server"
    if not address:
        yield f"{where} has no device_ip: {remedy}"
        return
    try:
        parsed = ipaddress.ip_address(address if isinstance(address, str) else "")
    except ValueError:
        yield f"{where}: device_ip {address!r} is not an IP address: {remedy}"
        return
    yield from _duplicate("device_ip", str(parsed), where, addresses, remedy)


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


def _whole_number(value: Any) -> int | None:
    plain = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS
    return int(value) if plain else None
