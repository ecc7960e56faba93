"""One host's part of a supervised run: starts its workers, says how they are, and ends them.

    python -m mindgeex.train.agent        # orders on standard input, reports on standard output: JSON, a line each

    says   {"hello": "node0"}                         it is there
    hears  {"meet": {"towards": "node1"}}             the first host only: where the others shall come to
    says   {"met": {"address": ..., "port": ..., "link": ...}}
    hears  {"start": {...}}                           the fields of `Agent.start`
    says   {"workers": {"0": {"pid": 4, "code": null, "is_stopped": false, "beat": {...}}}, "link_s": 0.3, ...}
    hears  {"signal": 15, "ranks": [0, 1]}, {} every second, {"end": true}
    says   {"left": []}                               processes that nothing could end

No worker outlives the agent, nor the agent its supervisor: the end of its input ends it, and so does a silence of
`silence_s`, since a host that was cut off must not go on writing where another has taken its place. Beside that, every
agent exchanges a datagram a second with the first host's, so that a cut between hosts is known before collectives
time out.

Covers: one host of any number; SIGTERM from a cluster's scheduler, which is passed on. Does not cover: starting agents
(fleet.py), judging what they say (watch.py).
"""

import contextlib
import os
import select
import signal
import socket
import time
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.common.files import read_json
from mindgeex.train import launch
from mindgeex.train.callbacks.heartbeat import heartbeat_path
from mindgeex.train.json_pipe import JsonPipe

POLL_S = 0.1
REPORT_S = 1.0
"""At most this long between two reports."""
FAREWELL_S = 2.0


