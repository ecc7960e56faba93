"""Starting this host's workers as children of one process, and ending them without leaving any behind.

msrun starts each process in a session of its own, kills the others with SIGKILL when one fails, and does not pass
signals on. So it only starts them here (`--join=False`) and leaves; this process has asked the kernel to be given
orphans, and so becomes the parent of the workers and of MindSpore's scheduler: it gets their exit codes, and the kernel
kills them when it dies. This module, run as `python -m`, is what msrun starts; it becomes the worker.

Covers: Linux; one host's part of the workers of a run; one worker without msrun. Does not cover: reaching other hosts
(fleet.py).
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindgeex.train.callbacks.heartbeat import first_beat, heartbeat_path, write_beat

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
ADOPTION_S = 120
"""How long msrun may take to leave, so that its children come to who asked for them."""
IDENTIFICATION_S = 2
NODE_TIMEOUT_S = 4 * 3600
"""MindSpore's AllReduce fails when another worker comes so much later. Its own limit is half a minute; a checkpoint
takes longer. The deadlines of the watch hold all the same."""

SCHEDULER = "from mindspore import communication\ncommunication.init()"


@dataclass(frozen=True)
class Share:
    """Which of a run's workers are this host's."""

    local: int
    """Workers of this host, and of every other."""
    world: int
    """Of all hosts."""
    node: int = 0
    """Number of this host; its first rank is `node` x `local`."""
    address: str = "127.0.0.1"
    """Of the first host, where MindSpore's scheduler is."""
    port: int = 0
    """Of the scheduler."""


@dataclass(frozen=True)
class Processes:
    """What was started, all children of this process."""

    workers: dict[int, int]
    """Rank -> process."""
    scheduler: int | None = None
    """MindSpore's, which introduces the workers to each other: on the first host of several workers."""


class LaunchError(RuntimeError):
    """msrun did not start the workers."""


class Starting:
    """Workers on their way; their output goes to `logs`/rank-00000.log and so on.

    Args:
        worker: what Python is to run in each, such as ("-m", "mindgeex.cli.main", "train", ...).
        share: which of them are this host's.
        run_folder: where the heartbeats are.
        logs: an existing folder of this attempt.
        environment: of the workers.
        connect_s: how long MindSpore's scheduler waits for all of them.
    """

    def __init__(
        self,
        worker: Sequence[str],
        share: Share,
        run_folder: Path,
        logs: Path,
        environment: Mapping[str, str],
        connect_s: float,
    ):
        own = [str(os.getpid()), str(run_folder.absolute()), str(logs.absolute())]
        shim = ["-m", "mindgeex.train.launch", *own, *worker]
        bin_folder = str(Path(sys.executable).parent)
        environment = {**environment, "PATH": f"{bin_folder}{os.pathsep}{environment.get('PATH', os.defpath)}"}
        environment.setdefault("MS_NODE_TIMEOUT", str(NODE_TIMEOUT_S))
        self.share, self.before, self.started = share, children(), None
        if share.world == 1:
            self.started = Processes({0: _spawn([sys.executable, *shim], log_path(logs, 0), environment)})
            return
        msrun = [sys.executable, "-m", "mindspore.parallel.cluster.run", f"--worker_num={share.world}",
                 f"--local_worker_num={share.local}", f"--node_rank={share.node}", f"--master_addr={share.address}",
                 f"--master_port={share.port}", f"--log_dir={logs.absolute()}",
                 f"--cluster_time_out={max(1, round(connect_s))}", "--join=False", "python", *shim]  # fmt: skip
        self.output = logs / f"msrun-{share.node}.log"
        self.msrun = _spawn(msrun, self.output, environment)

    def poll(self) -> Processes | None:
        """The processes; None while msrun has not left.

        Raises:
            LaunchError: msrun failed (with the end of its output).
        """
        if self.started is not None:
            return self.started
        status = exit_code(self.msrun)
        if status is None:
            return None
        found = {pid: _msrun_environment(pid) for pid in sorted(children() - self.before)}
        ranks = {int(e["RANK_ID"]): pid for pid, e in found.items() if e.get("MS_ROLE") == "MS_WORKER"}
        schedulers = [pid for pid, e in found.items() if e.get("MS_ROLE") == "MS_SCHED"]
        if status != 0 or len(ranks) != self.share.local:
            kill_all(self.before)
            said = self.output.read_text(errors="replace")[-2000:]
            raise LaunchError(f"msrun started {len(ranks)} of {self.share.local} workers:\n{said}")
        self.started = Processes(dict(sorted(ranks.items())), schedulers[0] if schedulers else None)
        return self.started


