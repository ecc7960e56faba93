"""Groups of ranks, and a rank table in words."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.hccl_configs.explain import explain, spans
from mindgeex.hccl_configs.groups import Split
from mindgeex.hccl_configs.hosts import example_hosts
from mindgeex.hccl_configs.rank_table import make_rank_table


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_groups_of_a_kind_hold_every_rank_once(mp: int, pp: int, shard: int, times: int) -> None:
    split = Split(mp * pp * shard * times, mp, pp, shard)
    sizes = {"mp": mp, "dp": shard * times, "pp": pp, "optimizer_shard": shard}
    for kind, size in sizes.items():
        groups = list(split.groups(kind))
        assert sorted(rank for group in groups for rank in group) == list(range(split.world))
        assert {len(group) for group in groups} == {size}
        assert all(split.group_of(kind, rank) == group for group in groups for rank in group)


def test_groups_of_the_published_run() -> None:
    split = Split(1536, mp=8, optimizer_shard=16)
    assert split.dp == 192
    assert list(split.group_of("mp", 1535)) == list(range(1528, 1536))
    assert list(split.group_of("dp", 9)) == list(range(1, 1536, 8))
    assert list(split.group_of("optimizer_shard", 9)) == list(range(1, 128, 8))


def test_a_stage_is_a_block_of_neighbours() -> None:
    split = Split(64, mp=4, pp=4, optimizer_shard=2)
    assert list(split.group_of("pp", 17)) == [1, 17, 33, 49]
    assert list(split.group_of("dp", 17)) == [17, 21, 25, 29]
    assert list(split.group_of("optimizer_shard", 25)) == [25, 29]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"mp": 0}, "--mp 0: it must be at least 1"),
        ({"pp": 5}, r"--pp 5 does not divide 64 NPUs: the nearest that do are 2 and 4"),
        ({"mp": 24}, r"--mp 24 does not divide the 64 NPUs of a stage: the nearest that do are 16 and 32"),
        ({"mp": 8, "optimizer_shard": 3}, r"--optimizer-shard 3 does not divide dp 8 .*nearest that do are 2 and 4"),
    ],
)
def test_a_split_that_does_not_fit_names_the_nearest(split: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Split(64, **split)


def test_the_words_tell_whether_model_parallel_groups_stay_inside() -> None:
    table = make_rank_table(example_hosts(8))
    inside = explain(table, Split(64, mp=8, optimizer_shard=4), rank=9)
    assert "version 1.0: 64 NPUs, 8 servers of 8" in inside
    assert "8 groups of 8; rank 9 is in 8-15\n  every group stays inside one server" in inside
    assert "16 groups of 4; rank 9 is in 1, 9, 17, 25 (steps of 8)\n  groups span up to 4 servers" in inside
    assert "SLOW" not in inside and "pipeline" not in inside
    outside = explain(table, Split(64, mp=16))
    assert "SLOW: 4 model parallel groups leave their server, such as 0-15" in outside
    with pytest.raises(UserError, match="--rank 64: the table has ranks 0 to 63"):
        explain(table, Split(64), rank=64)


def test_groups_may_span_the_servers_of_a_super_pod() -> None:
    said = explain(make_rank_table(example_hosts(4, 16, pod_servers=2)), Split(64, mp=32))
    assert "super pod 1: 2 servers, ranks 32-63" in said
    assert "groups span up to 2 servers of one super pod" in said and "SLOW" not in said
    assert "groups span up to 2 servers and 2 super pods" in said


def test_1536_devices_are_explained_in_less_than_a_second() -> None:
    start = time.process_time()
    said = explain(make_rank_table(example_hosts(192)), Split(1536, 8, 4, 16), rank=1535)
    assert time.process_time() - start < 1
    assert "186 more" in said and len(said.splitlines()) < 30


@given(st.sets(st.integers(0, 30)))
@settings(max_examples=60, deadline=None)
def test_spans_hold_what_they_were_made_of(numbers: set[int]) -> None:
    found = []
    for part in spans(list(numbers)).split(", ") if numbers else []:
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    assert found == sorted(numbers)
