"""`mindgeex hccl make` and `mindgeex hccl check`: rank tables."""

from pathlib import Path
from typing import Annotated

import tyro


def make(hosts: Path, out: Path) -> None:
    """Makes a rank table for HCCL, version 1.0.

    Ranks are numbered over the servers in the order of the hosts file. A server is a line "SERVER DEVICE_IP...", or a
    line with the server alone followed by the lines of its /etc/hccn.conf.

    Args:
        hosts: text file with the servers and the addresses of their NPUs.
        out: JSON file to write.
    """
    from mindgeex.hccl_configs.hosts import read_hosts
    from mindgeex.hccl_configs.rank_table import make_rank_table, write_rank_table

    table = make_rank_table(read_hosts(hosts))
    write_rank_table(table, out)
    print(f"{out}: {len(table.servers)} servers, {table.num_devices} devices")


def check(file: Annotated[Path, tyro.conf.Positional]) -> int:
    """Lists every mistake in a rank table; the exit code is 1 if there is any.

    Args:
        file: rank table, the JSON that RANK_TABLE_FILE names.
    """
    from mindgeex.hccl_configs.check import check_rank_table

    problems = check_rank_table(file)
    for problem in problems:
        print(f"{file}: {problem}")
    print(f"{file}: {len(problems)} problems" if problems else f"{file}: no problems")
    return 1 if problems else 0
