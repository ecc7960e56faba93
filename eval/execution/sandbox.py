"""Runs one untrusted command in bubblewrap and says what became of it.

Covers: the program sees a read-only system, its own files and nothing of the homes, the project or the results; no
network; namespaces, process table and temporary folder of its own, no way to make further user namespaces, no
privileges, no inherited environment; limits on CPU time, memory (each process and the whole tree), processes, file
size, number of files, open files, output and wall time; system calls that would escape these limits are refused
(seccomp.py). Whatever happens, the whole process tree is dead when `run` returns (or soon after the harness itself is
killed: guard.py), and nothing was written to the host's file systems.

Does not cover: errors of the kernel itself; timing side channels; a machine so loaded that the wall limit (generous on
purpose, the CPU limit is the one that judges) is reached. Memory of the tree and the number of its files are sampled,
so they may overshoot for a tick (watch.py). For root, programs run as nobody (launcher.py).
Needs Linux 5.3 with user namespaces, bubblewrap 0.8, and util-linux (prlimit).
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from mindgeex.common.errors import UserError
from mindgeex.eval.execution import guard
from mindgeex.eval.execution.job import MIB, WORK, Channel, Job, Result, pipe
from mindgeex.eval.execution.launcher import Launcher
from mindgeex.eval.execution.seccomp import refused_calls
from mindgeex.eval.execution.service import Services
from mindgeex.eval.execution.staging import mount_options, stage
from mindgeex.eval.execution.watch import Watch


class Sandbox:
    """The way into bubblewrap; made once, used from many threads."""

    def __init__(self) -> None:
        """Finds the tools and runs `true` once.

        Raises:
            UserError: a tool is missing (with its Debian package), or this machine forbids user namespaces.
        """
        self._bwrap = _tool("bwrap", "bubblewrap")
        self._prlimit = _tool("prlimit", "util-linux")
        self._is_root = os.geteuid() == 0
        self._lock = threading.Lock()
        self._launchers: dict[tuple[tuple[str, str], ...], Launcher] = {}
        """Only root needs them: one for each set of folders that are shown."""
        self._refused = refused_calls()
        self._stopping = threading.Event()
        self.services = Services(self)
        """Compilers that stay."""
        self._environment = {"PATH": "/usr/bin:/bin", guard.VARIABLE: guard.mark()}
        _adopt_orphans()
        result = self.run(Job(("true",)))
        if result.exit_code != 0:
            raise _does_not_start(result)
        version = subprocess.run([self._bwrap, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        self.description = f"{version}, {'as nobody' if self._is_root else 'as the calling user'}"
        """For manifests."""

    def stop(self) -> None:
        """Ends every running command within one tick; later ones end as soon."""
        self._stopping.set()
        self.services.end()

    def run(self, job: Job, channel: Channel | None = None) -> Result:
        """Runs a command until it ends or passes a limit. Judges nothing: gives the facts.

        Args:
            job: what to run.
            channel: by which the program may hand something back; it is closed afterwards.

        Raises:
            UserError: the sandbox could not be set up this time, so nothing is known of the command.
        """
        with self.started(job, channel or Channel()) as watch:
            watch.follow()
        return watch.result()

    @contextlib.contextmanager
    def started(self, job: Job, channel: Channel, given: BinaryIO | None = None) -> Iterator[Watch]:
        """Starts a command, for a block that follows it; when the block ends, it and all below it are dead.

        Args:
            job: what to run.
            channel: by which the program may hand something back; it is closed afterwards.
            given: its standard input; closed here. Empty where it is None.

        Raises:
            UserError: the sandbox could not be set up this time.
        """
        start = time.monotonic()
        output, output_end = pipe()
        status, status_end = pipe()
        refused = _memory_file(self._refused)
        contents = {name: _memory_file(content) for name, content in job.files.items()}
        inherited = [channel.write, status_end, refused, *contents.values()]
        with contextlib.ExitStack() as opened:
            for file in (channel.read, output, status):
                opened.enter_context(file)
            with contextlib.ExitStack() as passed_on:
                for file in (output_end, *inherited, *([given] if given else [])):
                    passed_on.enter_context(file)
                files = {name: file.fileno() for name, file in contents.items()}
                command = self._command(job, files, status_end.fileno(), refused.fileno())

                def start_process() -> "subprocess.Popen[bytes]":
                    return subprocess.Popen(
                        command,
                        stdin=given or subprocess.DEVNULL,
                        stdout=output_end,
                        stderr=output_end,
                        pass_fds=[file.fileno() for file in inherited],
                        start_new_session=True,
                        env=self._environment,
                    )

                process = self._launcher(job.folders).start(start_process) if self._is_root else start_process()
            watch = Watch(process, job, self._stopping, start, (output, status, channel))
            try:
                yield watch
            finally:
                watch.finish()
            if (result := watch.result()).exit_code and not watch.command_ended:
                raise _does_not_start(result)

    def _command(self, job: Job, files: Mapping[str, int], status: int, refused: int) -> list[str]:
        limits, most = job.limits, job.most()
        mounts = ["--ro-bind", "/", "/"] if self._is_root else mount_options(job.folders)  # "/" is the launcher's
        inner = [self._bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent"]
        inner += ["--new-session", "--clearenv", "--hostname", "sandbox", "--json-status-fd", str(status)]
        # The first process, bubblewrap's, has no limits: nobody must reach its memory.
        inner += [*mounts, "--proc", "/proc", "--tmpfs", "/proc/1", "--remount-ro", "/proc/1"]
        inner += ["--dev", "/dev", "--size", str(MIB), "--tmpfs", "/dev/shm"]
        inner += ["--remount-ro", "/dev", "--size", str(most.files_bytes), "--tmpfs", WORK, "--chdir", WORK]
        for name, descriptor in files.items():
            inner += ["--perms", "0755", "--file", str(descriptor), f"{WORK}/{name}"]
        environment = {"PATH": "/usr/bin:/bin", "HOME": WORK, "TMPDIR": WORK, "LANG": "C.UTF-8", **job.environment}
        for name, value in environment.items():
            inner += ["--setenv", name, value]
        inner += ["--seccomp", str(refused), self._prlimit, "--core=0", "--nofile=256", "--memlock=65536"]
        inner += [f"--cpu={limits.cpu_s}:{most.cpu_s + 1}", f"--data={limits.memory_bytes}:{most.memory_bytes}"]
        inner += [f"--nproc={most.processes}", f"--fsize={limits.files_bytes}:{most.files_bytes}", *job.command]
        return inner

    def _launcher(self, folders: Mapping[str, str]) -> Launcher:
        shown = tuple(folders.items())
        with self._lock:
            if shown not in self._launchers:
                with stage(self._bwrap, mount_options(folders), WORK, self._environment) as namespace:
                    try:
                        self._launchers[shown] = Launcher(namespace)
                    except OSError as error:
                        raise UserError(f"root must be allowed to become nobody here: {error}") from error
            return self._launchers[shown]


def _tool(command: str, package: str) -> str:
    if path := shutil.which(command):
        return os.path.realpath(path)
    raise UserError(f"'{command}' is not installed, and programs are only run in a sandbox: apt-get install {package}")


def _does_not_start(result: Result) -> UserError:
    return UserError(
        f"the sandbox does not start on this machine: {result.output.strip() or result}: it needs bubblewrap 0.8 and "
        "permission to make user namespaces (sysctl user.max_user_namespaces)"
    )


def _adopt_orphans() -> None:
    """Makes this process the parent of what outlives its own parent below it (PR_SET_CHILD_SUBREAPER, prctl(2)).

    bubblewrap ends before the first process of its sandbox is reaped; only who reaps it learns its CPU time.
    """
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def _memory_file(content: bytes) -> BinaryIO:
    file = open(os.memfd_create("sandbox"), "r+b", buffering=0)  # noqa: SIM115 - the caller closes it
    file.write(content)
    file.seek(0)
    return file
