"""What a supervisor prints while its workers train: the words of rank 0, and one line about all ranks."""

import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindgeex.train import launch
from mindgeex.train.fleet import Fleet

STATE_INTERVAL_S = 60.0
NEW_STATE_INTERVAL_S = 10.0


class Console:
    """Of one attempt: what has been shown of it."""

    def __init__(self, fleet: Fleet, logs: Path):
        self.fleet, self.logs = fleet, logs
        self.relayed_bytes = 0
        self.shown, self.shown_at = "", time.monotonic() - STATE_INTERVAL_S

    def relay(self) -> None:
        """Shows what rank 0 has printed since."""
        with contextlib.suppress(FileNotFoundError), launch.log_path(self.logs, 0).open("rb") as file:
            file.seek(self.relayed_bytes)
            data = file.read()
            self.relayed_bytes += len(data)
            if data:
                print(data.decode(errors="replace"), end="", flush=True)

    def show(self, beats: Mapping[int, Mapping[str, Any]]) -> None:
        """One line about all ranks: once a minute, and sooner when one enters another stage.

        Args:
            beats: rank -> its last heartbeat.
        """
        if len(self.fleet.workers) == 1 or not beats:
            return
        stages = Counter(beat["stage"] for beat in beats.values())
        if waiting := len(self.fleet.workers) - len(beats):
            stages["starting"] = waiting
        now, line = time.monotonic(), ", ".join(f"{count} {stage}" for stage, count in stages.items())
        if now - self.shown_at < (STATE_INTERVAL_S if line == self.shown else NEW_STATE_INTERVAL_S):
            return
        self.shown, self.shown_at = line, now
        last = max(beat["step"] for beat in beats.values())
        slowest = min(beats.values(), key=lambda beat: (beat["step"], -beat.get("step_s", 0.0)))
        pace = f", {slowest['step_s']:.3g} s a step" if "step_s" in slowest else ""
        place = f"rank {slowest['rank']}{self.fleet.on_host(slowest['rank'])}, step {slowest['step']}{pace}"
        print(f"workers: {line}; step {last} (slowest: {place})", flush=True)
