"""How much each of several tasks counts in the loss, whatever its size; and with convergence balancing, how far it is.

With M the tasks of a step (all workers' rows), N_i the labels of task i that count in it, and w_i the task's weight,

    loss = sum_i w_i * (sum of the nats of task i / N_i) / sum_i w_i        over the tasks i of M

(MFTCoder, arXiv 2311.02303, equation 3 has equal w_i; codefuse-ai/MFTCoder loss_utils.py, loss_func_mft, weighted modes
"case3" and "coba"). A label of task i therefore has the weight w_i / N_i, up to a factor, which the step divides out:
here it is chosen so that the weights of a step sum to the number of its labels, as they do without balancing.

Covers: weights made on the host, equal on every worker, since everyone knows the counts of all.
Does not cover: MFTCoder's "case2" and "case4" (equal weight of samples), focal losses.
"""

# Shapes: B batch, S sequence, T tasks
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from mindgeex.common.errors import UserError

Balance = Literal["tokens", "tasks", "coba"]


@dataclass(frozen=True)
class CobaConfig:
    """Convergence balancing; an observation is one set of held-out losses. The defaults are MFTCoder's."""

    warmup_observations: int = 100
    """Until there are so many, tasks count alike."""
    history_observations: int = 200
    """A slope is fitted to the last so many losses."""
    tau: float = 5.0
    """How sharply the divergence factor notices that the slowest task turns up."""

    def __post_init__(self) -> None:
        if self.warmup_observations < 2:
            raise UserError(f"coba.warmup_observations is {self.warmup_observations}: at least 2, to fit a slope")
        if self.history_observations < self.warmup_observations:
            raise UserError(
                f"coba.history_observations is {self.history_observations}, below warmup_observations "
                f"{self.warmup_observations}: MFTCoder recommends two to five times as many"
            )
        if not 0 < self.tau < math.inf:
            raise UserError(f"coba.tau is {self.tau}: it must be a number greater than 0")


class TaskBalance(Protocol):
    """Weights of tasks, and what they depend on."""

    def weights(self, learnt_BS: np.ndarray, tasks_B: np.ndarray, tokens_T: np.ndarray) -> np.ndarray:
        """Weights of one worker's labels, float32 [B, S].

        Args:
            learnt_BS: 1 where a label counts, else 0.
            tasks_B: number of each row's task.
            tokens_T: labels of each task that count in the step, of all workers' rows together.
        """

    def observe(self, step: int, heldout_losses: Mapping[str, float]) -> None:
        """Takes note of every task's held-out loss (nats a token, or any fixed multiple) after so many steps."""

    def state(self) -> dict[str, Any]:
        """All that later weights depend on, as plain JSON types."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave."""


