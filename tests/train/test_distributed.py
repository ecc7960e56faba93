"""Exchanges between threads over real sockets, and once between processes of msrun."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.train import distributed
from mindgeex.train.distributed import Group, MissingRanks, connect


@contextlib.contextmanager
def groups(world: int):
    """The same group, seen from each of its ranks."""
    pairs = [socket.socketpair() for _ in range(world - 1)]
    first = Group(0, world, {rank: pair[0] for rank, pair in enumerate(pairs, 1)})
    members = [first, *(Group(rank, world, {0: pair[1]}) for rank, pair in enumerate(pairs, 1))]
    try:
        yield members
    finally:
        for member in members:
            member.close()


def on_each(members, function) -> list:
    """What `function` returns, or raises, on each rank at the same time."""

    def caught(member):
        try:
            return function(member)
        except MissingRanks as error:
            return error

    with ThreadPoolExecutor(len(members)) as pool:
        return list(pool.map(caught, members))


def test_one_worker_needs_nobody():
    alone = connect({"PATH": "/bin"}, timeout_s=1)
    alone.barrier("here", 1)
    assert (alone.rank, alone.world, alone.is_first) == (0, 1, True)
    assert alone.broadcast({"step": 3}, 1) == {"step": 3}
    assert alone.sum(np.array([1.5, 2.5]), 1).tolist() == [1.5, 2.5]


@given(st.integers(2, 5), st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=9), st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_sum_has_the_bits_of_adding_in_the_order_of_ranks_everywhere(world, numbers, is_double):
    values = [np.array(numbers, np.float64 if is_double else np.float32) * (rank - 1.3) for rank in range(world)]
    expected = values[0]
    for value in values[1:]:
        expected = expected + value
    with groups(world) as members:
        sums = on_each(members, lambda group: group.sum(values[group.rank], 10))
    assert all(s.dtype == expected.dtype and s.tobytes() == (expected + 0.0).tobytes() for s in sums)


def test_all_get_what_the_first_says_and_everybodys_in_order():
    with groups(3) as members:
        said = on_each(members, lambda group: group.broadcast({"from": group.rank}, 10))
        gathered = on_each(members, lambda group: group.gather("all", bytes([group.rank]) * 300_000, 10))
    assert said == [{"from": 0}] * 3
    assert gathered == [[bytes([rank]) * 300_000 for rank in range(3)]] * 3


def test_nobody_passes_a_barrier_before_the_last_has_come():
    with groups(3) as members:
        arrived = []

        def late(group):
            time.sleep(0.2 * group.rank)
            arrived.append(group.rank)
            group.barrier("here", 10)
            return len(arrived)

        assert on_each(members, late) == [3, 3, 3]


def test_all_learn_at_the_deadline_who_did_not_come():
    with groups(4) as members:
        errors = on_each([members[0], members[2]], lambda group: group.barrier("checkpoint", 0.3))
    assert [error.ranks for error in errors] == [(1, 3)] * 2
    assert str(errors[1]) == "'checkpoint', 0 s: rank 1 did not come, rank 3 did not come"


def test_who_is_gone_is_named_at_once():
    with groups(3) as members:
        members[1].close()
        started = time.monotonic()
        errors = on_each([members[0], members[2]], lambda group: group.barrier("start", 30))
        assert time.monotonic() - started < 5
    assert [error.ranks for error in errors] == [(1,)] * 2
    assert "rank 1 is gone" in str(errors[0])


def test_who_is_elsewhere_is_named_with_the_place():
    with groups(2) as members:
        names = ["evaluation", "checkpoint"]
        errors = on_each(members, lambda group: group.barrier(names[group.rank], 10))
    assert all("'evaluation', 10 s: rank 1 is at 'checkpoint'" in str(error) for error in errors)


def test_a_first_rank_that_is_gone_or_late_is_named(monkeypatch):
    monkeypatch.setattr(distributed, "GRACE_S", 0.2)
    with groups(2) as members:
        with pytest.raises(MissingRanks, match="rank 0 did not come"):
            members[1].barrier("start", 0.2)
        members[0].close()
        with pytest.raises(MissingRanks, match="rank 0 is gone"):
            members[1].barrier("start", 30)


def test_a_stranger_at_the_door_is_no_worker():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()

        def come(token: str):
            peer = socket.create_connection(address)
            distributed._send(peer, token, b"1", 5)
            return peer

        strangers = [come("guess"), socket.create_connection(address)]
        strangers[1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        strangers[1].close()
        worker = threading.Timer(0.3, lambda: strangers.append(come("secret")))
        worker.start()
        peers = distributed._accept(listener, "secret", 2, time.monotonic() + 20)
        worker.join()
        assert peers[1].getpeername() == strangers[2].getsockname()
        with pytest.raises(MissingRanks, match=r"no word from ranks \[1, 2\]"):
            distributed._accept(listener, "secret", 3, time.monotonic() + 0.2)
        for peer in (*strangers, *peers.values()):
            peer.close()


WORKER = """
import os, sys, time
import numpy as np
from mindgeex.train.distributed import MissingRanks, connect
group = connect(os.environ, 60)
print(group.rank, group.world, group.broadcast(group.rank + 7, 60), group.sum(np.array([group.rank + 0.5]), 60))
if group.rank == 1:
    time.sleep(8)
try:
    group.barrier("late", 2)
except MissingRanks as error:
    print(error)
"""


def test_workers_of_msrun_find_each_other_and_its_scheduler_leaves_with_them(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    bin_folder = os.path.dirname(sys.executable)
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
        "GLOG_v": "3",
    }
    command = ["msrun", "--worker_num=2", "--local_worker_num=2", f"--master_port={port}", "--join=True",
               f"--log_dir={tmp_path}", str(script)]  # fmt: skip
    subprocess.run(command, env=environment, check=True, timeout=100, capture_output=True, cwd=tmp_path)
    logs = [(tmp_path / f"worker_{rank}.log").read_text() for rank in range(2)]
    assert "0 2 7 [2.]" in logs[0]
    assert "1 2 7 [2.]" in logs[1]
    assert all("'late', 2 s: rank 1 did not come" in log for log in logs)
    assert "Traceback" not in (tmp_path / "scheduler.log").read_text()
