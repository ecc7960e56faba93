"""What a sandbox sees of the host, as bubblewrap's options, and how root may show what nobody else can reach.

Covers: the system's programs and libraries, and folders asked for (toolchains), read-only. Programs never run as root:
limits on processes do not hold for root, even in a user namespace. But a toolchain may lie in root's home, where nobody
must not go. So root makes a mount namespace that shows just these folders, once, and every sandbox is started as nobody
within it (launcher.py).
Does not cover: /etc, /var, /home, /root, /opt, other mounts: they are simply not there.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from mindgeex.common.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
"""The installed rooms, with the problems' solutions: hidden where they lie within a folder that is shown."""
SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ld.so.cache")


def mount_options(folders: Mapping[str, str]) -> list[str]:
    """Options of bubblewrap that show the system and some folders, read-only.

    Args:
        folders: folder or file of the host -> where it is seen inside.
    """
    options = ["--perms", "0755", "--dir", "/etc"]
    for path in SYSTEM_FOLDERS:
        if os.path.islink(path) and path.count("/") == 1:
            options += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            options += _show(path, path)
    parents = {str(parent) for inside in folders.values() for parent in Path(inside).parents} - {"/", "/etc"}
    for folder in sorted(parents):
        options += ["--perms", "0755", "--dir", folder]
    for outside, inside in folders.items():
        options += _show(outside, inside)
    return options


def _show(outside: str, inside: str) -> list[str]:
    options = ["--ro-bind", outside, inside]
    if PROJECT.is_relative_to(os.path.realpath(outside)):
        hidden = str(Path(inside) / PROJECT.relative_to(os.path.realpath(outside)))
        options += ["--tmpfs", hidden, "--remount-ro", hidden]
    return options


def stage(bwrap: str, options: list[str], work: str, environment: Mapping[str, str]) -> BinaryIO:
    """Makes a mount namespace with these mounts; it lives as long as the returned handle. Needs root.

    Args:
        bwrap: the program.
        options: `mount_options`.
        work: an empty folder that the sandbox will mount its own over.
        environment: of bubblewrap, by which guard.py finds it.

    Raises:
        UserError: this machine does not let even root mount (a container without that capability).
    """
    status, status_end = os.pipe()
    command = [bwrap, "--die-with-parent", "--json-status-fd", str(status_end), *options]
    command += ["--bind", "/proc", "/proc", "--dev", "/dev", "--tmpfs", work, "/bin/sh", "-c", "echo; read end"]
    with open(status, "rb") as told:
        pipe = subprocess.PIPE
        holder = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=[status_end], env=dict(environment)
        )
        os.close(status_end)
        assert holder.stdout is not None
        if holder.stdout.read(1) != b"\n":
            _, message = holder.communicate()
            raise UserError(f"the sandbox cannot be set up on this machine: {message.decode(errors='replace').strip()}")
        path = f"/proc/{json.loads(told.readline())['child-pid']}/ns/mnt"
        namespace = open(path, "rb", buffering=0)  # noqa: SIM115 - kept open on purpose
        holder.communicate(b"\n")
    return namespace
