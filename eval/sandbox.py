"""Runs one untrusted command in bubblewrap and says what became of it.

Covers: the program sees a read-only system, its own files and nothing of the homes, the project or the results; no
network; namespaces, process table and temporary folder of its own, no way to make further user namespaces, no
privileges, no inherited environment; limits on CPU time, memory (each process and the whole tree), processes, file
size, open files, output and wall time; system calls that would escape these limits are refused (seccomp.py). Whatever
happens, the whole process tree is dead when `run` returns, and nothing was written to the host's file systems.

Does not cover: errors of the kernel itself; timing side channels; a machine so loaded that the wall limit (generous on
purpose, the CPU limit is the one that judges) is reached. Memory of the tree is sampled, so it may overshoot for
`TICK_S`. For root, programs run as nobody (staging.py).
Needs Linux 5.3 with user namespaces, bubblewrap 0.8, and util-linux (prlimit; as root setpriv and nsenter).
"""

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mindgeex.common.errors import UserError
from mindgeex.eval.seccomp import refused_calls
from mindgeex.eval.staging import mount_options, stage

WORK = "/tmp"
"""The program's own writable folder, inside."""

TICK_S = 0.1
"""Seconds between two looks at the process tree's memory and CPU time."""

NOBODY = 65534
MIB = 1 << 20


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


@dataclass(frozen=True)
class Result:
    """What became of one command."""

    exit_code: int | None
    """None if it ended by a signal or was stopped."""
    signal: int | None
    """The signal that ended it (137 and its like are read as signals, as shells do)."""
    stopped_by: str | None
    """The limit that ended it: `cpu`, `wall`, `memory` or `output`; `interrupt` if the caller gave up."""
    cpu_s: float
    wall_s: float
    output: str
    """The beginning of what it wrote to standard output and error, together."""
    channel: bytes
    """What came through the private channel: a proof, or a compiled program."""


class Channel:
    """A pipe beside standard output, by which the program can hand something back: a proof, or what was compiled."""

    def __init__(self, most_bytes: int = 4096) -> None:
        """Opens it; a program that writes more than `most_bytes` is stopped."""
        self.most_bytes = most_bytes
        self.read, self.write = _pipe()
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


