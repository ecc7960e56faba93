"""Follows one sandbox to its end: reads what it says, looks at its process tree, stops it, waits until it is gone.

Does not cover: memory between two looks (the tree may overshoot for `TICK_S`); CPU time of processes that were killed
together with the one that should have waited for them (the time seen at the last look counts then).
"""

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import BinaryIO

from mindgeex.eval.execution.job import WORK, Channel, Job, Result

TICK_S = 0.1
"""Seconds between two looks at the process tree's memory and CPU time."""
MOST_FILES = 20_000
"""Files and folders that a sandbox may have; even empty ones take the kernel's memory, a kilobyte each."""
REST_S = 3.0
"""Seconds that a command that stays may have nothing to do, until it is ended."""

TIMES = re.compile(rb"(\d+)m([\d.]+)s (\d+)m([\d.]+)s\n" * 2)
"""What a shell's `times` writes: CPU time of itself, and of what it has waited for."""


class Watch:
    """One sandbox: call `follow`, then `finish` whatever happened, then `result`."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        job: Job,
        stop: threading.Event,
        start: float,
        pipes: tuple[BinaryIO, BinaryIO, Channel],
    ):
        """Begins to watch.

        Args:
            process: the sandbox's outermost one.
            job: what it runs.
            stop: set when the caller gives up.
            start: when it was started.
            pipes: its output, its status, and the channel by which it hands something back.
        """
        self.process, self.stop, self.start, self.pipes = process, stop, start, pipes
        self.started_at, self.limits, self.then = start, job.limits, job.then
        self.first_stage_cpu_s: float | None = None
        self.output, self.status, self.handed_back = bytearray(), bytearray(), bytearray()
        self.stopped_by: str | None = None
        self.outer = os.pidfd_open(process.pid)
        self.first: int | None = None
        """Handle of the first process in the sandbox's process table: when it dies, the kernel kills all the others."""
        self.first_pid = 0
        self.cpu_s = 0.0
        self.seen_cpu_s = 0.0
        """At the last look; processes that are killed together may take their accounts with them."""
        self.cpu_s_before: float | None = 0.0
        """What had been used when the present task began; None until the next look."""
        self.resting_since: float | None = None
        """Since when a command that stays has had nothing to do."""

    def rest(self) -> None:
        """From now on the command waits for work: no limit counts but that on waiting (`REST_S`)."""
        self.resting_since = time.monotonic()

    def begin(self) -> None:
        """From now on the command has a new task, for which its limits count anew."""
        self.start, self.cpu_s_before, self.resting_since = time.monotonic(), None, None

    def follow(self) -> None:
        """Returns when all pipes are closed, which is when the sandbox has ended, or when a limit is passed."""
        output, status, channel = self.pipes
        buffers = {
            output: (self.output, self.limits.output_bytes),
            status: (self.status, 65536),
            channel.read: (self.handed_back, channel.most_bytes),
        }
        next_look = time.monotonic() + TICK_S
        with selectors.DefaultSelector() as selector:
            for file, kept in buffers.items():
                selector.register(file, selectors.EVENT_READ, kept)
            while selector.get_map() and self.stopped_by is None:
                for key, _ in selector.select(TICK_S):
                    buffer, most = key.data
                    block = os.read(key.fd, 65536)
                    buffer += block
                    if not block:
                        selector.unregister(key.fileobj)
                    if len(buffer) > most:
                        del buffer[most:]
                        self.stopped_by = "output"
                    elif block and buffer is self.handed_back and self.then:
                        self._find_second_stage()
                    elif block and buffer is self.handed_back and channel.arrived:
                        channel.arrived(buffer)
                    if self.first is None and b"\n" in self.status:
                        self._find_first()
                if time.monotonic() >= next_look:
                    self.stopped_by = self.stopped_by or self._passed_limit()
                    next_look = time.monotonic() + TICK_S

    def finish(self) -> None:
        """Kills what still runs, waits for its end, and learns the CPU seconds of the whole tree."""
        if self.first is not None and self.stopped_by is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.first, signal.SIGKILL)
        if (self.first is None and self.stopped_by is not None) or not _ended(self.outer, 5.0):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            _ended(self.outer, 5.0)
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        os.close(self.outer)
        cpu_s = usage.ru_utime + usage.ru_stime
        if self.first is not None:
            _ended(self.first, 5.0)
            os.close(self.first)
            with contextlib.suppress(ChildProcessError):
                _, _, usage = os.wait4(self.first_pid, 0)
                cpu_s += usage.ru_utime + usage.ru_stime
        self.cpu_s = max(cpu_s, self.seen_cpu_s)

    @property
    def command_ended(self) -> bool:
        """Whether bubblewrap tells of the command's end; it does not if it failed before it could start it."""
        return b'"exit-code"' in self.status

    def result(self) -> Result:
        """The facts, once `finish` has returned."""
        code = self.process.returncode
        number = -code if code < 0 else code - 128 if 128 < code <= 192 else None
        stopped_by = self.stopped_by
        # The kernel counts whole ticks for the limit and exact times for the usage: they differ on a busy machine.
        before = self.seen_cpu_s if self.cpu_s_before is None else self.cpu_s_before
        used_up = number == signal.SIGKILL and self.cpu_s - before >= 0.5 * self.limits.cpu_s
        if stopped_by is None and (number == signal.SIGXCPU or used_up):
            stopped_by = "cpu"
        return Result(
            exit_code=None if stopped_by or number else code,
            signal=None if stopped_by else number,
            stopped_by=stopped_by,
            cpu_s=round(self.cpu_s, 3),
            wall_s=round(time.monotonic() - self.started_at, 3),
            output=self.output.decode("utf-8", "replace"),
            channel=bytes(self.handed_back),
            first_cpu_s=self.first_stage_cpu_s,
        )

    def _find_first(self) -> None:
        # bubblewrap writes this line before the program starts; what the program itself might add is not read here.
        with contextlib.suppress(ValueError, KeyError, ProcessLookupError):
            self.first_pid = int(json.loads(self.status.split(b"\n")[0])["child-pid"])
            self.first = os.pidfd_open(self.first_pid)

    def _find_second_stage(self) -> None:
        if self.then and (found := TIMES.match(bytes(self.handed_back))):
            del self.handed_back[: found.end()]
            taken = [float(number) for number in found.groups()]
            self.first_stage_cpu_s = sum(60 * minutes for minutes in taken[::2]) + sum(taken[1::2])
            self.limits, self.then = self.then, None
            self.start, self.cpu_s_before = time.monotonic(), self.first_stage_cpu_s

    def _passed_limit(self) -> str | None:
        if self.stop.is_set():
            return "interrupt"
        now = time.monotonic()
        if (since := self.resting_since) is not None:
            return "rest" if now - since > REST_S else None
        if now - self.start > self.limits.wall_s:
            return "wall"
        if self.first is None:
            return None
        self.seen_cpu_s, resident_bytes = tree_usage(self.first_pid)
        if resident_bytes > self.limits.memory_bytes:
            return "memory"
        if files_within(self.first_pid) > MOST_FILES:
            return "files"
        if self.cpu_s_before is None:
            self.cpu_s_before = self.seen_cpu_s
        return "cpu" if self.seen_cpu_s - self.cpu_s_before > self.limits.cpu_s + 1 else None


