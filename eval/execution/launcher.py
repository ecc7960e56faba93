"""Starts root's sandboxes as nobody, within a staged mount namespace (staging.py), from a thread that has gone there.

To the kernel, credentials, capabilities and mount namespace belong to a thread, so one that gives its own up for good
starts every sandbox, and no sandbox needs programs to do it first (nsenter, setpriv). glibc's setuid and its like
would change all threads: the plain system calls are used. The memory that the threads share stays out of nobody's
reach.
Does not cover: a program of nobody's outside every sandbox, which may send the thread a signal that ends the harness
(a program in a sandbox sees neither); a process forked from this one, in which the thread does not exist: it needs a
Sandbox of its own; finalizers that Python's collector of cycles happens to call in the thread, which reach no files of
the host.
"""

import ctypes
import os
import platform
import queue
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, BinaryIO

from mindgeex.eval.execution.job import NOBODY

CALLS = {
    "x86_64": {"setgroups": 116, "setresuid": 117, "setresgid": 119, "capset": 126},
    "aarch64": {"setgroups": 159, "setresuid": 147, "setresgid": 149, "capset": 91},
}
"""Numbers of system calls."""
CLONE_FS, CLONE_NEWNS = 0x200, 0x20000
PR_SET_DUMPABLE, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 23, 24, 38
CAPABILITIES_V3 = 0x20080522
Start = Callable[[], "subprocess.Popen[bytes]"]


class Launcher:
    """A thread that is nobody; lives as long as the process, and so do (--die-with-parent) the sandboxes it started."""

    def __init__(self, namespace: BinaryIO) -> None:
        """Begins it.

        Args:
            namespace: the mount namespace it enters.

        Raises:
            OSError: a privilege cannot be given up.
        """
        self._starts: queue.SimpleQueue[tuple[Start, Future[Any]]] = queue.SimpleQueue()
        ready: Future[None] = Future()
        threading.Thread(target=self._serve, args=(namespace, ready), daemon=True, name="sandbox-launcher").start()
        ready.result()

    def start(self, start: Start) -> "subprocess.Popen[bytes]":
        """The process that a function starts, called in the thread."""
        started: Future[subprocess.Popen[bytes]] = Future()
        self._starts.put((start, started))
        return started.result()

    def _serve(self, namespace: BinaryIO, ready: "Future[None]") -> None:
        try:
            become_nobody(namespace)
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        while True:
            start, started = self._starts.get()
            try:
                started.set_result(start())
            except BaseException as error:
                started.set_exception(error)
            del start, started


def become_nobody(namespace: BinaryIO) -> None:
    """The calling thread enters a mount namespace and gives up root and every capability, for good."""
    numbers = CALLS[platform.machine()]
    library = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: object) -> int:
        number = () if name in ("unshare", "setns", "prctl") else (ctypes.c_long(numbers[name]),)
        result = getattr(library, "syscall" if number else name)(*number, *arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
        return int(result)

    def prctl(option: int, argument: int) -> int:
        return call("prctl", option, ctypes.c_ulong(argument), *[ctypes.c_ulong(0)] * 3)

    call("unshare", CLONE_FS)
    call("setns", namespace.fileno(), CLONE_NEWNS)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_READ, capability)
        except OSError:
            break  # the kernel knows no more
        prctl(PR_CAPBSET_DROP, capability)
    nobody = ctypes.c_long(NOBODY)
    call("setgroups", ctypes.c_long(0), None)
    call("setresgid", nobody, nobody, nobody)
    call("setresuid", nobody, nobody, nobody)
    prctl(PR_SET_DUMPABLE, 0)  # the kernel does so, too, unless sysctl fs.suid_dumpable is 1
    none = (ctypes.c_uint32 * 6)()
    call("capset", (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0), none)
