"""The training loop: a recipe, data and a folder in; checkpoints, metrics and a summary out.

    train = open the data -> build the run (model, step, callbacks, state) -> loop

Covers: one process, or data parallel workers (distributed.py); exact resume, orderly stops, skips, rollbacks.
Does not cover: layouts that cut the model itself.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.common.files import sole_writer
from mindgeex.train import checkpointing
from mindgeex.train.callbacks.balance import Balance
from mindgeex.train.callbacks.base import Callback, StepRecord
from mindgeex.train.callbacks.checkpoint import Checkpoint
from mindgeex.train.callbacks.console import Console
from mindgeex.train.callbacks.evaluation import Evaluation
from mindgeex.train.callbacks.heartbeat import Heartbeat, Staged
from mindgeex.train.callbacks.metrics import Metrics
from mindgeex.train.callbacks.tensorboard import TensorBoard
from mindgeex.train.config import RunConfig
from mindgeex.train.distributed import Group
from mindgeex.train.events import write_event
from mindgeex.train.feed import Batch
from mindgeex.train.guard import Guard, Verdict
from mindgeex.train.loss_scale import LossScale
from mindgeex.train.run_data import RunData, open_data
from mindgeex.train.run_folder import check_run, write_run
from mindgeex.train.schedule import learning_rate
from mindgeex.train.stopping import StopRequest
from mindgeex.train.summary import Summary, summarise

EXCHANGE_TIMEOUT_S = 3600.0
"""How long workers wait for each other where they agree on something, for one of them may be saving or loading."""


def train(
    config: RunConfig,
    data: Path | None,
    run_folder: Path,
    resume: bool = False,
    group: Group | None = None,
    stop: StopRequest | None = None,
) -> Summary | None:
    """Trains to the end of the recipe, or until it is asked to stop.

    Args:
        config: the resolved recipe.
        data: a corpus that `mindgeex data build` made, every shard of which is checked before the first step; not
            needed when `config.finetune` names tasks.
        run_folder: where checkpoints, metrics.jsonl and run.yaml go.
        resume: go on from the newest whole checkpoint; starts anew if there is none yet.
        group: the workers that train together; alone by default.
        stop: asked after every step; the run is saved then and can be resumed.

    Returns:
        What came out of it, on the first worker.

    Raises:
        UserError: damaged data, sizes that do not fit, a run that exists already or goes on elsewhere, a full disk, too
            many broken steps.
        MissingRanks: a worker did not come to an exchange.
    """
    group = group or Group()
    opened = open_data(config, data)
    with sole_writer(run_folder) if group.is_first else contextlib.nullcontext():
        if group.is_first:
            check_run(run_folder, config, opened.fingerprint, resume)
        run = Run(config, opened, run_folder, group, stop or StopRequest())
        if group.is_first:
            write_run(run_folder, config, opened.fingerprint)  # a mistake found before leaves no run behind
        group.barrier("run folder", EXCHANGE_TIMEOUT_S)
        try:
            run.restore_newest("resumed") if resume else None
            run.loop()
            group.barrier("end of the run", EXCHANGE_TIMEOUT_S)  # the last checkpoint is published
        except Exception as error:
            with contextlib.suppress(UserError):  # a full disk must not hide why
                run.say("failed", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
            raise
        return summarise(run_folder, opened, run.progress.step) if group.is_first else None


class Run:
    """Everything that is alive during a run."""

    def __init__(
        self,
        config: RunConfig,
        data: RunData,
        run_folder: Path,
        group: Group,
        stop: StopRequest,
    ):
        import mindspore as ms

        ms.set_context(mode=ms.GRAPH_MODE)
        ms.set_seed(config.seed)
        from mindgeex.train.assembly import assemble
        from mindgeex.train.utilization import measure_peak_flops

        self.config, self.data, self.folder, self.group, self.stop = config, data, run_folder, group, stop
        self.heartbeat = Heartbeat(run_folder, group.rank)
        self.heartbeat.enter("loading")
        self.guard = Guard(config.guard)
        self.plan, self.step, self.state, self.evaluator = assemble(config, data, group.world)
        self.progress.loss_scale = LossScale(config.loss_scale.start if config.compute.dtype == "float16" else 1.0)
        self.peak_flops = measure_peak_flops(config.compute.dtype)
        self.checkpoint = Checkpoint(run_folder, self.state, config.cadence, config.steps)
        self.callbacks = self._callbacks()

    @property
    def progress(self) -> checkpointing.Progress:
        """Where the run stands."""
        return self.state.progress

    def loop(self) -> None:
        """Steps until the last one, or until the workers want to stop."""
        with contextlib.ExitStack() as ending:  # every callback ends, even if another one cannot
            for callback in self.callbacks:
                ending.callback(callback.end)
            record = StepRecord(self.progress.step)
            for callback in self.callbacks:
                callback.begin(record)
            batches = self.batches()
            while self.progress.step < self.config.steps and not record.stops:
                record, verdict = self.one_step(next(batches))
                if verdict.action == "rollback":
                    batches = self.roll_back(verdict)
                    continue
                for callback in self.callbacks:
                    callback.after_step(record)
            self.wait_for_checkpoint()
            self.say(*(("stopped", self.stop.reason or "") if record.stops else ("finished",)))
            if record.stops:
                self.heartbeat.enter("stopped")

    def one_step(self, batch: Batch) -> tuple[StepRecord, Verdict]:
        """Computes a step, judges it, and moves the progress on unless it is to be rolled back."""
        progress, started = self.progress, time.perf_counter()
        rate = learning_rate(self.config.schedule, progress.step)
        scalars = self.step.optimizer.scalars(rate, progress.updates)
        scale, limits = progress.loss_scale, self.guard.enforced()
        outcome = self.step(self.data.weigh(batch), scalars, scale.value, limits, vote=self.stop.reason is not None)
        seconds = time.perf_counter() - started

        is_scaled = self.config.compute.dtype == "float16"
        is_overflow = is_scaled and not outcome.is_finite and scale.can_shrink(self.config.loss_scale)
        verdict = Verdict("skip", "overflow") if is_overflow else self.guard.judge(outcome.loss, outcome.grad_norm)
        if verdict.action == "stop":
            raise UserError(
                f"{self.folder}: at step {progress.step + 1}: {verdict.reason}: lower schedule.peak, lengthen "
                "schedule.warmup_steps, or set guard.on_spike and guard.on_not_finite to skip or rollback; the last "
                "checkpoint is sound"
            )
        stops = outcome.votes > 0 and progress.step + 1 < self.config.steps
        record = StepRecord(progress.step + 1, applied=outcome.applied, stops=stops)
        record.values |= {"loss": outcome.loss, "grad_norm": outcome.grad_norm, "learning_rate": rate}
        if is_scaled:
            record.values["loss_scale"] = scale.value
        record.values |= {
            "tokens": progress.tokens + self.plan.tokens,
            "tokens_per_s": round(self.plan.tokens / seconds, 1),
            "mfu": round(
                self.data.flops(self.plan.tokens, self.config.lora is not None)
                / seconds
                / self.peak_flops
                / self.group.world,
                4,
            ),
        }
        if verdict.action == "rollback":
            return record, verdict
        progress.step += 1
        progress.updates += outcome.applied
        progress.next_row += self.plan.rows
        progress.tokens += self.plan.tokens
        if is_overflow:
            scale.overflowed(self.config.loss_scale)
            self.say("overflow", f"the loss scale is now {scale.value:g}")
        else:
            if outcome.applied and is_scaled:
                scale.went_well(self.config.loss_scale)
            if verdict.reason:
                self.say("skipped" if verdict.action == "skip" else "spike", verdict.reason)
        progress.guard, progress.feed = self.guard.state(), self.data.state()
        return record, verdict

    def roll_back(self, verdict: Verdict) -> Iterator[Batch]:
        """Goes back to the newest checkpoint, and on behind all rows seen since, this step's included."""
        seen, step = self.progress.next_row + self.plan.rows, self.progress.step + 1
        self.wait_for_checkpoint()
        self.restore_newest("rolled_back", f"at step {step} {verdict.reason}; its rows and those before it are skipped")
        self.progress.next_row = seen
        self.guard.rolled_back(self.progress.step)
        record = StepRecord(self.progress.step)
        for callback in self.callbacks:
            callback.rewind(record)
        return self.batches()

    def restore_newest(self, event: str, detail: str = "") -> None:
        """Restores what rank 0 finds to be the newest whole checkpoint.

        Raises:
            UserError: there is none to roll back to, or every one is damaged.
        """
        folder = self.folder / "checkpoints"
        newest = checkpointing.newest_whole(folder) if self.group.is_first else None
        name = self.group.broadcast(newest.name if newest else None, EXCHANGE_TIMEOUT_S, "checkpoint to restore")
        if name is not None:
            checkpointing.restore(folder / name, self.state)
            self.guard.restore(self.progress.guard)
            self.data.restore(self.progress.feed)
            self.say(event, f"from {folder / name}{f': {detail}' if detail else ''}")
        elif event == "rolled_back":
            raise UserError(f"{self.folder}: {detail}, but there is no checkpoint: lower cadence.checkpoint_steps")
        elif damaged := checkpointing.list_checkpoints(folder):
            raise UserError(
                f"{folder}: none of {', '.join(path.name for path in damaged)} is whole: "
                "put a copy of one back, or delete the folder to start anew"
            )

    def wait_for_checkpoint(self) -> None:
        """Until what is being written is published, which may take longer than a step."""
        with self.heartbeat.during("saving"):
            self.checkpoint.wait()

    def batches(self) -> Iterator[Batch]:
        """Of this worker, from where the run stands."""
        return self.data.feed.batches(self.plan.worker_rows, self.progress.next_row, self.group.rank, self.group.world)

    def say(self, event: str, detail: str = "") -> None:
        """Notes an event once for all workers."""
        if self.group.is_first:
            write_event(self.folder, self.progress.step, event, detail)

    def _callbacks(self) -> list[Callback]:
        cadence, group = self.config.cadence, self.group
        callbacks: list[Callback] = [self.heartbeat]
        if self.evaluator is not None:
            evaluation = Evaluation(
                self.evaluator, cadence.evaluate_steps, self.config.steps, group.rank, group.world,
                lambda nats_R: group.sum(nats_R, EXCHANGE_TIMEOUT_S, "held-out loss"),
            )  # fmt: skip
            callbacks += [Staged(self.heartbeat, "evaluating", evaluation), Balance(self.data, self.state)]
        if group.is_first:
            callbacks += [
                Metrics(self.folder, cadence.log_steps),
                TensorBoard(self.folder),
                Staged(self.heartbeat, "saving", self.checkpoint),
                Console(self.config.steps),
            ]
        return callbacks
