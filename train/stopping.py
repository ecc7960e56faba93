"""Requests to end a run in good order: SIGTERM, SIGINT, or a time limit. The step is finished, then saved."""

import contextlib
import signal
import time
from collections.abc import Iterator

from mindgeex.common.errors import UserError

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class StopRequest:
    """Whether this worker wants the run to stop, and why."""

    def __init__(self, max_time_s: float | None = None):
        self.deadline = None if max_time_s is None else time.monotonic() + max_time_s
        self.max_time_s = max_time_s
        self.signal: str | None = None

    @property
    def reason(self) -> str | None:
        """Why to stop; None to go on."""
        if self.signal is not None:
            return self.signal
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return f"--max-time of {self.max_time_s:,.0f} s"
        return None

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Inside the block SIGTERM and SIGINT ask to stop; a second SIGINT interrupts at once."""

        def ask(number: int, frame: object) -> None:
            if number == signal.SIGINT and self.signal is not None:
                raise KeyboardInterrupt
            self.signal = signal.Signals(number).name

        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def parse_duration(text: str) -> float:
    """Seconds of `90`, `30m`, `12h`, `2d`, or `1h30m`.

    Raises:
        UserError: another form, or no time at all.
    """
    seconds, number = 0.0, ""
    for character in text.strip():
        if character in UNITS_S and number:
            seconds, number = seconds + float(number) * UNITS_S[character], ""
        elif character.isdecimal() or (character == "." and "." not in number):
            number += character
        else:
            break
    else:
        if number not in ("", "."):
            seconds += float(number)
        if seconds > 0:
            return seconds
    raise UserError(f"--max-time {text!r}: give seconds, or a time such as 30m, 12h or 1h30m")
