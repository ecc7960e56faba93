"""The hosts file: both notations, and what is said about a line that cannot be right."""

from pathlib import Path

import pytest

from mindgeex.common.errors import UserError
from mindgeex.hccl_configs.hosts import Host, read_hosts


def hosts_file(folder: Path, text: str) -> Path:
    path = folder / "hosts.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_both_notations_give_the_same_hosts(tmp_path: Path) -> None:
    lines = hosts_file(
        tmp_path, "# two servers\n10.0.0.1 192.168.100.1 192.168.101.1\n\n10.0.0.2 192.168.100.2 192.168.101.2\n"
    )
    as_lines = read_hosts(lines)
    hccn = "address_{}=192.168.{}.{}\nnetmask_{}=255.255.255.0\ngateway_{} = 192.168.100.254\nsend_arp_status_{}=1\n"
    blocks = [
        f"10.0.0.{server}  # rack {server}\n"
        + "".join(hccn.format(device, 100 + device, server, device, device, device) for device in (1, 0))
        for server in (1, 2)
    ]
    as_blocks = read_hosts(hosts_file(tmp_path, "\n".join(blocks)))
    assert as_lines == as_blocks
    assert [host.name for host in as_lines] == ["10.0.0.1", "10.0.0.2"]
    assert as_lines[1].device_ips == {0: "192.168.100.2", 1: "192.168.101.2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no server"),
        ("# nobody\n", "lists no server"),
        ("10.0.0.1\n", r"line 1: server 10\.0\.0\.1 has no device"),
        ("10.0.0.1 192.168.100\n", r"line 1: '192\.168\.100' is not an IP address: give device 0"),
        ("a\naddress_0=1.1.1.1 1.1.1.2\n", "line 2: '1.1.1.1 1.1.1.2' is not an IP address"),
        ("address_0=192.168.1.1\n", "line 1: 'address_0=192.168.1.1' comes before any server"),
        ("10.0.0.1\naddress_0=\n", "line 2: '' is not an IP address"),
        ("a\naddress_0=1.1.1.1\naddress_0=1.1.1.2\n", "line 3: device 0 of server a is given twice"),
        ("a 1.1.1.1 1.1.1.2\n\nb 1.1.1.3\n", "line 3: server b has 1 devices and a has 2"),
    ],
)
def test_a_line_that_cannot_be_right_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_hosts(hosts_file(tmp_path, text))


def test_a_missing_file_and_one_that_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_hosts(tmp_path / "absent")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as UTF-8"):
        read_hosts(tmp_path / "binary")


def test_what_hccn_tool_prints_is_a_servers_devices(tmp_path: Path) -> None:
    text = """
a slots=2
[root@a ~]# hccn_tool -i 1 -ip -g
ipaddr:192.168.101.1
netmask:255.255.255.0

[root@a ~]# hccn_tool -i 0 -ip -g
ipaddr:192.168.100.1
netmask:255.255.255.0
b
ipaddr:192.168.100.2
netmask:255.255.255.0
ipaddr:192.168.101.2
netmask:255.255.255.0
"""
    assert read_hosts(hosts_file(tmp_path, text)) == [
        Host("a", {0: "192.168.100.1", 1: "192.168.101.1"}),
        Host("b", {0: "192.168.100.2", 1: "192.168.101.2"}),
    ]


def test_a_server_may_have_a_file_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "hccn"
    folder.mkdir()
    (folder / "a").write_text("address_0=1.1.1.1\nnetmask_0=255.255.255.0\n")
    (folder / "b.txt").write_text("# b\nhccn_tool -i 0 -ip -g\nipaddr:1.1.1.2\n")
    hosts = hosts_file(tmp_path, "a\nb\nc 1.1.1.3\n")
    assert [host.device_ips for host in read_hosts(hosts, folder)] == [{0: "1.1.1.1"}, {0: "1.1.1.2"}, {0: "1.1.1.3"}]
    with pytest.raises(
        UserError, match=r"hosts\.txt, line 4: server d has no addresses there and no file .*hccn/d: ssh d"
    ):
        read_hosts(hosts_file(tmp_path, "a\nb\nc 1.1.1.3\nd\n"), folder)
    (folder / "a").write_text("address_0=1.1.1.1\nno such line\n")
    with pytest.raises(UserError, match=r"hccn/a, line 2: 'no such line' is neither"):
        read_hosts(hosts, folder)


def test_super_pods_and_slots_are_options_of_a_server(tmp_path: Path) -> None:
    text = "a super_pod=7 slots=1\naddress_0=1.1.1.1\nsuper_device_0=37748736\n"
    assert read_hosts(hosts_file(tmp_path, text)) == [Host("a", {0: "1.1.1.1"}, "7", {0: "37748736"})]
    with pytest.raises(UserError, match=r"line 1: server a has slots=2 and 1 addresses"):
        read_hosts(hosts_file(tmp_path, "a slots=2 1.1.1.1\n"))
    with pytest.raises(UserError, match=r"line 1: slots is 'x'"):
        read_hosts(hosts_file(tmp_path, "a slots=x 1.1.1.1\n"))
