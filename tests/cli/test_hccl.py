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


def test_an_example_cluster_is_made_checked_and_explained(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    made = mindgeex("hccl", "make", "--example", "192x8", "--out", table)
    assert (made.returncode, made.stdout) == (0, f"{table}: 192 servers, 1536 devices\n")
    assert mindgeex("hccl", "check", table).stdout == f"{table}: no problems\n"
    explained = mindgeex("hccl", "explain", table, "--mp", "8", "--optimizer-shard", "16", "--rank", "1535")
    assert explained.returncode == 0 and "rank 1535 is in 1528-1535" in explained.stdout
    refused = mindgeex("hccl", "make", "--example", "192", "--out", table)
    assert refused.returncode == 2 and "write SERVERSxDEVICES, such as 192x8" in refused.stderr


def test_tables_of_single_servers_are_merged(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(f"{name} 1.1.1.{ord(name)}\n")
        mindgeex("hccl", "make", "--hosts", tmp_path / name, "--out", tmp_path / f"{name}.json")
    merged = mindgeex("hccl", "merge", tmp_path / "a.json", tmp_path / "b.json", "--out", tmp_path / "both.json")
    assert merged.stdout == f"{tmp_path}/both.json: 2 servers, 2 devices\n"


def test_codes_are_explained_by_name_and_found_in_logs(tmp_path: Path) -> None:
    named = mindgeex("hccl", "errors", "EI0006")
    assert named.returncode == 0 and named.stdout.startswith("EI0006: a rank did not connect within")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/worker_0.log").write_text("fine\nEZ9999: Inner Error!\nEI0006: Getting socket times out\n")
    found = mindgeex("hccl", "errors", tmp_path / "logs")
    assert found.returncode == 1
    assert f"  once at {tmp_path}/logs/worker_0.log, line 3: EI0006: Getting socket" in found.stdout
    (tmp_path / "logs/worker_0.log").write_text("fine\n")
    assert mindgeex("hccl", "errors", tmp_path / "logs").stdout == "no error codes of HCCL or CANN in 1 files\n"
    absent = mindgeex("hccl", "errors", "EI006")
    assert absent.returncode == 2 and absent.stderr == "mindgeex: EI006: no such file, and no code like EI0006\n"
