"""Rank tables: what is made has nothing wrong with it, and every kind of mistake is found and named."""

import copy
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.hccl_configs.check import check_rank_table, find_problems
from mindgeex.hccl_configs.hosts import Host, example_hosts, read_hosts
from mindgeex.hccl_configs.rank_table import make_rank_table, merge_rank_tables, read_rank_table, write_rank_table


def cluster(num_servers: int, num_devices: int) -> list[Host]:
    return [
        Host(
            f"10.0.{s // 250}.{s % 250 + 1}",
            {d: f"192.{168 + s // 250}.{100 + d}.{s % 250 + 1}" for d in range(num_devices)},
        )
        for s in range(num_servers)
    ]


def test_the_layout_is_the_one_hccl_reads() -> None:
    assert make_rank_table(cluster(2, 2)).as_tree() == {
        "version": "1.0",
        "server_count": "2",
        "server_list": [
            {
                "server_id": "10.0.0.1",
                "device": [
                    {"device_id": "0", "device_ip": "192.168.100.1", "rank_id": "0"},
                    {"device_id": "1", "device_ip": "192.168.101.1", "rank_id": "1"},
                ],
            },
            {
                "server_id": "10.0.0.2",
                "device": [
                    {"device_id": "0", "device_ip": "192.168.100.2", "rank_id": "2"},
                    {"device_id": "1", "device_ip": "192.168.101.2", "rank_id": "3"},
                ],
            },
        ],
        "status": "completed",
    }


