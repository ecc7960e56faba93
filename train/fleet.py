"""The hosts of a run, seen from its supervisor: an agent on each, what it last said, and whether it still answers.

    fleet = Fleet(Reach(("node0", "node1"), per_host=8), order, logs, environment, deadlines)
    fleet.look()                     # as often as you like: reads what has come, moves the start on
    fleet.workers[9].code            # None while rank 9 runs
    fleet.lost()                     # Lost(node=1, why="node1 has not answered for 61 s"), or None
    fleet.close()                    # nothing is left anywhere, or may still write, when it returns

A host is reached by a command that runs a shell there, by default ssh; none for this machine alone. The shell is told
on its standard input which agent to become, so that nothing is quoted twice and nothing has to be copied before.

Covers: hosts that cannot be reached, do not answer, or do not reach each other; agents that die.
Does not cover: hosts without the same Python environment, working folder, data and run folder at the same paths.
"""

import contextlib
import ipaddress
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mindgeex.train.json_pipe import JsonPipe
from mindgeex.train.launch import Share
from mindgeex.train.reach import OF_A_LAUNCHER, SHELL, Reach, forwarded

PING_S = 1.0
CLOSING_S = 35.0
"""How long an agent that answers may take to end everything."""
MARGIN_S = 5.0
"""What an agent may take from noticing the supervisor's silence until its workers are gone."""


@dataclass
class Worker:
    """What is known of a rank."""

    node: int
    pid: int | None = None
    """None until it has started."""
    code: int | None = None
    """Minus the number of the signal that killed it; None while it runs."""
    is_stopped: bool = False
    """By a signal or a debugger."""
    beat: dict[str, Any] = field(default_factory=dict)
    """Its heartbeat; empty before the first."""


@dataclass(frozen=True)
class Lost:
    """A host that a run cannot go on with."""

    node: int
    why: str
    other: int | None = None
    """Another that may be to blame as well, since the two did not reach each other."""


class Host:
    """The supervisor's end of an agent."""

    def __init__(self, name: str, command: Sequence[str], preface: str, environment: Mapping[str, str], errors: Path):
        self.name, self.errors = name, errors
        with errors.open("wb") as file:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, env=dict(environment),
                start_new_session=True,
            )  # fmt: skip
        assert self.process.stdin is not None and self.process.stdout is not None
        self.pipe = JsonPipe(self.process.stdout.fileno(), self.process.stdin.fileno(), preface.encode())
        self.answered_at = self.pinged_at = time.monotonic()
        self.is_there = False
        self.report: dict[str, Any] = {}
        self.met: dict[str, Any] | None = None
        self.left: list[int] | None = None

    def look(self) -> None:
        """Reads what has come; a word from us shows the agent that we are there."""
        for said in self.pipe.receive():
            self.answered_at, self.is_there = time.monotonic(), True
            self.met, self.left = said.get("met", self.met), said.get("left", self.left)
            if "workers" in said:
                self.report = said
        if self.is_there and time.monotonic() - self.pinged_at >= PING_S:
            self.pinged_at = time.monotonic()
            self.pipe.send({})
        self.pipe.flush()

    @property
    def is_gone(self) -> bool:
        """Whether it can say no more, or has said farewell."""
        return self.left is not None or self.pipe.is_over or self.process.poll() is not None

    def last_words(self) -> str:
        """Of the command that reached it, or the agent."""
        lines = self.errors.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a word"


