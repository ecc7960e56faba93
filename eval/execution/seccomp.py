"""The system calls that a sandboxed program may not make, as a filter the kernel understands.

Covers: calls that would get around the other limits: memory that no limit counts (memfd, System V shared memory and
message queues, key rings), taking over another process (the sandbox's first one has no limits), sockets other than
Unix ones, and large corners of the kernel that no benchmark program needs (io_uring, bpf, perf, userfaultfd).
Does not cover: a list of what is allowed; whatever is not named here is left to namespaces and limits.
"""

import errno
import platform
import struct

from mindgeex.common.errors import UserError

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""How the kernel names the two architectures (linux/audit.h)."""

REFUSED = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
}
"""System call -> its number on x86_64 and on aarch64; they answer "not implemented"."""

SOCKET = (41, 198)
UNIX_FAMILY = 1

LOAD, IF_EQUAL, IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
NUMBER_AT, ARCH_AT, FIRST_ARGUMENT_AT = 0, 4, 16
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
X32_CALLS = 0x40000000
"""The first number of the x32 calls, which would slip past the table above."""


def refused_calls(machine: str | None = None) -> bytes:
    """The filter as an array of `struct sock_filter` (linux/filter.h), for `bwrap --seccomp`.

    Raises:
        UserError: the numbers for this machine's architecture are not known here.
    """
    machine = machine or platform.machine()
    if machine not in AUDIT_ARCH:
        raise UserError(f"the sandbox knows the system calls of {' and '.join(AUDIT_ARCH)}, not of {machine}")
    column = list(AUDIT_ARCH).index(machine)

    def step(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, k)

    steps = [step(LOAD, ARCH_AT), step(IF_EQUAL, AUDIT_ARCH[machine], yes=1), step(RETURN, KILL)]
    steps += [step(LOAD, NUMBER_AT), step(IF_AT_LEAST, X32_CALLS, no=1), step(RETURN, KILL)]
    for numbers in REFUSED.values():
        steps += [step(IF_EQUAL, numbers[column], no=1), step(RETURN, ERROR | errno.ENOSYS)]
    steps += [step(IF_EQUAL, SOCKET[column], no=3), step(LOAD, FIRST_ARGUMENT_AT)]
    steps += [step(IF_EQUAL, UNIX_FAMILY, yes=1), step(RETURN, ERROR | errno.EPERM), step(RETURN, ALLOW)]
    return b"".join(steps)
