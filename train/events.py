"""events.jsonl: what happened to a run besides its steps, one JSON object a line, only ever appended."""

import errno
import json
import logging
import os
import time
from pathlib import Path
from typing import Any, BinaryIO

from mindgeex.common.files import disk_errors

logger = logging.getLogger(__name__)

EVENTS_FILE = "events.jsonl"


def write_event(run_folder: Path, step: int, event: str, detail: str = "", rank: int = 0) -> None:
    """Appends an event and logs it.

    Args:
        run_folder: of the run; made if absent.
        step: steps done.
        event: one word, such as resumed or skipped.
        detail: a sentence for people.
        rank: who says so.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    logger.info("step %d: %s%s", step, event.replace("_", " "), f": {detail}" if detail else "")
    line = {"time": round(time.time(), 3), "step": step, "event": event, "detail": detail, "rank": rank}
    path = run_folder / EVENTS_FILE
    with disk_errors(path):
        run_folder.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file:
            cut = file.tell() > 0 and not _ends_with_newline(file)
            # One write, so that two processes' lines do not mix.
            data = b"\n" * cut + json.dumps(line).encode() + b"\n"
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_events(run_folder: Path) -> list[dict[str, Any]]:
    """The events so far; lines that a crash cut short are left out."""
    path, events = run_folder / EVENTS_FILE, []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events


def _ends_with_newline(file: BinaryIO) -> bool:
    file.seek(-1, 2)
    return file.read(1) == b"\n"
