"""`mindgeex train`."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

SUPERVISORS = {
    "--workers": 1,
    "--restarts": 1,
    "--max-time": 1,
    "--reach": 1,
    "--hosts": 1 << 16,
    "--spare-hosts": 1 << 16,
}
"""Options that a worker must not see -> words that may follow."""
MOST_CODES = 3


def train(
    data: Path | None = None,
    recipe: str = "codegeex_tiny",
    out: Path | None = None,
    resume: bool = False,
    set: tuple[str, ...] = (),  # noqa: A002
    task: tuple[str, ...] = (),
    init: Path | None = None,
    max_time: str | None = None,
    workers: int = 1,
    restarts: int = 0,
    hosts: tuple[str, ...] = (),
    spare_hosts: tuple[str, ...] = (),
    reach: str | None = None,
) -> int:
    """Train a model from a recipe on a corpus that `mindgeex data build` made, or on instruction data.

    Writes checkpoints, metrics.jsonl, events.jsonl, TensorBoard events and report.html below the run's folder. SIGTERM
    and SIGINT finish the step, save, and end with exit code 0.

    Args:
        data: folder of the corpus.
        recipe: name of a shipped recipe (codegeex_tiny, codegeex_10m, finetune_full, finetune_lora, ...), or path of
            a YAML file.
        out: folder of the run; runs/RECIPE by default.
        resume: go on from the last whole checkpoint in the run's folder.
        set: settings that differ from the recipe, such as schedule.peak=1e-3 steps=50.
        task: instruction data to fine-tune on, NAME=PATH or NAME:TEMPLATE=PATH each, instead of a corpus.
        init: checkpoint to start from, of any format, or a run, whose newest whole checkpoint is taken.
        max_time: stop in good order after this time, such as 90, 30m or 12h.
        workers: data parallel processes on this machine, or on each of --hosts, started with msrun.
        restarts: how often to go on from the last checkpoint after a worker has died or hung, or a host was lost.
        hosts: hosts to train on, the first one first; they share --data, --out and this Python's environment.
        spare_hosts: take the place of hosts that are lost.
        reach: command that runs a shell on {host}, ssh by default, such as
            'srun --overlap --nodes=1 --ntasks=1 --nodelist={host}'.
    """
    from mindgeex.train.checkpointing import newest_whole
    from mindgeex.train.config import load_recipe
    from mindgeex.train.stopping import StopRequest, parse_duration

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if init is not None:
        init = newest_whole(init / "checkpoints") or init
        set = (*set, f"init={as_yaml(str(init))}")  # noqa: A001
    if task:
        set = (*set, task_setting(task))  # noqa: A001
    config = load_recipe(recipe, set)
    folder = out or Path("runs") / Path(recipe).stem
    max_time_s = parse_duration(max_time) if max_time is not None else None
    stop = StopRequest(max_time_s)
    if workers > 1 or restarts > 0 or hosts or spare_hosts or reach is not None:
        from mindgeex.hccl_configs.launch import SETTINGS
        from mindgeex.train.reach import SSH, Reach
        from mindgeex.train.supervisor import Job, supervise

        job = Job(
            worker_command(sys.argv[1:]), folder, Reach(hosts, workers, SSH if reach is None else reach), restarts,
            max_time_s, spare_hosts=spare_hosts, workdir=Path.cwd(), explain=codes_in_words,
        )  # fmt: skip
        defaults = {name: value for name, (value, _) in SETTINGS.items()} if hosts else {}
        return supervise(job, {**defaults, **os.environ})

    from mindgeex.common.html import write_page
    from mindgeex.train.distributed import connect
    from mindgeex.train.report import sections
    from mindgeex.train.trainer import train as run_training

    with stop.on_signals(), closing(connect(os.environ, timeout_s=600)) as group:
        summary = run_training(config, data, folder, resume, group, stop)
    if summary is not None:
        write_page(folder / "report.html", f"Training run {folder.name}", sections(folder))
        print("\n".join(summary.lines()) + f"\nreport: {folder / 'report.html'}")
    return 0


def task_setting(tasks: tuple[str, ...]) -> str:
    """The setting that names tasks, from `NAME=PATH` each."""
    from mindgeex.train.finetune_feed import parse_tasks

    named = [
        {"name": t.name, "path": t.path} | ({"template": t.template} if t.template else {}) for t in parse_tasks(tasks)
    ]
    return f"finetune.tasks={as_yaml(named)}"


def as_yaml(value: Any) -> str:
    """A value as `--set` takes it: text that looks like a number, or holds a colon, stays text."""
    return json.dumps(value, ensure_ascii=False)


def worker_command(words: list[str]) -> tuple[str, ...]:
    """What Python runs in a worker: this command without what only the supervisor needs."""
    kept, skip = [], 0
    for word in words:
        name, equals, _ = word.partition("=")
        if name.replace("_", "-") in SUPERVISORS:
            skip = SUPERVISORS[name.replace("_", "-")] - bool(equals)
        elif skip and not word.startswith("--"):
            skip -= 1
        else:
            skip = 0
            kept.append(word)
    return ("-m", "mindgeex.cli.main", *kept)


def codes_in_words(logs: Mapping[int, Path]) -> list[str]:
    """What the first error codes of HCCL and CANN in the workers' logs mean, and the next steps."""
    from mindgeex.hccl_configs.error_codes import explain_code, find_codes

    named = [(f"rank {rank}", log) for rank, log in logs.items() if log.is_file()]
    lines = []
    for finding in find_codes((name, log.open(encoding="utf-8", errors="replace")) for name, log in named)[:MOST_CODES]:
        found = explain_code(finding.code)
        also = f", and {len(finding.files) - 1} more ranks" if len(finding.files) > 1 else ""
        lines += [f"{finding.code} ({finding.where}{also}): {found.meaning}", f"  next: {found.next_step}"]
    return lines
