"""What the end of a worker's log tells."""

import pytest

from mindgeex.train.rank_log import EXCERPT_LINES, excerpt_of, missed_another


def test_the_last_traceback_is_the_excerpt_and_a_long_one_loses_its_middle(tmp_path):
    log = tmp_path / "rank-00000.log"
    assert excerpt_of(log) == ""
    first = "Traceback (most recent call last):\nold"
    last = "Traceback (most recent call last):\n  File x\nValueError: new"
    log.write_text(f"step 1\n{first}\nstep 2\n{last}\nbye\n")
    assert excerpt_of(log) == f"{last}\nbye"
    log.write_text("\n".join(["Traceback (most recent call last):", *map(str, range(500))]))
    lines = excerpt_of(log).splitlines()
    assert len(lines) == EXCERPT_LINES + 1 and lines[0].startswith("Traceback") and lines[-1] == "499"


@pytest.mark.parametrize(
    ("log", "is_victim"),
    [
        ("mindgeex.train.distributed.MissingRanks: 'step', 60 s: rank 1 is gone", True),
        ("RuntimeError: Launch kernel failed: Default/AllReduce-op3", True),
        ("[ERROR] EI0006: 2026-11-29-10:00:05.000 Getting socket times out.", True),
        ("[ERROR] EI0007: out of resources", False),
        ("ValueError: the rows ran out", False),
    ],
)
def test_who_only_missed_another_is_told_from_who_failed(log, is_victim):
    assert missed_another(log) == is_victim
