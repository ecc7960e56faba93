"""Several sets of instruction data as one feed: every task's rows in one endless order, with its own held-out rows.

A row holds samples of one task, so a step's labels of each task are counted from a table of rows, those of all workers
at once and without talking to them. The order is that of a corpus: a permutation by (seed, epoch), whatever the number
of workers.

Covers: data that fits in memory as tokens (5 bytes each).
Does not cover: drawing tasks in other shares than their rows' (the balance of losses takes its place: task_weights.py).
"""

# Shapes: B batch, S sequence, R rows, T tasks
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from mindgeex.common.config import as_tree
from mindgeex.common.errors import UserError
from mindgeex.data.instructions.encoding import EncodedTask, EncodingConfig, encode_task
from mindgeex.data.order import Order
from mindgeex.data.tokenizers import Tokenizer, load_tokenizer
from mindgeex.train.feed import Batch
from mindgeex.train.task_weights import Balance, CobaConfig, TaskBalance, make_balance

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskConfig:
    """One set of instruction data."""

    name: str
    """What its figures are called."""
    path: str
    """JSON lines, a folder of them, or a folder in XLCoST's layout."""
    template: str | None = None
    """plain, codegeex_translation or codefuse; by default codegeex_translation for pairs of programs, else plain."""


@dataclass(frozen=True)
class FinetuneConfig:
    """What is fine-tuned on, and how its tasks are weighed."""

    tasks: tuple[TaskConfig, ...]
    rows: EncodingConfig = field(default_factory=EncodingConfig)
    balance: Balance = "tasks"
    """Whether labels count alike (tokens), or tasks (tasks), or those more that converge more slowly (coba)."""
    coba: CobaConfig = field(default_factory=CobaConfig)

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if not names:
            raise UserError("finetune.tasks is empty: give at least one task, such as {name: chat, path: chat.jsonl}")
        if twice := [name for index, name in enumerate(names) if name in names[:index]]:
            raise UserError(f"finetune.tasks has the name {twice[0]!r} twice: give each task a name of its own")
        if self.balance not in ("tokens", "tasks", "coba"):
            raise UserError(f"finetune.balance is {self.balance!r}: choose tokens, tasks or coba")
        if self.balance == "coba" and self.rows.heldout_share == 0:
            raise UserError("finetune.balance=coba needs held-out losses: set finetune.rows.heldout_share above 0")


def parse_tasks(arguments: Sequence[str]) -> tuple[TaskConfig, ...]:
    """Tasks from `NAME=PATH` or `NAME:TEMPLATE=PATH`, as they are typed.

    Raises:
        UserError: an argument is of another form.
    """
    tasks = []
    for argument in arguments:
        label, equals, path = argument.partition("=")
        name, _, template = label.partition(":")
        if not equals or not name or not path:
            raise UserError(f"task {argument!r} is not of the form NAME=PATH, such as chat=chat.jsonl")
        tasks.append(TaskConfig(name, path, template or None))
    return tuple(tasks)


@dataclass(frozen=True, eq=False)
class TaskBatch(Batch):
    """A batch that knows the tasks of its rows; `weights_BS` is 1 where a label counts, before any balance."""

    tasks_B: np.ndarray
    """int16 [B]: number of each row's task."""
    tokens_T: np.ndarray
    """int64 [T]: labels of each task that count in this step, in the rows of all workers."""


@dataclass(frozen=True, eq=False)
class HeldoutTask:
    """The rows of a task that are scored, and the bytes that their scored labels spell."""

    rows_RS1: np.ndarray
    scored_RS: np.ndarray
    text: bytes