class FixedWeights:
    """Weights that no loss changes: every label counts alike (`tokens`), or every task (`tasks`)."""

    def __init__(self, by_task: bool):
        self.by_task = by_task

    def weights(self, learnt_BS: np.ndarray, tasks_B: np.ndarray, tokens_T: np.ndarray) -> np.ndarray:
        """See `TaskBalance`."""
        if not self.by_task:
            return learnt_BS.astype(np.float32)
        return spread(np.ones(len(tokens_T)), learnt_BS, tasks_B, tokens_T)

    def observe(self, step: int, heldout_losses: Mapping[str, float]) -> None:
        """Nothing depends on it."""

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing."""


class Coba:
    """Convergence balancing (CoBa, arXiv 2410.06741), as codefuse-ai/MFTCoder loss_utils.py, CoBaStatus computes it.

    With K tasks, L_i(t) the held-out loss of task i at observation t over its first, W the warm-up, H the history:

        a_i(t) = slope of the least-squares line through the last min(t, H) of L_i;  a(t) the same of max_i L_i
        RCS_i  = softmax over i of  K a_i(t) / sum_j |a_j(t)|                       relative convergence score
        ACS_i  = softmax over i of  -n a_i(t) / sum_s |a_i(s)|                      absolute convergence score
                 over the last n = min(t - W, H - W) + 1 observations s that had a slope
        DF     = m * softmax over s of (-tau m a(s) / sum_r |a(r)|), at s = t       divergence factor
                 over all m = t - W + 1 observations s that had a slope
        w_i    = softmax over i of  K (DF RCS_i + (1 - DF) ACS_i)

    and if some w_i < 1 / (10 K), every w_i becomes w_i (1 - 1/10) + 1 / (10 K). A task that converges slowly gets more
    weight by RCS; one that begins to diverge loses it by ACS, which takes over as DF falls. Dividing by the first loss
    is the paper's; the released code divides by ones. The last softmax and the least weight are the code's.
    """

    def __init__(self, names: Sequence[str], config: CobaConfig):
        self.names, self.config = tuple(names), config
        self.first_T: np.ndarray | None = None
        self.losses_NT = np.zeros((0, len(self.names)))
        """The last H losses over the first, float64."""
        self.slopes_NT = np.zeros((0, len(self.names)))
        """The last H - W + 1 slopes, float64."""
        self.total_slopes: list[float] = []
        self.observations = 0
        self.task_weights_T = np.full(len(self.names), 1.0 / len(self.names))

    def weights(self, learnt_BS: np.ndarray, tasks_B: np.ndarray, tokens_T: np.ndarray) -> np.ndarray:
        """See `TaskBalance`."""
        return spread(self.task_weights_T, learnt_BS, tasks_B, tokens_T)

    def observe(self, step: int, heldout_losses: Mapping[str, float]) -> None:
        """See `TaskBalance`. A set with a loss that is no finite number greater than 0 is passed over."""
        losses_T = np.array([heldout_losses[name] for name in self.names], np.float64)
        if not (np.isfinite(losses_T) & (losses_T > 0)).all():
            return
        if self.first_T is None:
            self.first_T = losses_T
        history, warmup = self.config.history_observations, self.config.warmup_observations
        self.losses_NT = np.concatenate([self.losses_NT, [losses_T / self.first_T]])[-history:]
        self.observations += 1
        if self.observations < warmup:
            return
        slopes_T = np.array([slope(losses_N) for losses_N in self.losses_NT.T])
        self.slopes_NT = np.concatenate([self.slopes_NT, [slopes_T]])[-(history - warmup + 1) :]
        self.total_slopes.append(slope(self.losses_NT.max(axis=1)))
        self.task_weights_T = self._task_weights()

    def _task_weights(self) -> np.ndarray:
        num_tasks, slopes_T = len(self.names), self.slopes_NT[-1]
        relative_T = softmax(num_tasks * _over(slopes_T, np.abs(slopes_T).sum()))
        absolute_T = softmax(-len(self.slopes_NT) * _over(slopes_T, np.abs(self.slopes_NT).sum(axis=0)))
        totals_N = np.array(self.total_slopes)
        count = len(totals_N)
        divergence = count * softmax(-self.config.tau * count * _over(totals_N, np.abs(totals_N).sum()))[-1]
        weights_T = softmax(num_tasks * (divergence * relative_T + (1 - divergence) * absolute_T))
        least = 1 / (10 * num_tasks)
        return weights_T * (1 - least * num_tasks) + least if (weights_T < least).any() else weights_T

    def state(self) -> dict[str, Any]:
        """See `TaskBalance`."""
        return {
            "tasks": list(self.names),
            "observations": self.observations,
            "first": None if self.first_T is None else self.first_T.tolist(),
            "losses": self.losses_NT.tolist(),
            "slopes": self.slopes_NT.tolist(),
            "total_slopes": list(self.total_slopes),
            "task_weights": self.task_weights_T.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `TaskBalance`.

        Raises:
            UserError: the state is of other tasks.
        """
        if tuple(state.get("tasks", ())) != self.names:
            raise UserError(
                f"the checkpoint balances the tasks {', '.join(state.get('tasks', ())) or 'none'}, this run has "
                f"{', '.join(self.names)}: a resumed run must have the same; give another --out for a new one"
            )
        num_tasks = len(self.names)
        self.observations = int(state["observations"])
        self.first_T = None if state["first"] is None else np.array(state["first"], np.float64)
        self.losses_NT = np.array(state["losses"], np.float64).reshape(-1, num_tasks)
        self.slopes_NT = np.array(state["slopes"], np.float64).reshape(-1, num_tasks)
        self.total_slopes = list(state["total_slopes"])
        self.task_weights_T = np.array(state["task_weights"], np.float64)


def make_balance(balance: Balance, names: Sequence[str], coba: CobaConfig) -> TaskBalance:
    """The balance of a recipe: labels alike (tokens), tasks alike (tasks), or convergence balancing (coba)."""
    return Coba(names, coba) if balance == "coba" else FixedWeights(balance == "tasks")


def spread(task_weights_T: np.ndarray, learnt_BS: np.ndarray, tasks_B: np.ndarray, tokens_T: np.ndarray) -> np.ndarray:
    """Weights of tasks as weights of labels, float32 [B, S]; over all workers' rows they sum to sum(tokens_T)."""
    present_T = tokens_T > 0
    if not present_T.any():
        return np.zeros(learnt_BS.shape, np.float32)
    shares_T = task_weights_T * present_T / (task_weights_T * present_T).sum()
    per_label_T = shares_T * tokens_T.sum() / np.maximum(tokens_T, 1)
    return (learnt_BS * per_label_T[tasks_B][:, None]).astype(np.float32)


def slope(values_N: np.ndarray) -> float:
    """Of the least-squares line through evenly spaced values, per place."""
    centred_N = np.arange(len(values_N)) - (len(values_N) - 1) / 2
    return float(centred_N @ values_N / (centred_N @ centred_N))


def softmax(logits: np.ndarray) -> np.ndarray:
    """exp(logits) over its sum."""
    exponentials = np.exp(logits - logits.max())
    return np.asarray(exponentials / exponentials.sum())


def _over(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient; 0 / 0 is 0, as of slopes of losses that do not change."""
    return numerator / np.where(denominator == 0, 1.0, denominator)
