"""`mindgeex hccl`: what is made is sound, and the exit code tells."""

import json
from pathlib import Path

from tests.cli.test_main import mindgeex


def test_make_then_check(tmp_path: Path) -> None:
    hosts, table = tmp_path / "hosts.txt", tmp_path / "table.json"
    hosts.write_text("a 1.1.1.1 1.1.1.2\nb 1.1.1.3 1.1.1.4\n")
    made = mindgeex("hccl", "make", "--hosts", hosts, "--out", table)
    assert (made.returncode, made.stdout) == (0, f"{table}: 2 servers, 4 devices\n")
    checked = mindgeex("hccl", "check", table)
    assert (checked.returncode, checked.stdout) == (0, f"{table}: no problems\n")

    tree = json.loads(table.read_text())
    tree["server_count"] = "4"
    tree["server_list"][0]["device"][0]["rank_id"] = "9"
    table.write_text(json.dumps(tree))
    checked = mindgeex("hccl", "check", table)
    assert checked.returncode == 1 and checked.stderr == ""
    assert [line.split(": ")[1].split(" ")[0] for line in checked.stdout.splitlines()] == [
        "server_count",
        "rank_id",
        "2",
    ]


def test_a_mistake_in_the_hosts_file_writes_nothing(tmp_path: Path) -> None:
    hosts, table = tmp_path / "hosts.txt", tmp_path / "table.json"
    hosts.write_text("a 1.1.1.1\nb 1.1.1.1\n")
    made = mindgeex("hccl", "make", "--hosts", hosts, "--out", table)
    assert made.returncode == 2 and "device_ip 1.1.1.1 is already that of server_list[0] (a) device[0]" in made.stderr
    assert not table.exists()