@dataclass(frozen=True, eq=False)
class FinetuneFeed:
    """See `feed.Feed`; make one with `open_finetune_feed`."""

    tasks: Mapping[str, EncodedTask]
    tokenizer: Tokenizer
    seq_length: int
    seed: int
    """Of the order of the rows."""
    config: FinetuneConfig

    @property
    def name(self) -> str:
        """The tasks' names."""
        return f"tasks {', '.join(self.tasks)}"

    @property
    def vocab_size(self) -> int:
        """Ids are below this."""
        return self.tokenizer.vocab_size

    @property
    def eod_id(self) -> int:
        """The id that closes a sample and pads."""
        return self.tokenizer.eod_id

    @property
    def tokenizer_folder(self) -> Path:
        """The vocabulary that travels with the checkpoints."""
        return self.tokenizer.folder

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the encoded rows, templates, settings and tokenizer, in hexadecimal; paths are not in it."""
        tasks = [
            {
                "name": name,
                "template": f"{task.template.name} v{task.template.version}",
                "train": task.train.digest(),
                "heldout": task.heldout.digest(),
            }
            for name, task in self.tasks.items()
        ]
        settings = {key: value for key, value in as_tree(self.config).items() if key != "tasks"}
        tree = {
            "tasks": tasks,
            "settings": settings,
            "seq_length": self.seq_length,
            "tokenizer": self.tokenizer.fingerprint,
        }
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()

    @property
    def num_rows(self) -> int:
        """Rows of an epoch."""
        return len(self._tasks_R)

    def balance(self) -> TaskBalance:
        """A new balance of these tasks' losses, as the settings ask for it."""
        return make_balance(self.config.balance, list(self.tasks), self.config.coba)

    def batches(self, rows: int, start_row: int, rank: int = 0, world: int = 1) -> Iterator[TaskBatch]:
        """See `feed.Feed.batches`; `rows * world` must be the rows of a whole step, over which tasks are counted."""
        order = Order(self.num_rows, self.seed)
        first = start_row
        while True:
            numbers = order.rows(first + np.arange(rows * world))
            tokens_T = np.bincount(self._tasks_R[numbers], self._learnt_R[numbers], len(self.tasks)).astype(np.int64)
            ours = numbers[rank * rows : (rank + 1) * rows]
            rows_BS1, learnt_BS = self._read(ours)
            slots_B = first + rank * rows + np.arange(rows)
            yield TaskBatch(rows_BS1, learnt_BS.astype(np.float32), slots_B, self._tasks_R[ours], tokens_T)
            first += rows * world

    @cached_property
    def heldout(self) -> dict[str, HeldoutTask]:
        """Task -> its held-out rows, packed as those of training; tasks that have none are left out."""
        found = {}
        for name, task in self.tasks.items():
            if len(task.heldout):
                rows_RS1, scored_RS = task.heldout.read(range(len(task.heldout)), self.seq_length + 1, self.eod_id)
                text = self.tokenizer.decode_bytes(rows_RS1[:, 1:][scored_RS].tolist())
                found[name] = HeldoutTask(rows_RS1, scored_RS, text)
        return found

    def summary(self) -> list[str]:
        """What became of each task's samples, a line each."""
        lines = []
        for name, task in self.tasks.items():
            dropped = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in task.dropped.items())
            learnt, places = int(task.train.learnt.sum()), len(task.train) * (self.seq_length + 1)
            lines.append(
                f"{name}: {task.samples:,} samples in {len(task.train):,} rows ({learnt:,} tokens learnt, "
                f"{1 - len(task.train.tokens) / places:.1%} padding), {task.heldout_samples:,} held out; "
                f"template {task.template.name} v{task.template.version}; dropped: {dropped or 'none'}"
            )
        return lines

    def _read(self, numbers_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of training by their numbers through all tasks, int32 [B, S + 1], and which labels count."""
        rows_BS1 = np.empty((len(numbers_B), self.seq_length + 1), np.int32)
        learnt_BS = np.empty((len(numbers_B), self.seq_length), bool)
        first = 0
        for task in self.tasks.values():
            (places,) = np.nonzero((numbers_B >= first) & (numbers_B < first + len(task.train)))
            rows, learnt = task.train.read(numbers_B[places] - first, self.seq_length + 1, self.eod_id)
            rows_BS1[places], learnt_BS[places] = rows, learnt
            first += len(task.train)
        return rows_BS1, learnt_BS

    @cached_property
    def _learnt_R(self) -> np.ndarray:
        return np.concatenate([task.train.learnt_R for task in self.tasks.values()])

    @cached_property
    def _tasks_R(self) -> np.ndarray:
        counts = [len(task.train) for task in self.tasks.values()]
        return np.repeat(np.arange(len(counts), dtype=np.int16), counts)


def open_finetune_feed(config: FinetuneConfig, tokenizer_folder: Path, seq_length: int, seed: int) -> FinetuneFeed:
    """Reads and encodes all tasks, and says what became of them.

    Args:
        config: the tasks.
        tokenizer_folder: of the checkpoint that is trained.
        seq_length: of its window, in tokens.
        seed: of the order of the rows.

    Raises:
        UserError: as `encode_task`; or a task has nothing held out although convergence balancing needs it.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    tasks = {
        task.name: encode_task(Path(task.path), task.template, tokenizer, seq_length + 1, config.rows)
        for task in config.tasks
    }
    feed = FinetuneFeed(tasks, tokenizer, seq_length, seed, config)
    for line in feed.summary():
        logger.info("%s", line)
    if config.balance == "coba" and (missing := tasks.keys() - feed.heldout.keys()):
        raise UserError(
            f"finetune.balance=coba, but task {min(missing)} has no held-out sample: it needs two questions or more"
        )
    return feed
