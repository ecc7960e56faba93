"""What the addresses of a rank table tell about the networks behind them.

Covers: devices of one number that are not all in one subnet, names of servers that nobody knows.
Does not cover: whether an address answers (`hccn_tool -i N -ping -g address ...` on a server does).
"""

import ipaddress
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SUBNET_BITS = 24
"""Prefix of an IPv4 subnet, as in hccn.conf's usual netmask, 255.255.255.0; IPv6 addresses have 64."""
IPV6_SUBNET_BITS = 64
MAX_NAMED = 8
"""Entries named of one device number; the rest is counted."""
QUESTIONS_AT_ONCE = 32


def subnet_problems(servers: list[Any], subnet_bits: int) -> Iterator[str]:
    """Devices of one number (those of all servers share a switch) that are in another subnet than most of them.

    Args:
        servers: server_list as it was read.
        subnet_bits: length of an IPv4 prefix; 0: networks are routed, there is nothing to find.
    """
    if not subnet_bits:
        return
    positions: dict[str, list[tuple[str, str]]] = {}
    for number, server in enumerate(servers):
        devices = server.get("device") if isinstance(server, dict) else None
        known = [d for d in devices if isinstance(d, dict)] if isinstance(devices, list) else []
        if len({str(device.get("device_id")) for device in known}) < len(known):
            continue  # who is who is not clear
        for position, device in enumerate(known):
            if subnet := _subnet(device.get("device_ip"), subnet_bits):
                where = f"server_list[{number}] ({server.get('server_id')}) device[{position}]: {device['device_ip']}"
                positions.setdefault(str(device.get("device_id")), []).append((where, subnet))
    # Two servers have no majority; but where their other devices agree, those that do not are a mistake.
    is_usual_to_agree = any(len(found) > 1 == len({subnet for _, subnet in found}) for found in positions.values())
    for device_id, found in positions.items():
        (usual, count), *others = Counter(subnet for _, subnet in found).most_common()
        strangers = [where for where, subnet in found if subnet != usual]
        if others and (count > 1 or is_usual_to_agree):
            more = f" and {len(strangers) - MAX_NAMED} more" if len(strangers) > MAX_NAMED else ""
            yield (
                f"device_id {device_id} has mixed subnets: {', '.join(strangers[:MAX_NAMED])}{more}; {count} of "
                f"{len(found)} servers are in {usual}: correct device_ip, or say --subnet-bits 0 if they are routed"
            )


def _subnet(address: Any, bits: int) -> str | None:
    try:
        parsed = ipaddress.ip_address(address if isinstance(address, str) else "")
    except ValueError:
        return None
    return str(ipaddress.ip_network((parsed, bits if parsed.version == 4 else IPV6_SUBNET_BITS), strict=False))


def unknown_names(tree: Any) -> list[str]:
    """The servers that are given by a name for which the system finds no address."""
    servers = tree.get("server_list") if isinstance(tree, dict) else None
    named = [
        (position, server["server_id"])
        for position, server in enumerate(servers if isinstance(servers, list) else [])
        if isinstance(server, dict) and isinstance(server.get("server_id"), str)
    ]
    with ThreadPoolExecutor(QUESTIONS_AT_ONCE) as pool:
        known = list(pool.map(_is_known, (name for _, name in named)))
    return [
        f"server_list[{position}]: server_id {name!r} has no address (DNS, /etc/hosts): give the IP, or make it known"
        for (position, name), is_known in zip(named, known, strict=True)
        if not is_known
    ]


def _is_known(name: str) -> bool:
    try:
        return bool(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return False