class Sandbox:
    """The way into bubblewrap; made once, used from many threads."""

    def __init__(self) -> None:
        """Finds the tools and runs `true` once.

        Raises:
            UserError: a tool is missing (with its Debian package), or this machine forbids user namespaces.
        """
        self._bwrap = _tool("bwrap", "bubblewrap")
        self._prlimit = _tool("prlimit", "util-linux")
        is_root = os.geteuid() == 0
        self._setpriv, self._nsenter = (_tool(name, "util-linux") if is_root else "" for name in ("setpriv", "nsenter"))
        self._lock = threading.Lock()
        self._namespaces: dict[tuple[str, ...], BinaryIO] = {}
        self._refused = refused_calls()
        self._stopping = threading.Event()
        _adopt_orphans()
        result = self.run(Job(("true",)))
        if result.exit_code != 0:
            raise UserError(
                f"the sandbox does not start on this machine: {result.output.strip() or result}: it needs bubblewrap "
                "0.8 and permission to make user namespaces (sysctl user.max_user_namespaces)"
            )
        version = subprocess.run([self._bwrap, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        self.description = f"{version}, {'as nobody' if self._setpriv else 'as the calling user'}"
        """For manifests."""

    def stop(self) -> None:
        """Ends every running command within one tick; later ones end as soon."""
        self._stopping.set()

    def run(self, job: Job, channel: Channel | None = None) -> Result:
        """Runs a command until it ends or passes a limit. Judges nothing: gives the facts.

        Args:
            job: what to run.
            channel: by which the program may hand something back; it is closed afterwards.
        """
        start = time.monotonic()
        channel = channel or Channel()
        output, output_end = _pipe()
        status, status_end = _pipe()
        refused = _memory_file(self._refused)
        contents = {name: _memory_file(content) for name, content in job.files.items()}
        inherited = [channel.write, status_end, refused, *contents.values()]
        with contextlib.ExitStack() as opened:
            for file in (channel.read, output, status):
                opened.enter_context(file)
            with contextlib.ExitStack() as given:
                for file in (output_end, *inherited):
                    given.enter_context(file)
                files = {name: file.fileno() for name, file in contents.items()}
                process = subprocess.Popen(
                    self._command(job, files, status_end.fileno(), refused.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=output_end,
                    stderr=output_end,
                    pass_fds=[file.fileno() for file in inherited],
                    start_new_session=True,
                    env={"PATH": "/usr/bin:/bin"},
                )
            watch = _Watch(process, job.limits, self._stopping, start)
            try:
                watch.follow(output, status, channel)
            finally:
                cpu_s = watch.finish()
            return watch.result(cpu_s)

    def _command(self, job: Job, files: Mapping[str, int], status: int, refused: int) -> list[str]:
        limits = job.limits
        mounts = mount_options(job.folders)
        outer: list[str] = []
        if self._setpriv:
            # Nothing here forks before the inner bubblewrap, so it is our child, and dies with us (--pdeathsig).
            namespace = self._staged(mounts).fileno()
            outer = [self._nsenter, f"--mount=/proc/{os.getpid()}/fd/{namespace}", self._setpriv, "--no-new-privs"]
            outer += [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]
            outer += ["--bounding-set=-all", "--pdeathsig=KILL"]
            mounts = ["--ro-bind", "/", "/"]
        inner = [self._bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent"]
        inner += ["--new-session", "--clearenv", "--hostname", "sandbox", "--json-status-fd", str(status)]
        inner += [*mounts, "--proc", "/proc", "--dev", "/dev", "--size", str(MIB), "--tmpfs", "/dev/shm"]
        inner += ["--remount-ro", "/dev", "--size", str(limits.files_bytes), "--tmpfs", WORK, "--chdir", WORK]
        for name, descriptor in files.items():
            inner += ["--perms", "0755", "--file", str(descriptor), f"{WORK}/{name}"]
        environment = {"PATH": "/usr/bin:/bin", "HOME": WORK, "TMPDIR": WORK, "LANG": "C.UTF-8", **job.environment}
        for name, value in environment.items():
            inner += ["--setenv", name, value]
        inner += ["--seccomp", str(refused), self._prlimit, "--core=0", "--nofile=256", "--memlock=65536"]
        inner += [f"--cpu={limits.cpu_s}:{limits.cpu_s + 1}", f"--data={limits.memory_bytes}"]
        inner += [f"--nproc={limits.processes}", f"--fsize={limits.files_bytes}", *job.command]
        return outer + inner

    def _staged(self, mounts: list[str]) -> BinaryIO:
        with self._lock:
            if tuple(mounts) not in self._namespaces:
                self._namespaces[tuple(mounts)] = stage(self._bwrap, mounts, WORK)
            return self._namespaces[tuple(mounts)]


class _Watch:
    """Follows one sandbox from start to end: reads, looks at its process tree, stops it, waits until all are gone."""

    def __init__(self, process: "subprocess.Popen[bytes]", limits: Limits, stop: threading.Event, start: float):
        self.process, self.limits, self.stop, self.start = process, limits, stop, start
        self.output, self.status, self.handed_back = bytearray(), bytearray(), bytearray()
        self.stopped_by: str | None = None
        self.outer = os.pidfd_open(process.pid)
        self.first: int | None = None
        """Handle of the first process in the sandbox's process table: when it dies, the kernel kills all the others."""
        self.first_pid = 0
        self.seen_cpu_s = 0.0
        """At the last look; processes that are killed together may take their accounts with them."""

    def follow(self, output: BinaryIO, status: BinaryIO, channel: Channel) -> None:
        """Returns when all pipes are closed, which is when the sandbox has ended, or when a limit is passed."""
        buffers = {
            output: (self.output, self.limits.output_bytes),
            status: (self.status, 65536),
            channel.read: (self.handed_back, channel.most_bytes),
        }
        next_look = time.monotonic() + TICK_S
        with selectors.DefaultSelector() as selector:
            for file in buffers:
                selector.register(file, selectors.EVENT_READ)
            while selector.get_map() and self.stopped_by is None:
                for key, _ in selector.select(TICK_S):
                    buffer, most = buffers[key.fileobj]  # type: ignore[index]
                    block = os.read(key.fd, 65536)
                    buffer += block
                    if not block:
                        selector.unregister(key.fileobj)
                    if len(buffer) > most:
                        del buffer[most:]
                        self.stopped_by = "output"
                    if self.first is None and b"\n" in self.status:
                        self._find_first()
                if time.monotonic() >= next_look:
                    self.stopped_by = self.stopped_by or self._passed_limit()
                    next_look = time.monotonic() + TICK_S

    def finish(self) -> float:
        """Kills what still runs, waits for its end, and gives the CPU seconds of the whole tree."""
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
        return max(cpu_s, self.seen_cpu_s)

    def result(self, cpu_s: float) -> Result:
        """The facts, once `finish` has returned."""
        code = self.process.returncode
        number = -code if code < 0 else code - 128 if 128 < code <= 192 else None
        stopped_by = self.stopped_by
        # The kernel counts whole ticks for the limit and exact times for the usage: they differ on a busy machine.
        used_up = number == signal.SIGKILL and cpu_s >= 0.5 * self.limits.cpu_s
        if stopped_by is None and (number == signal.SIGXCPU or used_up):
            stopped_by = "cpu"
        return Result(
            exit_code=None if stopped_by or number else code,
            signal=None if stopped_by else number,
            stopped_by=stopped_by,
            cpu_s=round(cpu_s, 3),
            wall_s=round(time.monotonic() - self.start, 3),
            output=self.output.decode("utf-8", "replace"),
            channel=bytes(self.handed_back),
        )

    def _find_first(self) -> None:
        # bubblewrap writes this line before the program starts; what the program itself might add is not read.
        with contextlib.suppress(ValueError, KeyError, ProcessLookupError):
            self.first_pid = int(json.loads(self.status.split(b"\n")[0])["child-pid"])
            self.first = os.pidfd_open(self.first_pid)

    def _passed_limit(self) -> str | None:
        if self.stop.is_set():
            return "interrupt"
        if time.monotonic() - self.start > self.limits.wall_s:
            return "wall"
        if self.first is None:
            return None
        self.seen_cpu_s, resident_bytes = tree_usage(self.first_pid)
        if resident_bytes > self.limits.memory_bytes:
            return "memory"
        return "cpu" if self.seen_cpu_s > self.limits.cpu_s + 1 else None


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


def _tool(command: str, package: str) -> str:
    if path := shutil.which(command):
        return os.path.realpath(path)
    raise UserError(f"'{command}' is not installed, and programs are only run in a sandbox: apt-get install {package}")


def _adopt_orphans() -> None:
    """Makes this process the parent of what outlives its own parent below it (PR_SET_CHILD_SUBREAPER, prctl(2)).

    bubblewrap ends before the first process of its sandbox is reaped; only who reaps it learns its CPU time.
    """
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def _pipe() -> tuple[BinaryIO, BinaryIO]:
    read, write = os.pipe()
    return open(read, "rb", buffering=0), open(write, "wb", buffering=0)


def _memory_file(content: bytes) -> BinaryIO:
    file = open(os.memfd_create("sandbox"), "r+b", buffering=0)  # noqa: SIM115 - the caller closes it
    file.write(content)
    file.seek(0)
    return file


def _ended(process: int, timeout_s: float) -> bool:
    """Waits until the process behind a handle has ended; False if it has not in time."""
    with selectors.DefaultSelector() as selector:
        selector.register(process, selectors.EVENT_READ)
        return bool(selector.select(timeout_s))
