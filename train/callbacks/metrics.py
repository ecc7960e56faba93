"""metrics.jsonl: one JSON object a line, in full precision, the record that every plot and comparison reads."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from mindgeex.common.files import atomic_file, disk_errors
from mindgeex.train.callbacks.base import Callback, StepRecord

METRICS_FILE = "metrics.jsonl"


class Metrics(Callback):
    """Appends a line every `log_steps`, and whenever there is a held-out figure."""

    def __init__(self, run_folder: Path, log_steps: int):
        self.path, self.log_steps = run_folder / METRICS_FILE, log_steps
        self.file: BinaryIO | None = None

    def begin(self, record: StepRecord) -> None:
        """Drops the lines of steps that will be done again, then opens the file for appending."""
        self.end()
        kept = [line for line in read_metrics(self.path) if line["step"] <= record.step]
        with atomic_file(self.path) as partial:
            partial.write_text("".join(_line(line) for line in kept), encoding="utf-8")
        self.file = self.path.open("ab", buffering=0)  # a buffer would fail again when it is closed
        if record.values and not any(line["step"] == record.step for line in kept):
            self._write(record)

    def after_step(self, record: StepRecord) -> None:
        """Writes the line."""
        if record.step % self.log_steps == 0 or any(name.startswith("heldout") for name in record.values):
            self._write(record)

    def rewind(self, record: StepRecord) -> None:
        """Drops the lines of steps behind us that are no more; events.jsonl tells of them."""
        self.begin(record)

    def end(self) -> None:
        """Closes the file."""
        if self.file is not None:
            self.file.close()

    def _write(self, record: StepRecord) -> None:
        assert self.file is not None
        line = memoryview(_line({"step": record.step, **record.values}).encode())
        with disk_errors(self.path):
            while line:
                line = line[self.file.write(line) :]


def _line(values: dict[str, Any]) -> str:
    """JSON knows no NaN and no infinity: a figure of a skipped step that is none is null."""
    return json.dumps(_changed(values, lambda x: x if math.isfinite(x) else None), allow_nan=False) + "\n"


def _changed(values: Any, change: Callable[[Any], Any]) -> Any:
    """Figures, or tables of them by name, each changed."""
    return {name: _changed(x, change) for name, x in values.items()} if isinstance(values, dict) else change(values)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file, null as NaN; a last line that a crash cut short is left out. No file: no lines."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(_changed(json.loads(line), lambda x: math.nan if x is None else x))
        except json.JSONDecodeError:
            break
    return lines
