"""Jobs for the supervisor's tests: `python supervised_job.py supervise OPTIONS` watches `supervised_job.py work FAULT`.

A worker makes 20 steps, each with an AllReduce over all workers if the job is a real one, or only a short sleep. The
fault happens at a step in the rank it names, once or every time.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.train.callbacks.base import StepRecord
from mindgeex.train.callbacks.heartbeat import Heartbeat
from mindgeex.train.distributed import MissingRanks
from mindgeex.train.events import write_event

STEPS = 20


def supervise(options: dict) -> int:
    from mindgeex.train.deadlines import Deadlines
    from mindgeex.train.reach import Reach
    from mindgeex.train.supervisor import Job, supervise

    out, fault = Path(options["out"]), json.dumps(options.get("fault", {}))
    worker = (__file__, "work", str(out), fault, str(options.get("is_real", False)))
    deadlines = Deadlines(**options.get("deadlines", {}))
    limit = options.get("max_time_s")
    reach = Reach(tuple(options.get("hosts", ())), options.get("workers", 2), "env HOST={host}")
    job = Job(worker, out, reach, options.get("restarts", 0), limit, deadlines)
    return supervise(job, dict(os.environ))


def work(out: Path, fault: dict, is_real: bool, resume: bool) -> int:
    rank = int(os.environ.get("RANK_ID", "0"))
    heartbeat, add = Heartbeat(out, rank), None
    asked = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    saved = out / f"saved-{rank}"
    start = int(saved.read_text()) if resume and saved.exists() else 0
    print(f"rank {rank} starts at step {start}", flush=True)
    if is_real:
        add = all_reduce()
    heartbeat.begin(StepRecord(start))
    try:
        for step in range(start + 1, fault.get("steps", STEPS) + 1):
            heartbeat.after_step(StepRecord(step))
            if step == fault.get("step") and fault["kind"] == "slow_to_leave" and not resume:
                leave_after_the_other(rank)
            if step == fault.get("step") and rank == fault["rank"] and (fault.get("always") or not resume):
                if fault.get("notes"):
                    write_event(out, step, "failed", "the worker's own words")
                fail(fault["kind"])
            if add:
                assert add(step) == 2 * step
            time.sleep(0.05)
            saved.write_text(str(step))
            if asked:
                (out / f"orderly-{rank}").write_text(str(step))
                heartbeat.enter("stopped")
                break
    finally:
        heartbeat.end()
    if fault.get("kind") == "cannot_leave":
        time.sleep(1000)
    return 0


def leave_after_the_other(rank: int) -> None:
    if rank == 0:
        raise MissingRanks("'step', 60 s: rank 1 is gone", [1])
    time.sleep(1)
    raise ValueError("the rows ran out")


def fail(kind: str) -> None:
    if kind == "raise":
        raise ValueError("the rows ran out")
    if kind == "user":
        raise UserError("recipe.yaml: no such recipe")
    if kind == "deadlock":
        time.sleep(1000)
    if kind in ("SIGKILL", "SIGSTOP"):
        os.kill(os.getpid(), getattr(signal, kind))


def all_reduce():
    import mindspore as ms
    import numpy as np

    from mindgeex.train.distributed import connect

    group = connect(os.environ, 60)
    operator = ms.ops.AllReduce()
    group.barrier("all are here", 60)
    return lambda step: operator(ms.Tensor(np.full(3, step, np.float32))).asnumpy()[0]


if __name__ == "__main__":
    if sys.argv[1] == "supervise":
        sys.exit(supervise(json.loads(sys.argv[2])))
    try:
        sys.exit(work(Path(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4] == "True", "--resume" in sys.argv))
    except UserError as error:
        print(f"mindgeex: {error}", file=sys.stderr)
        sys.exit(2)
