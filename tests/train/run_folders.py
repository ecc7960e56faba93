"""Folders of runs, made by hand in the form that a run leaves them in."""

import json
import math
from pathlib import Path
from typing import Any

import yaml

CONFIG = {
    "model": "codegeex_tiny",
    "steps": 100,
    "batch": {"tokens_per_step": 1024},
    "schedule": {"peak": 3e-3, "warmup_steps": 4},
    "cadence": {"heldout_rows": 6, "heldout_rows_per_language": 24},
    "data": "0123abcd",
}
NOW = 1_800_000_000.0


def metrics(steps: int, offset: float = 0.0) -> list[dict[str, Any]]:
    """Lines of a run whose loss falls; held-out figures every 20 steps."""
    lines: list[dict[str, Any]] = []
    for step in range(steps + 1):
        line: dict[str, Any] = {"step": step}
        if step:
            line |= {"loss": 6 * math.exp(-step / 50) + offset, "grad_norm": 1.5, "learning_rate": 1e-3, "mfu": 0.5}
            line |= {"tokens": 1024 * step, "tokens_per_s": 2048.0}
        if step % 20 == 0:
            line |= {"heldout_bits_per_byte": 4 - step / 50, "heldout": {"c": 4.5 - step / 50, "go": 5 - step / 50}}
        lines.append(line)
    return lines


def event(name: str, step: int = 0, detail: str = "", time: float = NOW) -> dict[str, Any]:
    return {"time": time, "step": step, "event": name, "detail": detail, "rank": 0}


def beat(stage: str, step: int = 0, rank: int = 0, **other: Any) -> dict[str, Any]:
    place = {"rank": rank, "host": "elsewhere", "pid": 4711}
    return {"time": NOW, "progress": NOW, **place, "stage": stage, "step": step, **other}


def write_run(
    folder: Path,
    lines: list[dict[str, Any]],
    events: list[dict[str, Any]] = (),
    beats: list[dict[str, Any]] = (),
    **config: Any,
) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text(yaml.safe_dump({**CONFIG, **config}))
    for name, content in (("metrics.jsonl", lines), ("events.jsonl", events)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in content))
    (folder / "heartbeats").mkdir()
    for one in beats:
        (folder / "heartbeats" / f"rank-{one['rank']:05d}.json").write_text(json.dumps(one))
    return folder