class Fleet:
    """An agent on every host of one attempt, and the workers below them."""

    def __init__(
        self,
        reach: Reach,
        order: Mapping[str, Any],
        logs: Path,
        environment: Mapping[str, str],
        workdir: Path,
        answering_s: float,
        reaching_s: float,
    ):
        """Starts the agents.

        Args:
            reach: the hosts.
            order: `worker`, `run_folder`, `logs` and `meeting_s` of `Agent.start`.
            logs: where what a host's command complains of goes, host-000.log and so on.
            environment: of the workers; other hosts are sent what FORWARDED names, beside what a login there sets.
            workdir: folder that the workers run in.
            answering_s: how long a host may be silent, or out of the first one's reach.
            reaching_s: how long it may take to be there.
        """
        self.reach, self.order = reach, dict(order)
        self.answering_s, self.reaching_s = answering_s, reaching_s
        self.workers = {rank: Worker(rank // reach.per_host) for rank in range(reach.world)}
        self.has_begun = False
        self.asked_first = False
        become = f"exec {shlex.quote(sys.executable)} -m mindgeex.train.agent"
        start = f"cd -- {shlex.quote(str(workdir.absolute()))} && {become}\n"
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in forwarded(environment).items())
        commands = [(host, reach.shell(host), exports) for host in reach.hosts] or [("", SHELL, "")]
        unset = f"unset {' '.join(OF_A_LAUNCHER)}\n"
        self.hosts = [
            Host(name, command, unset + extra + start, environment, logs / f"host-{node:03d}.log")
            for node, (name, command, extra) in enumerate(commands)
        ]

    @property
    def is_remote(self) -> bool:
        """Whether any agent can be cut off from us."""
        return bool(self.reach.hosts)

    def where(self, rank: int) -> str:
        """A worker's process and host, for people."""
        pid = self.workers[rank].pid
        return f"{'not started' if pid is None else f'process {pid}'}{self.on_host(rank)}"

    def on_host(self, rank: int) -> str:
        """` on HOST`, or nothing where all workers are on this machine."""
        return f" on {self.reach.hosts[self.workers[rank].node]}" if self.is_remote else ""

    def look(self) -> None:
        """Reads what the agents have said since, and goes on with the start."""
        for host in self.hosts:
            host.look()
            for rank, said in host.report.get("workers", {}).items():
                worker = self.workers[int(rank)]
                worker.pid, worker.code, worker.is_stopped = said["pid"], said["code"], said["is_stopped"]
                worker.beat = said["beat"] or worker.beat
        first = self.hosts[0]
        if not self.asked_first and all(host.is_there for host in self.hosts):
            names = [name.rpartition("@")[2] for name in self.reach.hosts]
            towards = names[1] if len(names) > 1 else None
            first.pipe.send({"meet": {"address": _as_address(names[0]) if towards else None, "towards": towards}})
            self.asked_first = True
        if not self.has_begun and first.met:
            self._begin(**first.met)

    def _begin(self, address: str, port: int, link: int) -> None:
        self.has_begun = True
        silence = {"silence_s": self.answering_s} if self.is_remote else {}
        for node, host in enumerate(self.hosts):
            share = Share(self.reach.per_host, self.reach.world, node, address, port)
            host.pipe.send({"start": {**self.order, **silence, "share": asdict(share), "link": link}})

    def errors(self) -> dict[int, str]:
        """Node -> why its workers could not be started."""
        return {node: host.report["error"] for node, host in enumerate(self.hosts) if host.report.get("error")}

    def scheduler_code(self) -> int | None:
        """Exit code of MindSpore's scheduler; None while it runs."""
        return self.hosts[0].report.get("scheduler")

    def signal(self, ranks: Sequence[int], number: signal.Signals) -> None:
        """To those of the workers that live."""
        for node, host in enumerate(self.hosts):
            if mine := [rank for rank in ranks if self.workers[rank].node == node]:
                host.pipe.send({"signal": int(number), "ranks": mine})

    def lost(self, patience_s: float | None = None) -> Lost | None:
        """A host that is gone, or was silent or out of the first one's reach for `patience_s`, or `answering_s`."""
        now, patience_s = time.monotonic(), self.answering_s if patience_s is None else patience_s
        apart = []
        for node, host in enumerate(self.hosts):
            silent_s, name = now - host.answered_at, host.name or "this machine"
            if host.is_gone:
                return Lost(node, f"{name} is gone: {host.last_words()}")
            if not host.is_there and silent_s > self.reaching_s:
                return Lost(node, f"{name} has not answered for {silent_s:.0f} s: {host.last_words()}")
            if host.is_there and self.is_remote and silent_s > patience_s:
                return Lost(node, f"{name} has not answered for {silent_s:.0f} s")
            if (host.report.get("link_s") or 0.0) > patience_s:
                apart.append(node)
        if not apart:
            return None
        link_s = self.hosts[apart[0]].report["link_s"]
        if 1 < len(apart) == len(self.hosts) - 1:
            return Lost(0, f"{self.hosts[0].name} has been out of reach of all other hosts for {link_s} s")
        why = f"{self.hosts[apart[0]].name} has not reached {self.hosts[0].name} for {link_s} s"
        return Lost(apart[0], f"{why}, though both answer here", other=0)

    def never_linked(self) -> Lost | None:
        """A host that no datagram of the first one has reached yet."""
        for node, host in enumerate(self.hosts[1:], start=1):
            if host.report.get("link_s") is None:
                why = f"{host.name} has never reached {self.hosts[0].name}: is there a firewall, or another network?"
                return Lost(node, why, other=0)
        return None

    def close(self) -> list[str]:
        """Ends everything, and waits until nothing can be running.

        Returns:
            What a person should know: processes that nothing could end.
        """
        for host in self.hosts:
            host.pipe.send({"end": True})
        deadline = time.monotonic() + CLOSING_S
        waiting = [host for host in self.hosts if host.is_there]
        while waiting and time.monotonic() < deadline:
            for host in waiting:
                host.look()
            now = time.monotonic()
            waiting = [
                host
                for host in waiting
                if not host.is_gone and not (self.is_remote and now - host.answered_at > self.answering_s)
            ]
            time.sleep(0.02)
        said = []
        for host in self.hosts:
            if host.left:
                said.append(f"{host.name or 'this machine'}: processes {host.left} cannot be killed")
            for end in (host.process.stdin, host.process.stdout):
                assert end is not None
                with contextlib.suppress(OSError):
                    end.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                host.process.wait(1.0)
            host.process.kill()
            host.process.wait()
        heard = [host for host in self.hosts if host.is_there and self.is_remote and self.has_begun]
        unsure = [host for host in heard if host.left is None]
        ends_at = max((host.pinged_at for host in unsure), default=0.0) + self.answering_s + MARGIN_S
        if unsure and (rest := ends_at - time.monotonic()) > 0:
            names = ", ".join(host.name for host in unsure)
            print(f"waiting {rest:.0f} s: by then {names}, if still alive, has ended its workers by itself", flush=True)
            time.sleep(rest)
        return said


def _as_address(name: str) -> str | None:
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(name.strip("[]")))
    return None
