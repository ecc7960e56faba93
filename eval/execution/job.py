"""What goes into the sandbox and what comes out: a job with its limits, the facts of its run, a private channel."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

NOBODY = 65534
"""The user and group that programs run as if we are root."""
MIB = 1 << 20
WORK = "/tmp"
"""The program's own writable folder, inside."""


@dataclass(frozen=True)
class Limits:
    """What one command may use."""

    cpu_s: int = 10
    """Seconds of CPU time, of each process and of the whole tree; this is the limit that judges a program."""
    wall_s: float = 45.0
    """Seconds until even a sleeping program is stopped: generous, so that a busy machine changes no verdict."""
    memory_bytes: int = 1024 * MIB
    """Writable memory of each process (RLIMIT_DATA) and resident memory of the whole tree."""
    processes: int = 64
    """Processes and threads at once; a JVM needs about 20."""
    files_bytes: int = 64 * MIB
    """Size of the temporary folder, and of any file."""
    output_bytes: int = 1 * MIB
    """Standard output and error together; a program that writes more is stopped."""


@dataclass(frozen=True)
class Job:
    """A command and all it may see beyond the system's programs and libraries."""

    command: tuple[str, ...]
    """Program and arguments, as seen inside."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Name below the temporary folder -> content. They never touch the host's disk."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """Folder or file of the host -> where it is seen inside, read-only."""
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    then: Limits | None = None
    """A command of two stages, which compiles a program and becomes it: the limits of the second stage. It begins when
    the command writes the output of the shell's `times` to its channel; `limit_script` sets what the kernel limits
    (not processes and the size of the temporary folder: of those both stages have as much as the one that has more)."""

    def most(self) -> Limits:
        """The larger one of each limit of both stages."""
        then = self.then or self.limits
        return Limits(*map(max, vars(self.limits).values(), vars(then).values()))


@dataclass(frozen=True)
class Result:
    """What became of one command."""

    exit_code: int | None
    """None if it ended by a signal or was stopped."""
    signal: int | None
    """The signal that ended it (137 and its like are read as signals, as shells do)."""
    stopped_by: str | None
    """The limit that ended it: `cpu`, `wall`, `memory`, `files` or `output`; `interrupt` if the caller gave up."""
    cpu_s: float
    wall_s: float
    output: str
    """The beginning of what it wrote to standard output and error, together."""
    channel: bytes
    """What came through the private channel: a proof, or a compiled program."""
    first_cpu_s: float | None = None
    """Of a command of two stages: what the first one took of `cpu_s`, to a few hundredths; None if it did not end."""


def limit_script(limits: Limits) -> str:
    """The kernel's part of some limits as a shell's commands, for what it executes afterwards."""
    numbers = [("t", limits.cpu_s, 1), ("d", limits.memory_bytes >> 10, 0), ("f", limits.files_bytes >> 9, 0)]
    return "; ".join(f"ulimit -S -{name} {most}; ulimit -H -{name} {most + more}" for name, most, more in numbers)


class Channel:
    """A pipe beside standard output, by which the program can hand something back: a proof, or what was compiled."""

    def __init__(self, most_bytes: int = 4096, arrived: Callable[[bytearray], None] | None = None) -> None:
        """Opens it.

        Args:
            most_bytes: a program that writes more is stopped.
            arrived: is given what has come so far whenever more comes, and may take it away.
        """
        self.most_bytes, self.arrived = most_bytes, arrived
        self.read, self.write = pipe()
        if os.geteuid() == 0:
            # Some programs can only open a pipe by its path below /dev/fd, and there its owner counts.
            os.fchown(self.write.fileno(), NOBODY, NOBODY)

    @property
    def number(self) -> int:
        """The file descriptor the program writes to; it differs from run to run."""
        return self.write.fileno()

    def close(self) -> None:
        """Closes a channel that is not used after all."""
        self.read.close()
        self.write.close()


def pipe() -> tuple[BinaryIO, BinaryIO]:
    """Both ends of a new pipe, for reading and for writing, unbuffered."""
    read, write = os.pipe()
    return open(read, "rb", buffering=0), open(write, "wb", buffering=0)
