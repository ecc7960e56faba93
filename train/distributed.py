"""The workers of one run: who they are, and what they agree on beside the training graph.

    group = connect(os.environ, timeout_s=300)     # alone without msrun; every worker of `msrun` gets its own rank
    group.barrier("checkpoint", timeout_s=600)     # or an error that names the ranks that did not come
    step = group.broadcast(step, timeout_s=60)     # what rank 0 says
    total = group.sum(nats, timeout_s=60)          # ranks added in order: the same bits everywhere, every time

MindSpore's CPU backend has no barrier, and its AllReduce waits for ever for a worker that is gone. So rank 0 listens on
a TCP port (its address goes round by one AllReduce), and every exchange passes through it with a deadline.

Covers: msrun on one or several machines, workers that die, stop or take another turn than the others. Does not cover:
gradients, which AllReduce adds in the graph, and joining or leaving during a run.
"""

import contextlib
import json
import secrets
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from mindgeex.train.launch import own_address

ROLE = "MS_ROLE"
"""What msrun sets in the environment of each process that it starts."""

ENDPOINT_BYTES = 256
GRACE_S = 10.0
"""Rank 0 alone sees who is missing: the others give its answer this much longer than the deadline."""


class MissingRanks(RuntimeError):
    """Workers that did not come to an exchange before its deadline, or are gone."""

    def __init__(self, message: str, ranks: Sequence[int]):
        super().__init__(message)
        self.ranks = tuple(ranks)


@dataclass
class Group:
    """The workers of a run, seen from one of them; all must make the same exchanges in the same order.

    After an exchange that failed, the group is of no further use.
    """

    rank: int = 0
    world: int = 1
    peers: dict[int, socket.socket] = field(default_factory=dict)
    """On rank 0 one for each other rank; on the others one, to rank 0."""

    @property
    def is_first(self) -> bool:
        """Whether this worker writes what the run needs once."""
        return self.rank == 0

    def barrier(self, name: str, timeout_s: float) -> None:
        """Waits until every rank is here.

        Raises:
            MissingRanks: some did not come within `timeout_s`, or are gone, or are elsewhere (named).
        """
        self.gather(name, b"", timeout_s)

    def broadcast(self, value: Any, timeout_s: float, name: str = "broadcast") -> Any:
        """What rank 0 gives as `value` (anything JSON can hold); the others' is ignored.

        Raises:
            MissingRanks: as `barrier`.
        """
        own = json.dumps(value).encode() if self.is_first else b""
        return json.loads(self.gather(name, own, timeout_s)[0])

    def sum(self, values: np.ndarray, timeout_s: float, name: str = "sum") -> np.ndarray:
        """The sum over all ranks, added in the order of ranks. For figures, not for gradients.

        Args:
            values: numbers of the same shape and type on every rank.
            timeout_s: how long the slowest may take.
            name: what an error calls the exchange.

        Raises:
            MissingRanks: as `barrier`.
        """
        parts = self.gather(name, np.ascontiguousarray(values).tobytes(), timeout_s)
        total = np.zeros_like(values)
        for part in parts:
            total = total + np.frombuffer(part, values.dtype).reshape(values.shape)
        return total

    def gather(self, name: str, payload: bytes, timeout_s: float) -> list[bytes]:
        """Every rank's payload, in the order of ranks, on every rank.

        Raises:
            MissingRanks: as `barrier`.
        """
        if self.world == 1:
            return [payload]
        deadline = time.monotonic() + timeout_s
        if self.is_first:
            return self._collect(name, payload, timeout_s, deadline)
        return self._contribute(name, payload, timeout_s, deadline + GRACE_S)

    def close(self) -> None:
        """Hangs up. Ranks that still wait for this one learn at once that it is gone."""
        for peer in self.peers.values():
            peer.close()
        self.peers.clear()

    def _collect(self, name: str, payload: bytes, timeout_s: float, deadline: float) -> list[bytes]:
        parts, absent = {0: payload}, {}
        for rank in range(1, self.world):
            try:
                theirs, parts[rank] = _receive(self.peers[rank], deadline)
            except TimeoutError:
                absent[rank] = "did not come"
            except (OSError, KeyError):
                absent[rank] = "is gone"
            else:
                if theirs != name:
                    absent[rank] = f"is at {theirs!r}"
        if absent:
            trouble = f"{name!r}, {timeout_s:.0f} s: " + ", ".join(f"rank {r} {why}" for r, why in absent.items())
            self._tell_all("", [trouble.encode(), json.dumps(list(absent)).encode()])
            raise MissingRanks(trouble, list(absent))
        ordered = [parts[rank] for rank in range(self.world)]
        self._tell_all(name, ordered)
        return ordered

    def _tell_all(self, name: str, parts: Sequence[bytes]) -> None:
        frames = b"".join(_frame(name, part) for part in parts)
        for peer in self.peers.values():
            with contextlib.suppress(OSError):  # who is gone will be missed at the next exchange
                peer.settimeout(GRACE_S)
                peer.sendall(frames)

    def _contribute(self, name: str, payload: bytes, timeout_s: float, deadline: float) -> list[bytes]:
        try:
            _send(self.peers[0], name, payload, timeout_s)
            theirs, first = _receive(self.peers[0], deadline)
            if theirs != name:
                raise MissingRanks(first.decode(), json.loads(_receive(self.peers[0], deadline)[1]))
            return [first, *(_receive(self.peers[0], deadline)[1] for _ in range(1, self.world))]
        except TimeoutError:
            self._without_first(f"{name!r}, {timeout_s:.0f} s: rank 0 did not come")
        except (OSError, KeyError):
            self._without_first(f"{name!r}: rank 0 is gone")

    def _without_first(self, message: str) -> NoReturn:
        raise MissingRanks(message, [0]) from None


