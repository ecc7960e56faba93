"""What stands in the folder of a run besides its rows: settings, problems, and what each stage took and where.

Covers: refusing to mix runs with different settings in one folder; reading a finished run without its data.
Does not cover: the wall time of a stage's part that was killed (its CPU time stands in the rows).
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.common.files import atomic_file, read_json, write_json
from mindgeex.common.versions import versions
from mindgeex.eval.calibration import Allowance
from mindgeex.eval.execution.engines.engine import Engine, machine
from mindgeex.eval.execution.job import Limits
from mindgeex.eval.problem import Problem
from mindgeex.eval.results import Row, Rows, read_rows

SETTINGS, PROBLEMS, STAGES = "run.json", "problems.jsonl", "stages.jsonl"
CANONICAL, SAMPLES, RESULTS = "canonical.jsonl", "samples.jsonl", "results.jsonl"
DIFFERING = {"engine": "engines", "machines": "machines", "versions": "versions"}
"""What may differ between the parts of a stage -> where it is listed."""
SETTINGS_KEYS = ("benchmark", "data", "prompt_version", "measure", "post_processing", "limits", "obstacles", "model")
STAGE_KEYS = ("stage", "wall_s", *DIFFERING)


def claim(folder: Path, settings: dict[str, Any], problems: Sequence[Problem]) -> None:
    """Makes the folder that of a run with these settings.

    Raises:
        UserError: it holds a run with others.
    """
    path = folder / SETTINGS
    if path.exists():
        before, now = read_settings(folder), json.loads(json.dumps(settings))
        for key in sorted(now.keys() | before.keys()):
            if now.get(key) != before.get(key):
                raise UserError(
                    f"{folder} holds a run with another {key} ({before.get(key)!r}, now {now.get(key)!r}): "
                    "choose another --out, or delete the folder"
                )
    else:
        write_json(path, settings)
    if not (folder / PROBLEMS).exists():
        with atomic_file(folder / PROBLEMS) as partial:
            partial.write_text("".join(json.dumps(asdict(problem)) + "\n" for problem in problems), encoding="utf-8")


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of the run in a folder.

    Raises:
        UserError: there is none.
    """
    path = folder / SETTINGS
    if not path.is_file():
        raise UserError(f"{folder}: holds no {SETTINGS}: give the --out folder of a `mindgeex eval run`")
    settings = read_json(path)
    if not isinstance(settings, dict) or not settings.keys() >= {*SETTINGS_KEYS}:
        raise UserError(f"{path}: not the settings of a run: choose another --out, or delete the folder")
    return settings


def allowance(settings: dict[str, Any]) -> Allowance:
    """The limits of a run's programs."""
    limits = dict(settings["limits"])
    cpu_factor = limits.pop("cpu_factor")
    return Allowance(Limits(**limits), cpu_factor)


def read_problems(folder: Path) -> tuple[Problem, ...]:
    """The problems of the run in a folder."""
    names = [field.name for field in dataclasses.fields(Problem)]

    def problem(row: Row) -> Problem:
        values: dict[str, Any] = {
            name: tuple(row[name]) if isinstance(row[name], list) else row[name] for name in names
        }
        return Problem(**values)

    return tuple(map(problem, read_rows(folder / PROBLEMS, names)))


@contextlib.contextmanager
def stage(folder: Path, name: str, engine: Engine | None = None) -> Iterator[None]:
    """Notes how long the block takes, also if it is interrupted, and where it worked."""
    start = time.monotonic()
    try:
        yield
    finally:
        with Rows(folder / STAGES, STAGE_KEYS) as rows:
            rows.append(
                {
                    "stage": name,
                    "wall_s": round(time.monotonic() - start, 2),
                    "engine": engine.describe() if engine else {"kind": "here"},
                    "machines": engine.machines() if engine else [machine()],
                    "versions": versions(),
                }
            )


def read_stages(folder: Path) -> dict[str, Any]:
    """Stage -> wall seconds of all its parts, how many parts, machines and versions of packages, for the manifest."""
    stages: dict[str, Any] = {}
    for row in read_rows(folder / STAGES, STAGE_KEYS):
        found = stages.setdefault(
            row["stage"], {"wall_s": 0.0, "parts": 0, **{several: [] for several in DIFFERING.values()}}
        )
        found["wall_s"] = round(found["wall_s"] + row["wall_s"], 2)
        found["parts"] += 1
        for one, several in DIFFERING.items():
            values = row[one] if isinstance(row[one], list) else [row[one]]
            found[several] += [value for value in values if value not in found[several]]
    return stages
