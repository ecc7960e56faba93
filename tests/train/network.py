"""Hosts as network namespaces, each with an address of its own, all on one bridge; named like their addresses.

Covers: Linux, as root, with `ip`. What is not the real thing: all share this machine's disk and processors, and `ssh`,
in whose place a script runs the command in the namespace of that name.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SSH = """#!/bin/sh
while [ "$1" = -o ]; do shift 2; done
host=$1; shift
exec ip netns exec "${host#*@}" "$@"
"""


@dataclass(frozen=True)
class Network:
    """Some hosts that reach each other."""

    hosts: tuple[str, ...]
    switch: str
    tools: Path
    """Folder with the stand-in for ssh."""

    @property
    def environment(self) -> dict[str, str]:
        """Of a supervisor."""
        return {**os.environ, "PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}"}

    def cut(self, host: str) -> None:
        """Pulls a host's cable out of the switch."""
        ip("-n", self.switch, "link", "set", f"port{self.hosts.index(host)}", "down")

    def mend(self, host: str) -> None:
        """Plugs it in again."""
        ip("-n", self.switch, "link", "set", f"port{self.hosts.index(host)}", "up")

    def processes(self) -> list[str]:
        """Of all hosts."""
        return [pid for host in self.hosts for pid in ip("netns", "pids", host).split()]


def ip(*words: str) -> str:
    """What iproute2's `ip` says."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def network(folder: Path, count: int) -> Iterator[Network]:
    """So many hosts; the test is skipped where none can be made.

    Args:
        folder: for the stand-in.
        count: of hosts.
    """
    free = (
        n % 250 for n in range(os.getpid(), os.getpid() + 250) if not Path(f"/run/netns/mindgeex-{n % 250}").exists()
    )
    number = next(free)  # a test that was killed leaves its namespaces
    switch, hosts = f"mindgeex-{number}", tuple(f"10.77.{number}.{place}" for place in range(1, count + 1))
    made: list[str] = []
    try:
        for name in (switch, *hosts):
            ip("netns", "add", name)
            made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", switch, "link", "set", "bridge", "up")
        for place, host in enumerate(hosts):
            ip("-n", switch, "link", "add", f"port{place}", "type", "veth", "peer", "name", "eth0", "netns", host)
            ip("-n", switch, "link", "set", f"port{place}", "master", "bridge", "up")
            ip("-n", host, "address", "add", f"{host}/24", "dev", "eth0")
            ip("-n", host, "link", "set", "eth0", "up")
    except (OSError, subprocess.CalledProcessError) as error:
        _remove(made)
        pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', None) or error}")
    tools = folder / "tools"
    tools.mkdir()
    (tools / "ssh").write_text(SSH)
    (tools / "ssh").chmod(0o755)
    try:
        yield Network(hosts, switch, tools)
    finally:
        _remove(made)


def _remove(names: list[str]) -> None:
    for name in names:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            ip("netns", "delete", name)
