"""Agents and what is known of them: on this machine twice, or in network namespaces, as hosts; real processes."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from mindgeex.common.errors import UserError
from mindgeex.train.fleet import Fleet, Lost
from mindgeex.train.reach import Reach, forwarded
from mindgeex.train.supervisor import Job, Spares
from tests.train.network import network

TWICE = ("127.0.0.1", "127.0.0.2")
HERE = "env HOST={host}"
"""In the place of ssh."""


def fleet_of(folder: Path, reach: Reach, environment: dict[str, str] | None = None, answering_s: float = 2.0) -> Fleet:
    """A worker on each host that sleeps."""
    folders = {"run_folder": str(folder), "logs": str(folder)}
    order = {"worker": ["-c", "import time; time.sleep(99)"], "meeting_s": 30, **folders}
    environment = {**(environment or os.environ), "GLOG_v": "3"}
    return Fleet(reach, order, folder, environment, folder, answering_s, reaching_s=60)


def wait_for(fleet: Fleet, condition, seconds: float = 60.0) -> float:
    """Looks until it holds; the seconds that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() < started + seconds
        fleet.look()
        time.sleep(0.02)
    return time.monotonic() - started


def have_started(fleet: Fleet) -> bool:
    return all(worker.pid is not None for worker in fleet.workers.values())


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def pids_of(fleet: Fleet) -> list[int]:
    return [worker.pid for worker in fleet.workers.values() if worker.pid is not None]


def test_a_host_that_stands_still_is_lost_and_nothing_of_it_runs_on(tmp_path, capfd):
    fleet = fleet_of(tmp_path, Reach(TWICE[:1], 1, HERE))
    try:
        wait_for(fleet, lambda: have_started(fleet))
        pids = pids_of(fleet)
        assert fleet.lost() is None and fleet.errors() == {}
        assert fleet.where(0) == f"process {pids[0]} on 127.0.0.1"
        os.kill(fleet.hosts[0].process.pid, signal.SIGSTOP)
        assert 1.5 < wait_for(fleet, fleet.lost) < 8
        assert fleet.lost() == Lost(0, "127.0.0.1 has not answered for 2 s")
        assert alive(pids) == pids
    finally:
        assert fleet.close() == []
    assert alive(pids) == []
    assert "by then 127.0.0.1, if still alive, has ended its workers by itself" in capfd.readouterr().out


def test_an_agent_that_hears_nothing_ends_its_workers(tmp_path):
    fleet = fleet_of(tmp_path, Reach(TWICE[:1], 1, HERE))
    try:
        wait_for(fleet, lambda: have_started(fleet))
        [pid] = pids_of(fleet)
        time.sleep(1)
        assert alive([pid])
        deadline = time.monotonic() + 20
        while alive([pid]):  # nobody looks, so nobody speaks to it
            assert time.monotonic() < deadline
            time.sleep(0.05)
        wait_for(fleet, lambda: fleet.look() or fleet.hosts[0].is_gone)
        assert fleet.lost() == Lost(0, "127.0.0.1 is gone: without a word")
    finally:
        fleet.close()


def test_a_host_that_refuses_is_named_with_what_ssh_says(tmp_path):
    refusing = "sh -c 'echo ssh: connect to {host} port 22: Connection refused >&2; exit 255'"
    fleet = fleet_of(tmp_path, Reach(TWICE, 1, refusing))
    try:
        wait_for(fleet, fleet.lost)
        assert fleet.lost() == Lost(0, "127.0.0.1 is gone: ssh: connect to 127.0.0.1 port 22: Connection refused")
    finally:
        fleet.close()


def test_a_cut_between_two_hosts_is_seen_though_both_answer(tmp_path):
    with network(tmp_path, 2) as hosts:
        hosts.cut(hosts.hosts[1])
        fleet = fleet_of(tmp_path, Reach(hosts.hosts, 1), hosts.environment)
        try:
            wait_for(fleet, lambda: all(host.report for host in fleet.hosts) and fleet.has_begun)
            time.sleep(1)
            fleet.look()
            assert "has never reached" in fleet.never_linked().why
            assert fleet.lost() is None
            hosts.mend(hosts.hosts[1])
            wait_for(fleet, lambda: fleet.never_linked() is None)
            hosts.cut(hosts.hosts[1])
            assert 1 < wait_for(fleet, fleet.lost) < 8
            lost = fleet.lost()
            assert (lost.node, lost.other) == (1, 0)
            assert f"{hosts.hosts[1]} has not reached {hosts.hosts[0]} for" in lost.why
            started = time.monotonic()
        finally:
            assert fleet.close() == []
        assert time.monotonic() - started < 5  # both have said that all is over: no silence has to be waited for
        assert hosts.processes() == []


def test_of_two_hosts_that_do_not_reach_each_other_the_one_suspected_more_often_goes():
    spares = Spares(Reach(("a", "b")), ["c", "d"])
    assert spares.replace(Lost(1, "cut", other=0)) == " with c in the place of b"
    assert spares.replace(Lost(1, "cut", other=0)) == " with d in the place of a"
    assert spares.reach.hosts == ("d", "c")
    assert spares.replace(Lost(0, "gone")) == " with b in the place of d"  # the first that was lost may be back
    assert Spares(Reach(("a", "b")), []).replace(Lost(0, "gone")) == ""


def test_variables_of_mindspore_and_cann_go_along_and_ranks_of_another_launcher_do_not():
    own = {
        "HCCL_SOCKET_IFNAME": "eth0",
        "MS_NODE_TIMEOUT": "9",
        "PATH": "/bin",
        "HOME": "/root",
        "MS_ROLE": "MS_WORKER",
    }
    assert set(forwarded(own)) == {"HCCL_SOCKET_IFNAME", "MS_NODE_TIMEOUT", "PATH"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reach": Reach(("a",)), "spare_hosts": ("b",)}, "--spare-hosts without --restarts"),
        ({"spare_hosts": ("b",), "restarts": 1}, "--spare-hosts without --hosts"),
        ({"reach": Reach(("a",)), "spare_hosts": ("a",), "restarts": 1}, "a is there twice"),
        ({"reach": Reach(("a",)), "spare_hosts": ("-x",), "restarts": 1}, "give a host's name or address"),
    ],
)
def test_hosts_that_cannot_be_meant_are_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        Job((sys.executable,), tmp_path, **changes)


def test_a_command_that_reaches_nobody_in_particular_is_refused():
    with pytest.raises(UserError, match="--reach 'ssh': write {host}"):
        Reach(("a",), command="ssh")
