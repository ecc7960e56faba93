"""A rank table in words: the servers, and which ranks share a server or a group of a training run.

Covers: text for a terminal. Does not cover: how much the groups send each other (`mindgeex plan` does).
"""

from mindgeex.common.errors import UserError
from mindgeex.hccl_configs.groups import Split
from mindgeex.hccl_configs.rank_table import RankTable, Server

MAX_SERVERS = 16
"""More are shortened to the first and the last few."""
SHOWN_FIRST, SHOWN_LAST = 4, 2
KINDS = {
    "mp": "model parallel: exchange parts of every layer, several times a layer",
    "dp": "data parallel: add up gradients, once a step",
    "optimizer_shard": "optimizer shard: share one copy of weights' moments, gathered every step",
    "pp": "pipeline: hand activations from stage to stage",
}


def explain(table: RankTable, split: Split, rank: int = 0) -> str:
    """What a rank table says, for people.

    Args:
        table: without problems.
        split: of as many ranks as the table has.
        rank: whose groups are shown as the example.

    Raises:
        UserError: there is no such rank.
    """
    if not 0 <= rank < table.num_devices:
        raise UserError(f"--rank {rank}: the table has ranks 0 to {table.num_devices - 1}")
    count = len(table.servers[0].devices)
    lines = [
        f"version {table.version}: {table.num_devices:,} NPUs, {len(table.servers)} servers of {count}",
        *_pod_lines(table),
        "",
        *_server_lines(table),
        "",
        f"mp {split.mp} x dp {split.dp} x pp {split.pp}, optimizer shard {split.optimizer_shard}",
    ]
    server_of = {rank: server for server in table.servers for rank in server.ranks}
    for kind, meaning in KINDS.items():
        lines += _group_lines(kind, meaning, split, server_of, rank)
    return "\n".join(lines)


def _pod_lines(table: RankTable) -> list[str]:
    pods: dict[str, list[Server]] = {}
    for server in table.servers:
        if server.super_pod_id is not None:
            pods.setdefault(server.super_pod_id, []).append(server)
    return [
        f"super pod {pod}: {len(servers)} servers, ranks {spans([rank for server in servers for rank in server.ranks])}"
        for pod, servers in pods.items()
    ]


def _server_lines(table: RankTable) -> list[str]:
    servers: list[Server | None] = list(table.servers)
    if len(servers) > MAX_SERVERS:
        servers = [*servers[:SHOWN_FIRST], None, *servers[-SHOWN_LAST:]]
    rows = [("server", "ranks", "devices", "addresses of the devices")]
    for server in servers:
        if server is None:
            rows.append(("...", "", "", f"{len(table.servers) - SHOWN_FIRST - SHOWN_LAST} more"))
            continue
        ips = [device.device_ip or "-" for device in server.devices]
        shown = ips[0] if len(ips) == 1 else f"{ips[0]} ... {ips[-1]}"
        ids = spans([device.device_id for device in server.devices])
        rows.append((server.server_id, spans(list(server.ranks)), ids, shown))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return ["  ".join([*(c.ljust(w) for c, w in zip(row[:3], widths, strict=True)), row[3]]).rstrip() for row in rows]


def _group_lines(kind: str, meaning: str, split: Split, server_of: dict[int, Server], rank: int) -> list[str]:
    example = split.group_of(kind, rank)
    if len(example) == 1:
        return []
    groups = list(split.groups(kind))
    servers = [len({server_of[r].server_id for r in group}) for group in groups]
    lines = [
        f"{meaning}",
        f"  {len(groups):,} groups of {len(example)}; rank {rank} is in {_stepped(example)}",
    ]
    if max(servers) == 1:
        return [*lines, "  every group stays inside one server"]
    pods = [len({server_of[r].super_pod_id for r in group}) for group in groups]
    reach = f"  groups span up to {max(servers)} servers"
    if server_of[rank].super_pod_id is not None:
        reach += " of one super pod" if max(pods) == 1 else f" and {max(pods)} super pods"
    lines.append(reach)
    if kind == "mp" and not (server_of[rank].super_pod_id is not None and max(pods) == 1):
        crossing = next(group for group, count in zip(groups, servers, strict=True) if count > 1)
        fit = min(len(server.devices) for server in server_of.values())
        lines.append(
            f"  SLOW: {sum(count > 1 for count in servers)} model parallel groups leave their server, such as "
            f"{_stepped(crossing)}: choose an mp that divides the {fit} NPUs of a server"
        )
    return lines


def _stepped(group: range) -> str:
    if group.step == 1:
        return spans(list(group))
    shown = list(group) if len(group) <= 4 else [group[0], group[1], "...", group[-1]]
    return f"{', '.join(map(str, shown))} (steps of {group.step})"


def spans(numbers: list[int]) -> str:
    """Numbers as `0-7, 16`, in ascending order."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
