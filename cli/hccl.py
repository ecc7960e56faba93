"""`mindgeex hccl`: rank tables, and what HCCL's error codes mean."""

from pathlib import Path
from typing import Annotated

import tyro


def make(
    out: Path,
    hosts: Path | None = None,
    hccn: Path | None = None,
    example: str | None = None,
    pod_servers: int | None = None,
    subnet_bits: int = 24,
) -> None:
    """Make a rank table for HCCL: version 1.0, or 1.2 where servers have super pods.

    Ranks are numbered over the servers in the order of the hosts file. A server is a line "SERVER DEVICE_IP...", or a
    line with the server alone followed by the lines of its /etc/hccn.conf or what `hccn_tool -i N -ip -g` prints.

    Args:
        out: JSON file to write.
        hosts: text file with the servers and the addresses of their NPUs.
        hccn: folder with a file for each server that has no addresses in the hosts file.
        example: instead of hosts, a made-up cluster of SERVERSxDEVICES, such as 192x8.
        pod_servers: servers in each super pod of the example.
        subnet_bits: prefix that devices of one number have to share; 0 where their networks are routed.
    """
    from mindgeex.common.errors import UserError
    from mindgeex.hccl_configs.hosts import example_hosts, read_hosts
    from mindgeex.hccl_configs.rank_table import make_rank_table, write_rank_table

    if (hosts is None) == (example is None):
        raise UserError("give either --hosts FILE or --example SERVERSxDEVICES, such as 192x8")
    if example is None:
        assert hosts is not None
        table = make_rank_table(read_hosts(hosts, hccn))
    else:
        servers, _, devices = example.partition("x")
        if not (servers.isdigit() and devices.isdigit() and 0 < int(servers) <= 60_000 and 0 < int(devices) <= 16):
            raise UserError(f"--example {example}: write SERVERSxDEVICES, such as 192x8; a server has up to 16 devices")
        if pod_servers is not None and pod_servers < 1:
            raise UserError(f"--pod-servers {pod_servers}: it must be at least 1")
        table = make_rank_table(example_hosts(int(servers), int(devices), pod_servers))
    write_rank_table(table, out, subnet_bits)
    print(f"{out}: {len(table.servers)} servers, {table.num_devices} devices")


def merge(tables: Annotated[tuple[Path, ...], tyro.conf.Positional], out: Path) -> None:
    """Merge rank tables, such as one of each server; ranks are numbered anew, in the order of the files.

    Args:
        tables: rank tables.
        out: JSON file to write.
    """
    from mindgeex.hccl_configs.rank_table import merge_rank_tables, write_rank_table

    table = merge_rank_tables(tables)
    write_rank_table(table, out)
    print(f"{out}: {len(table.servers)} servers, {table.num_devices} devices")


def check(file: Annotated[Path, tyro.conf.Positional], subnet_bits: int = 24, resolve: bool = False) -> int:
    """List every mistake in a rank table; the exit code is 1 if there is any.

    Args:
        file: rank table, the JSON that RANK_TABLE_FILE names.
        subnet_bits: prefix that devices of one number have to share; 0 where their networks are routed.
        resolve: also look up the servers' names.
    """
    from mindgeex.hccl_configs.check import check_rank_table

    problems = check_rank_table(file, subnet_bits, resolve)
    for problem in problems:
        print(f"{file}: {problem}")
    print(f"{file}: {len(problems)} problems" if problems else f"{file}: no problems")
    return 1 if problems else 0


def explain(
    file: Annotated[Path, tyro.conf.Positional], mp: int = 1, pp: int = 1, optimizer_shard: int = 1, rank: int = 0
) -> None:
    """Say in words what a rank table holds, and which ranks share a server or a group.

    Args:
        file: rank table.
        mp: parts of each matrix (model parallel).
        pp: stages of layers (pipeline parallel).
        optimizer_shard: ranks that share one copy of the optimizer's state.
        rank: whose groups are the example.
    """
    from mindgeex.hccl_configs.explain import explain as in_words
    from mindgeex.hccl_configs.groups import Split
    from mindgeex.hccl_configs.rank_table import read_rank_table

    table = read_rank_table(file)
    print(in_words(table, Split(table.num_devices, mp, pp, optimizer_shard), rank))


def errors(what: Annotated[tuple[str, ...], tyro.conf.Positional]) -> int:
    """Say what HCCL's and CANN's error codes mean and what to do next; the exit code is 1 if logs hold any.

    Args:
        what: codes, such as EI0006; or logs, or folders whose *.log files are read.
    """
    from mindgeex.common.errors import UserError
    from mindgeex.hccl_configs.error_codes import CODE, explain_code, find_codes

    codes = [word for word in what if CODE.fullmatch(word) and not Path(word).exists()]
    for code in codes:
        found = explain_code(code)
        print(f"{found.code}: {found.meaning}\n  next: {found.next_step}")
    paths = [Path(word) for word in what if word not in codes]
    files = [log for path in paths for log in (sorted(path.rglob("*.log")) if path.is_dir() else [path])]
    if absent := [path for path in files if not path.is_file()]:
        raise UserError(f"{absent[0]}: no such file, and no code like EI0006")
    findings = find_codes((str(log), log.open(encoding="utf-8", errors="replace")) for log in files)
    for finding in findings:
        found = explain_code(finding.code)
        times = "once" if finding.count == 1 else f"{finding.count} times in {len(finding.files)} files, first"
        print(f"{finding.code}: {found.meaning}\n  next: {found.next_step}")
        print(f"  {times} at {finding.where}: {finding.line[:300]}")
    if files and not findings:
        print(f"no error codes of HCCL or CANN in {len(files)} files")
    return 1 if findings else 0