@settings(max_examples=30, deadline=None)
@given(
    num_devices=st.integers(1, 8),
    addresses=st.lists(st.ip_addresses(v=4).map(str), min_size=1, max_size=64, unique=True),
    names=st.lists(st.text("abcdefgh0123456789.-", min_size=1, max_size=63), min_size=64, max_size=64, unique=True),
)
def test_hosts_come_back_from_the_table_made_of_them(
    tmp_path_factory: pytest.TempPathFactory, num_devices: int, addresses: list[str], names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("table")
    groups = [addresses[at : at + num_devices] for at in range(0, len(addresses), num_devices)]
    groups = [group for group in groups if len(group) == len(groups[0])]
    lines = [f"{name} {' '.join(group)}" for name, group in zip(names, groups, strict=False)]
    (folder / "hosts.txt").write_text("\n".join(lines), encoding="utf-8")

    write_rank_table(make_rank_table(read_hosts(folder / "hosts.txt")), folder / "table.json")

    assert check_rank_table(folder / "table.json", subnet_bits=0) == []
    servers = json.loads((folder / "table.json").read_text())["server_list"]
    assert [f"{s['server_id']} {' '.join(d['device_ip'] for d in s['device'])}" for s in servers] == lines
    ranks = [int(device["rank_id"]) for server in servers for device in server["device"]]
    assert ranks == list(range(len(ranks)))


def test_1536_devices_take_less_than_a_second(tmp_path: Path) -> None:
    start = time.process_time()
    table = make_rank_table(cluster(192, 8))
    write_rank_table(table, tmp_path / "table.json")
    assert check_rank_table(tmp_path / "table.json") == []
    assert time.process_time() - start < 1
    assert table.num_devices == 1536


def server(name: str, last: int) -> dict[str, Any]:
    """A third server, whose ranks follow those of two with two devices, the second of which may have lost one."""
    devices = [
        {"device_id": str(d), "device_ip": f"192.168.{100 + d}.{last}", "rank_id": str((3 if last == 9 else 4) + d)}
        for d in (0, 1)
    ]
    return {"server_id": name, "device": devices}


def device(tree: dict[str, Any], server: int, position: int) -> dict[str, Any]:
    return tree["server_list"][server]["device"][position]


MISTAKES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unknown version": (lambda t: t.update(version="2.0"), "version is '2.0': write '1.0'"),
    "version as a number": (lambda t: t.update(version=1.0), "version is 1.0: write '1.0', as text"),
    "not completed": (lambda t: t.update(status="initializing"), "status is 'initializing'"),
    "no status": (lambda t: t.pop("status"), "status is None"),
    "wrong server_count": (
        lambda t: t.update(server_count="3"),
        "server_count is '3': server_list has 2, so write '2'",
    ),
    "server_count as a number": (lambda t: t.update(server_count=2), "server_count is 2: server_list has 2"),
    "no servers": (lambda t: t.update(server_list=[]), "server_list is []"),
    "a server that is no mapping": (
        lambda t: t["server_list"].append("x") or t.update(server_count="3"),
        "server_list[2] is a str",
    ),
    "a server without name": (lambda t: t["server_list"][0].pop("server_id"), "server_list[0]: server_id is None"),
    "a long name": (lambda t: t["server_list"][0].update(server_id="x" * 64), "give a text of 1 to 63 characters"),
    "one server twice": (
        lambda t: t["server_list"][1].update(server_id="10.0.0.1"),
        "server_list[1]: server_id 10.0.0.1 is already that of server_list[0]",
    ),
    "a server without devices": (
        lambda t: t["server_list"][1].update(device=[]),
        "server_list[1] (10.0.0.2): device is []: list the server's devices",
    ),
    "a device that is no mapping": (
        lambda t: t["server_list"][1]["device"].append(7),
        "server_list[1] (10.0.0.2) device[2] is a int",
    ),
    "duplicate rank": (
        lambda t: device(t, 1, 1).update(rank_id="2"),
        "device[1]: rank_id 2 is already that of server_list[1] (10.0.0.2) device[0]",
    ),
    "gap in the ranks": (lambda t: device(t, 1, 1).update(rank_id="5"), "rank_id goes up to 5 and skips 3, 4"),
    "wide gap": (lambda t: device(t, 1, 1).update(rank_id="40"), "skips 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 27 more"),
    "gap without end": (lambda t: device(t, 1, 1).update(rank_id="9" * 18), "12 and 999999999999999986 more"),
    "rank of too many digits": (lambda t: device(t, 1, 1).update(rank_id="9" * 5000), "give the number as text"),
    "rank as a number": (lambda t: device(t, 1, 1).update(rank_id=3), "rank_id is 3: give the number as text"),
    "duplicate address": (
        lambda t: device(t, 1, 0).update(device_ip="192.168.100.1"),
        "server_list[1] (10.0.0.2) device[0]: device_ip 192.168.100.1 is already that of server_list[0]",
    ),
    "no address": (
        lambda t: device(t, 0, 1).pop("device_ip"),
        "server_list[0] (10.0.0.1) device[1] has no device_ip",
    ),
    "empty address": (lambda t: device(t, 0, 1).update(device_ip=""), "device[1] has no device_ip"),
    "not an address": (lambda t: device(t, 0, 1).update(device_ip="1.2.3"), "device_ip '1.2.3' is not an IP address"),
    "address as a number": (lambda t: device(t, 0, 1).update(device_ip=5), "device_ip 5 is not an IP address"),
    "wrong order of devices": (
        lambda t: t["server_list"][0]["device"].reverse(),
        "device[1]: device_id 0 comes after 1: list devices in ascending order",
    ),
    "a device twice": (lambda t: device(t, 0, 1).update(device_id="0"), "device_id 0 comes after 0"),
    "device beyond a server's": (lambda t: device(t, 0, 1).update(device_id="8"), "device_id 8 is outside of 0 to 7"),
    "no device id": (
        lambda t: device(t, 0, 1).pop("device_id"),
        "server_list[0] (10.0.0.1) device[1]: device_id is None, the key is missing: give the number as text",
    ),
    "another number of devices": (
        lambda t: (
            t["server_list"][1]["device"].pop(),
            t["server_list"].append(server("x", 9)),
            t.update(server_count="3"),
        ),
        "server_list[1] (10.0.0.2): device lists 1 devices, most servers have 2",
    ),
    "another subnet": (
        lambda t: (
            t["server_list"].append(server("x", 3)),
            device(t, 2, 1).update(device_ip="10.9.9.9"),
            t.update(server_count="3", server_list=t["server_list"]),
        ),
        "device_id 1 has mixed subnets: server_list[2] (x) device[1]: 10.9.9.9; 2 of 3 servers are in 192.168.101.0/24",
    ),
    "a server whose devices have another name": (
        lambda t: t["server_list"][0].update(devices=t["server_list"][0].pop("device")),
        "server_list[0] (10.0.0.1): device is None, the key is missing",
    ),
    "a rank in words": (lambda t: device(t, 0, 1).update(rank_id="one"), "device[1]: rank_id is 'one'"),
    "another subnet of two servers": (
        lambda t: device(t, 1, 1).update(device_ip="10.9.9.9"),
        "device_id 1 has mixed subnets: server_list[1] (10.0.0.2) device[1]: 10.9.9.9; 1 of 2 servers are in",
    ),
    "ranks against the order of devices": (
        lambda t: (device(t, 0, 0).update(rank_id="1"), device(t, 0, 1).update(rank_id="0")),
        "server_list[0] (10.0.0.1): rank_id of its devices are [1, 0]: give neighbours in the order of devices",
    ),
    "super pods in version 1.0": (
        lambda t: t.update(super_pod_list=[]),
        "super_pod_list is there, but version is '1.0'",
    ),
    "device id is no number": (
        lambda t: device(t, 0, 1).update(device_id="-1"),
        "device_id is '-1': give the number",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_named_and_nothing_else_is(name: str) -> None:
    change, expected = MISTAKES[name]
    tree = copy.deepcopy(make_rank_table(cluster(2, 2)).as_tree())
    change(tree)
    (problem,) = find_problems(tree)
    assert expected in problem


def test_every_mistake_is_listed_not_only_the_first(tmp_path: Path) -> None:
    tree = make_rank_table(cluster(2, 2)).as_tree()
    tree["version"], tree["server_count"] = "2.0", "9"
    device(tree, 0, 0)["device_ip"] = ""
    device(tree, 1, 1)["rank_id"] = "0"
    (tmp_path / "table.json").write_text(json.dumps(tree))
    problems = check_rank_table(tmp_path / "table.json")
    assert [p.split()[0] for p in problems] == ["version", "server_count", "server_list[0]", "server_list[1]"]


@pytest.mark.parametrize("text", ["[]", "3", "null", '{"version": "1.0"}'])
def test_json_that_is_no_rank_table_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.json").write_text(text)
    assert check_rank_table(tmp_path / "table.json")


def test_what_is_not_json_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text('{\n  "version": "1.0",\n  server_count: 2\n}\n')
    with pytest.raises(UserError, match=r"table\.json, line 3, column 3: not valid JSON"):
        check_rank_table(tmp_path / "table.json")


def test_a_table_with_problems_is_not_written(tmp_path: Path) -> None:
    hosts = [Host("a", {0: "1.1.1.1"}), Host("b", {0: "1.1.1.1"})]
    with pytest.raises(UserError, match="device_ip 1.1.1.1 is already that of"):
        write_rank_table(make_rank_table(hosts), tmp_path / "table.json")
    assert list(tmp_path.iterdir()) == []


def pods() -> dict[str, Any]:
    return make_rank_table(example_hosts(4, 16, pod_servers=2)).as_tree()


def test_super_pods_are_written_as_hccl_reads_them() -> None:
    tree = pods()
    assert find_problems(tree) == []
    assert tree["version"] == "1.2" and device(tree, 3, 15) == {
        "device_id": "15",
        "device_ip": "10.115.0.4",
        "rank_id": "63",
        "super_device_id": "31",
    }
    assert tree["super_pod_list"] == [
        {"super_pod_id": "0", "server_list": [{"server_id": "10.0.0.1"}, {"server_id": "10.0.0.2"}]},
        {"super_pod_id": "1", "server_list": [{"server_id": "10.0.0.3"}, {"server_id": "10.0.0.4"}]},
    ]


POD_MISTAKES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no list": (lambda t: t.pop("super_pod_list"), "super_pod_list is None, the key is missing"),
    "a pod that is no mapping": (lambda t: t["super_pod_list"].append(3), "super_pod_list[2] is a int"),
    "a pod twice": (
        lambda t: t["super_pod_list"][1].update(super_pod_id="0"),
        "super_pod_list[1]: super_pod_id 0 is already that of super_pod_list[0]",
    ),
    "a pod's id as a number": (
        lambda t: t["super_pod_list"][1].update(super_pod_id=1),
        "super_pod_list[1]: super_pod_id is 1: give a text",
    ),
    "a server in no pod": (
        lambda t: t["super_pod_list"][0]["server_list"].pop(),
        "server 10.0.0.2 of server_list is in no",
    ),
    "a server in two pods": (
        lambda t: t["super_pod_list"][1]["server_list"].append({"server_id": "10.0.0.1"}),
        "super_pod_list[1] server_list[2]: server_id 10.0.0.1 is already in super_pod_list[0] server_list[0]",
    ),
    "an unknown server": (
        lambda t: t["super_pod_list"][1]["server_list"].append({"server_id": "x"}),
        "super_pod_list[1] server_list[2]: server_id is 'x': name a server",
    ),
    "no super_device_id": (
        lambda t: device(t, 0, 3).pop("super_device_id"),
        "server 10.0.0.1 device[3]: super_device_id is None",
    ),
    "a super_device_id twice": (
        lambda t: device(t, 1, 0).update(super_device_id="5"),
        "server 10.0.0.2 device[0]: super_device_id 5 is already that of server 10.0.0.1 device[5]",
    ),
    "no address between pods": (lambda t: device(t, 1, 0).pop("device_ip"), "device[0] has no device_ip"),
}


@pytest.mark.parametrize("name", POD_MISTAKES)
def test_a_mistake_about_super_pods_is_found_and_nothing_else_is(name: str) -> None:
    change, expected = POD_MISTAKES[name]
    tree = copy.deepcopy(pods())
    change(tree)
    problems = find_problems(tree)
    assert len(problems) == 1 and expected in problems[0]


def test_one_super_pod_needs_no_addresses() -> None:
    tree = make_rank_table(example_hosts(2, 16, pod_servers=2)).as_tree()
    device(tree, 1, 0).pop("device_ip")
    assert find_problems(tree) == []


def test_comments_are_named_by_line_and_the_rest_is_checked(tmp_path: Path) -> None:
    tree = make_rank_table(cluster(2, 2)).as_tree() | {"status": "see // http://x # y"}
    text = json.dumps(tree, indent=1).replace('"version"', '// written\n/* by\nhand */ "version"')
    (tmp_path / "table.json").write_text(text + "\n# the end\n")
    problems = check_rank_table(tmp_path / "table.json")
    assert [p.split(":")[0] for p in problems[:3]] == ["line 2", "line 3", f"line {text.count(chr(10)) + 2}"]
    assert "'/* by hand */' is a comment" in problems[1]
    assert len(problems) == 4 and "status is 'see // http://x # y'" in problems[3]


def test_a_name_without_address_is_found_only_if_asked(tmp_path: Path) -> None:
    hosts = [Host("localhost", {0: "1.1.1.1"}), Host("no-such-host.invalid", {0: "1.1.1.2"})]
    write_rank_table(make_rank_table(hosts), tmp_path / "table.json")
    assert check_rank_table(tmp_path / "table.json") == []
    (problem,) = check_rank_table(tmp_path / "table.json", resolve=True)
    assert problem.startswith("server_list[1]: server_id 'no-such-host.invalid' has no address")


def test_routed_networks_are_no_problem_if_said_so() -> None:
    hosts = [Host(str(n), {0: f"10.{n // 2}.0.{n}"}) for n in range(4)]
    tree = make_rank_table(hosts).as_tree()
    assert len(find_problems(tree)) == 1 and find_problems(tree, subnet_bits=0) == []
    assert find_problems(tree, subnet_bits=8) == []


def test_a_table_of_each_server_becomes_one(tmp_path: Path) -> None:
    hosts = example_hosts(3, 4)
    paths = [tmp_path / f"{n}.json" for n in range(3)]
    for host, path in zip(hosts, paths, strict=True):
        write_rank_table(make_rank_table([host]), path)
    assert merge_rank_tables(paths) == make_rank_table(hosts)
    with pytest.raises(UserError, match=r"do not go together: server_list\[1\]: server_id 10\.0\.0\.1 is already"):
        merge_rank_tables([paths[0], paths[0]])
    tree = json.loads(paths[1].read_text())
    device(tree, 0, 2)["device_ip"] = "x"
    paths[1].write_text(json.dumps(tree))
    with pytest.raises(UserError, match=r"1\.json: server_list\[0\] \(10\.0\.0\.2\) device\[2\]: device_ip 'x'"):
        merge_rank_tables(paths)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 16), st.none() | st.integers(1, 5))
def test_what_is_written_is_read_back(servers: int, devices: int, pod: int | None) -> None:
    table = make_rank_table(example_hosts(servers, devices, pod))
    with tempfile.TemporaryDirectory() as folder:
        write_rank_table(table, Path(folder) / "t.json")
        assert read_rank_table(Path(folder) / "t.json") == table


JSON = st.recursive(
    st.none() | st.integers(-3, 20) | st.sampled_from(["0", "1", "1.0", "1.2", "completed", "a", "1.1.1.1", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "version",
                    "status",
                    "server_count",
                    "server_list",
                    "super_pod_list",
                    "server_id",
                    "device",
                    "device_id",
                ]
                + ["device_ip", "rank_id", "super_device_id", "super_pod_id"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["version", "server_list", "super_pod_list"]), JSON), st.booleans())
def test_no_json_breaks_the_check(tree: dict[str, Any], has_pods: bool) -> None:
    tree = tree | ({"version": "1.2"} if has_pods else {})
    assert find_problems(tree) and all("\n" not in problem for problem in find_problems(tree))