class Agent:
    """What is known on this host."""

    def __init__(self, pipe: JsonPipe):
        self.pipe = pipe
        self.heard_at = time.monotonic()
        self.silence_s: float | None = None
        self.is_over = False
        self.link: socket.socket | None = None
        self.is_first = False
        self.linked_at: float | None = None
        """When the first host last answered; None before the first time."""
        self.asked_at = 0.0
        self.starting: launch.Starting | None = None
        self.processes = launch.Processes({})
        self.run_folder = Path()
        self.codes: dict[int, int] = {}
        self.scheduler_code: int | None = None
        self.error: str | None = None
        self.reported: dict[str, Any] = {}
        self.reported_at = 0.0

    def run(self) -> None:
        """Until the order to end, the supervisor's end, or its silence."""
        self.pipe.send({"hello": socket.gethostname()})
        while not self.is_over:
            sources: list[Any] = [self.pipe.incoming, *([self.link] if self.link else [])]
            select.select(sources, [], [], POLL_S)
            for order in self.pipe.receive():
                self.heard_at = time.monotonic()
                self.obey(order)
            silent_s = time.monotonic() - self.heard_at
            self.is_over |= self.pipe.is_over or (self.silence_s is not None and silent_s > self.silence_s)
            self.exchange()
            self.look()
            self.report()

    def obey(self, order: dict[str, Any]) -> None:
        """Carries out one order."""
        if "meet" in order:
            self.meet(**order["meet"])
        elif "start" in order:
            self.start(**order["start"])
        elif "signal" in order:
            self.pass_on(order["signal"], order["ranks"])
        self.is_over |= order.get("end", False)

    def meet(self, address: str | None = None, towards: str | None = None) -> None:
        """This host is the first: finds an address and ports under which the others reach it.

        Args:
            address: of this host, if it was given as one.
            towards: another host; the address is that of the card that leads there.
        """
        self.is_first = True
        address = address or (launch.own_address(towards) if towards else "127.0.0.1")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.link = socket.socket(family, socket.SOCK_DGRAM)
        self.link.bind((address, 0))
        self.link.setblocking(False)
        with socket.create_server((address, 0), family=family) as probe:
            port = probe.getsockname()[1]
        self.pipe.send({"met": {"address": address, "port": port, "link": self.link.getsockname()[1]}})

    def start(
        self,
        worker: list[str],
        share: dict[str, Any],
        run_folder: str,
        logs: str,
        meeting_s: float,
        link: int | None = None,
        silence_s: float | None = None,
    ) -> None:
        """Begins to start the workers.

        Args:
            worker: arguments of Python.
            share: fields of `launch.Share`.
            run_folder: where the heartbeats are.
            logs: folder of this attempt.
            meeting_s: how long the workers may take to find each other.
            link: the port on the first host that answers datagrams.
            silence_s: without orders for so long, this host ends its workers; None: never.
        """
        self.run_folder, self.silence_s = Path(run_folder), silence_s
        mine = launch.Share(**share)
        if not self.is_first and link is not None:
            self.link = socket.socket(socket.AF_INET6 if ":" in mine.address else socket.AF_INET, socket.SOCK_DGRAM)
            self.link.setblocking(False)
            self.link.connect((mine.address, link))
        self.starting = launch.Starting(worker, mine, self.run_folder, Path(logs), os.environ, meeting_s)

    def exchange(self) -> None:
        """Answers the other agents' datagrams, or asks the first host's for one."""
        if self.link is None:
            return
        with contextlib.suppress(OSError):  # nothing has come; or no way there, which the silence will say
            while True:
                data, source = self.link.recvfrom(16)
                if self.is_first:
                    self.link.sendto(data, source)
                else:
                    self.linked_at = time.monotonic()
        if not self.is_first and time.monotonic() - self.asked_at >= REPORT_S:
            self.asked_at = time.monotonic()
            with contextlib.suppress(OSError):
                self.link.send(b"?")

    def look(self) -> None:
        """Who has started, and who has ended."""
        if self.starting is not None and not self.processes.workers and self.error is None:
            try:
                self.processes = self.starting.poll() or self.processes
            except launch.LaunchError as error:
                self.error = str(error)
        for rank, pid in self.processes.workers.items():
            if rank not in self.codes and (code := launch.exit_code(pid)) is not None:
                self.codes[rank] = code
        if self.processes.scheduler is not None and self.scheduler_code is None:
            self.scheduler_code = launch.exit_code(self.processes.scheduler)

    def report(self) -> None:
        """Says what has changed, and at least once a second that nothing has."""
        link_s = None if self.linked_at is None else round(time.monotonic() - self.linked_at)
        report = {
            "workers": {rank: self.worker(rank, pid) for rank, pid in self.processes.workers.items()},
            "scheduler": self.scheduler_code,
            "link_s": link_s,
            "error": self.error,
        }
        now = time.monotonic()
        if self.pipe.flush() and (report != self.reported or now - self.reported_at >= REPORT_S):
            self.pipe.send(report)
            self.reported, self.reported_at = report, now

    def worker(self, rank: int, pid: int) -> dict[str, Any]:
        """How one is; the exit code was read before the beat, so that of the dead the last one is told."""
        beat = None
        with contextlib.suppress(UserError):  # not there yet, or cut by a crash of the machine
            beat = read_json(heartbeat_path(self.run_folder, rank))
        if not isinstance(beat, dict) or beat.get("pid") != pid:
            beat = None  # an earlier attempt's
        code = self.codes.get(rank)
        return {"pid": pid, "code": code, "is_stopped": code is None and launch.is_stopped(pid), "beat": beat}

    def pass_on(self, number: int, ranks: list[int] | None = None) -> None:
        """A signal, to workers that live; to all of them by default."""
        for rank, pid in self.processes.workers.items():
            if rank not in self.codes and (ranks is None or rank in ranks):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def end(self) -> None:
        """Kills whoever is left, and says farewell."""
        left = launch.kill_all(set())
        self.pipe.send({"left": sorted(left)})
        deadline = time.monotonic() + FAREWELL_S
        while not self.pipe.flush() and not self.pipe.is_over and time.monotonic() < deadline:
            time.sleep(POLL_S)


def main() -> None:
    """Serves the supervisor at the other end of standard input and output."""
    agent = Agent(JsonPipe(0, 1))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: agent.pass_on(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with launch.adopting_orphans():
        try:
            agent.run()
        finally:
            agent.end()


if __name__ == "__main__":
    main()