def connect(environment: Mapping[str, str], timeout_s: float) -> Group:
    """Joins the other workers of the run.

    The process in which msrun runs MindSpore's scheduler serves here until the run ends, and leaves.

    Args:
        environment: of this process; msrun's variables decide. Without them the worker is alone.
        timeout_s: how long the others may take to come once MindSpore has found them.

    Raises:
        MissingRanks: some did not come.
        RuntimeError: from MindSpore, when workers are missing for --cluster_time_out of msrun.
        SystemExit: this process is the scheduler and the run is over.
    """
    if ROLE not in environment:
        return Group()
    import mindspore as ms
    from mindspore import communication

    communication.init()
    if environment[ROLE] == "MS_SCHED":
        raise SystemExit(0)
    rank, world = communication.get_rank(), communication.get_group_size()
    if world == 1:
        return Group()
    listener, endpoint = None, b""
    if rank == 0:
        listener = socket.create_server((own_address(environment["MS_SCHED_HOST"]), 0), backlog=world)
        host, port = listener.getsockname()[:2]
        endpoint = json.dumps({"host": host, "port": port, "token": secrets.token_hex(16)}).encode()
    letters = np.frombuffer(endpoint.ljust(ENDPOINT_BYTES, b" " if rank == 0 else b"\0"), np.uint8)
    everywhere = ms.ops.AllReduce()(ms.Tensor(letters.astype(np.float32))).asnumpy()
    known = json.loads(everywhere.astype(np.uint8).tobytes())
    deadline = time.monotonic() + timeout_s
    if listener is None:
        peer = socket.create_connection((known["host"], known["port"]), timeout=timeout_s)
        _at_once(peer)
        _send(peer, known["token"], str(rank).encode(), timeout_s)
        return Group(rank, world, {0: peer})
    with listener:
        return Group(0, world, _accept(listener, known["token"], world, deadline))


def _accept(listener: socket.socket, token: str, world: int, deadline: float) -> dict[int, socket.socket]:
    peers: dict[int, socket.socket] = {}
    while len(peers) < world - 1:
        listener.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            peer, _ = listener.accept()
            theirs, rank = _receive(peer, min(deadline, time.monotonic() + GRACE_S))
        except TimeoutError:
            if time.monotonic() < deadline:
                continue  # a stranger who says nothing
            missing = [rank for rank in range(1, world) if rank not in peers]
            raise MissingRanks(f"connecting: no word from ranks {missing}", missing) from None
        except OSError:
            continue
        if secrets.compare_digest(theirs, token):
            peers[int(rank)] = _at_once(peer)
    return peers


def _at_once(peer: socket.socket) -> socket.socket:
    """Without this, each exchange waits 40 ms for the kernel to gather more to send."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def _send(peer: socket.socket, name: str, payload: bytes, timeout_s: float) -> None:
    peer.settimeout(max(0.01, timeout_s))
    peer.sendall(_frame(name, payload))


def _frame(name: str, payload: bytes) -> bytes:
    label = name.encode()
    return struct.pack("!IQ", len(label), len(payload)) + label + payload


def _receive(peer: socket.socket, deadline: float) -> tuple[str, bytes]:
    label, payload = struct.unpack("!IQ", _read(peer, 12, deadline))
    return _read(peer, label, deadline).decode(), _read(peer, payload, deadline)


def _read(peer: socket.socket, length: int, deadline: float) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        peer.settimeout(max(0.01, deadline - time.monotonic()))
        part = peer.recv(min(length - len(parts), 1 << 20))
        if not part:
            raise ConnectionError("hung up")
        parts += part
    return bytes(parts)
