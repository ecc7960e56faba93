"""The rules of super pods, which version 1.2 of the rank table adds: servers whose NPUs share a fast network (A3).

Covers: super_pod_list against server_list, super_device_id. Does not cover: whether the ids are those that
`npu-smi info -t spod-info` shows; super pods of one's own making are allowed.
"""

from collections.abc import Iterator
from typing import Any


def super_pod_problems(tree: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the super pods of a rank table whose server_list is a list."""
    pods = tree.get("super_pod_list")
    if tree.get("version") != "1.2":
        if pods is not None:
            yield f"super_pod_list is there, but version is {tree.get('version')!r}: write '1.2', or remove the list"
        return
    if not isinstance(pods, list) or not pods:
        shown = repr(pods) if "super_pod_list" in tree else "None, the key is missing"
        yield f"super_pod_list is {shown}: version 1.2 wants each server in a super pod; or write version '1.0'"
        return
    servers = {
        s["server_id"]: s for s in tree["server_list"] if isinstance(s, dict) and isinstance(s.get("server_id"), str)
    }
    pod_names: dict[str, str] = {}
    pod_of: dict[str, str] = {}
    for position, pod in enumerate(pods):
        entry = f"super_pod_list[{position}]"
        if not isinstance(pod, dict):
            yield f"{entry} is a {type(pod).__name__}: it has to be a mapping with super_pod_id and server_list"
            continue
        name = pod.get("super_pod_id")
        if not isinstance(name, str) or not name:
            yield f"{entry}: super_pod_id is {name!r}: give a text, like '0'"
        elif name in pod_names:
            yield f"{entry}: super_pod_id {name} is already that of {pod_names[name]}: merge the two, or rename one"
        else:
            pod_names[name] = entry
        yield from _members(entry, pod, servers, pod_of)
        own = [name for name, where in pod_of.items() if where.startswith(entry + " ")]
        yield from _super_device_ids(entry, own, servers)
    for name in servers:
        if name not in pod_of:
            yield f"server {name} of server_list is in no super pod: add it to a server_list of super_pod_list"


def _members(entry: str, pod: dict[str, Any], servers: dict[str, Any], pod_of: dict[str, str]) -> Iterator[str]:
    members = pod.get("server_list")
    if not isinstance(members, list) or not members:
        yield f"{entry}: server_list is {members!r}: list the super pod's servers"
        return
    for position, member in enumerate(members):
        where = f"{entry} server_list[{position}]"
        name = member.get("server_id") if isinstance(member, dict) else None
        if not isinstance(name, str) or name not in servers:
            yield f"{where}: server_id is {name!r}: name a server of the table's own server_list"
        elif name in pod_of:
            yield f"{where}: server_id {name} is already in {pod_of[name]}: a server is in one super pod"
        else:
            pod_of[name] = where


def _super_device_ids(entry: str, names: list[str], servers: dict[str, Any]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name in names:
        devices = servers[name].get("device")
        for position, device in enumerate(devices if isinstance(devices, list) else []):
            value = device.get("super_device_id") if isinstance(device, dict) else None
            where = f"server {name} device[{position}]"
            if not isinstance(value, str) or not (value.isascii() and value.isdigit()):
                yield f"{where}: super_device_id is {value!r}: give the SDID of `npu-smi info -t spod-info`, as text"
            elif value in seen:
                yield f"{where}: super_device_id {value} is already that of {seen[value]} in {entry}: give its own"
            else:
                seen[value] = where