def log_path(logs: Path, rank: int) -> Path:
    """Where a rank's output goes."""
    return logs / f"rank-{rank:05d}.log"


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Descendants whose parent dies come to this process, not to init."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        _prctl(PR_SET_CHILD_SUBREAPER, 0)


def children() -> set[int]:
    """This process's children, dead ones that nobody has waited for included."""
    own, found = str(os.getpid()), set()
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(int(name))) and stat[1] == own:
            found.add(int(name))
    return found


def is_stopped(pid: int) -> bool:
    """Whether a signal or a debugger has stopped it."""
    stat = _stat(pid)
    return bool(stat) and stat[0] in "Tt"


def exit_code(pid: int) -> int | None:
    """Of a child, minus the number of the signal that killed it; None while it runs. Asked again, it is forgotten."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def kill_all(spare: set[int], timeout_s: float = 30.0) -> set[int]:
    """Kills every child but `spare`, their groups, and the orphans that this makes, until none is left.

    Returns:
        Those that the kernel could not end in time, such as one that waits for a dead disk.
    """
    deadline = time.monotonic() + timeout_s
    while left := children() - spare:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                if pid != os.getpgrp() and os.getpgid(pid) == pid:
                    os.killpg(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return left


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Becomes a worker, or the scheduler, that dies with the process that asked for it."""
    supervisor, run_folder, logs, *worker = arguments
    _die_with(int(supervisor))
    if environment.get("MS_ROLE") == "MS_SCHED":
        os.execv(sys.executable, [sys.executable, "-c", SCHEDULER])
    rank = 0
    if "MS_ROLE" in environment:
        rank = int(environment["RANK_ID"])
        os.rename(Path(logs) / f"worker_{rank}.log", log_path(Path(logs), rank))
    write_beat(heartbeat_path(Path(run_folder), rank), first_beat(rank))
    os.execv(sys.executable, [sys.executable, *worker])


def _die_with(supervisor: int) -> None:
    """The kernel kills this process when its parent ends: which must be the supervisor by then, not msrun."""
    deadline = time.monotonic() + ADOPTION_S
    while os.getppid() != supervisor:
        if time.monotonic() > deadline or not Path(f"/proc/{supervisor}").exists():
            sys.exit("the supervisor is gone")
        time.sleep(0.01)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        sys.exit("the supervisor is gone")


def _spawn(command: Sequence[str], output: Path, environment: Mapping[str, str]) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(output), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(command[0], list(command), dict(environment), file_actions=actions, setsid=True)


def own_address(towards: str) -> str:
    """The address under which this machine is known to those who reach another.

    Raises:
        OSError: the other's name is not known, or no way leads there.
    """
    found = socket.getaddrinfo(towards, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(found[0], socket.SOCK_DGRAM) as probe:
        probe.connect(found[4])
        return str(probe.getsockname()[0])


def _stat(pid: int) -> list[str]:
    """State, parent and what follows them in /proc; empty for a process that is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return []


def _msrun_environment(pid: int) -> dict[str, str]:
    """A child's environment; while it becomes another program there is none to see."""
    deadline = time.monotonic() + IDENTIFICATION_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
            found = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            if "MS_ROLE" in found:
                return found
        time.sleep(0.01)
    return {}


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")


if __name__ == "__main__":
    main(sys.argv[1:], os.environ)
