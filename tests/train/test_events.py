"""Events are appended whole, whatever a crash left."""

import pytest

from mindgeex.common.errors import UserError
from mindgeex.train.events import EVENTS_FILE, read_events, write_event
from tests.train.conftest import files_of_at_most


def test_events_are_read_back_in_order_and_a_cut_line_costs_only_itself(tmp_path):
    write_event(tmp_path, 1, "started")
    with (tmp_path / EVENTS_FILE).open("a") as file:
        file.write('{"step": 2, "eve')
    write_event(tmp_path, 3, "resumed", "from there", rank=1)
    events = read_events(tmp_path)
    assert [(e["step"], e["event"], e["detail"], e["rank"]) for e in events] == [
        (1, "started", "", 0),
        (3, "resumed", "from there", 1),
    ]
    assert events[0]["time"] <= events[1]["time"]


def test_a_run_without_events_has_none(tmp_path):
    assert read_events(tmp_path) == []


def test_an_event_that_does_not_fit_on_the_disk_is_told(tmp_path):
    write_event(tmp_path, 1, "started")
    size = (tmp_path / EVENTS_FILE).stat().st_size
    with files_of_at_most(size + size // 2), pytest.raises(UserError, match="events.jsonl: the disk is full"):
        write_event(tmp_path, 2, "skipped")
    write_event(tmp_path, 3, "skipped")
    assert [event["step"] for event in read_events(tmp_path)] == [1, 3]