def tree_usage(root: int) -> tuple[float, int]:
    """CPU seconds and resident bytes of a process and all below it (memory that several share counts for each)."""
    children: dict[int, list[int]] = {}
    used: dict[int, tuple[float, int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The fields behind the name, which is in brackets and may hold anything: proc(5).
            fields = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry))
            ticks = sum(int(fields[index]) for index in range(11, 15))
            used[int(entry)] = (ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))
    cpu_s, resident_bytes, waiting = 0.0, 0, [root]
    while waiting:
        pid = waiting.pop()
        cpu_s, resident_bytes = cpu_s + used.get(pid, (0.0, 0))[0], resident_bytes + used.get(pid, (0.0, 0))[1]
        waiting += children.pop(pid, [])
    return cpu_s, resident_bytes


def files_within(first: int) -> int:
    """Files and folders in the writable folders of the sandbox with this first process; 0 if it has ended."""
    count = 0
    for folder in (WORK, "/dev/shm"):
        with contextlib.suppress(OSError):
            found = os.statvfs(f"/proc/{first}/root{folder}")
            count += found.f_files - found.f_ffree
    return count


def _ended(process: int, timeout_s: float) -> bool:
    """Waits until the process behind a handle has ended; False if it has not in time."""
    with selectors.DefaultSelector() as selector:
        selector.register(process, selectors.EVENT_READ)
        return bool(selector.select(timeout_s))
