"""When a run is asked to stop."""

import os
import signal
import time

import pytest

from mindgeex.common.errors import UserError
from mindgeex.train.stopping import StopRequest, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("30m", 1800), ("12h", 43200), ("1h30m", 5400), ("0.5d", 43200), ("1m30", 90)]
)
def test_times_as_people_write_them(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "m", "3x", "1h-2m", "one hour", "1..5h", ".", "²"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UserError, match="--max-time"):
        parse_duration(text)


def test_a_time_limit_asks_when_it_has_passed():
    stop = StopRequest(max_time_s=60)
    assert stop.reason is None
    stop.deadline -= 60
    assert stop.reason == "--max-time of 60 s"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_and_the_old_handlers_come_back(number):
    before = signal.getsignal(number)
    stop = StopRequest()
    with stop.on_signals():
        assert stop.reason is None
        os.kill(os.getpid(), number)
        assert stop.reason == number.name
    assert signal.getsignal(number) == before


def test_a_second_interrupt_does_not_wait():
    stop = StopRequest()
    with pytest.raises(KeyboardInterrupt), stop.on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
