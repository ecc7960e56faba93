"""How much CPU time a program may use: it follows the machine, so that a slow one changes scores as little as can be.

What a problem's own solution takes here, times a factor, is what any other solution may take, and never less than a
floor. Interpreted languages, in which a program comes near a limit at all, follow the machine's speed thereby; a
compiled solution takes milliseconds, and the floor is a thousand times that.
Does not cover: a compiled program that takes a thousand times as long as the problem's own solution, and comes near the
floor, which is the same on every machine; a machine whose load changes between the canonical solution and the sample
(CPU time hardly follows it).
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mindgeex.eval.execution.job import Limits

CPU_FACTOR = 100
GATE_FACTOR = 10
"""So many times the floor has a canonical solution, whose own time is not known yet."""


@dataclass(frozen=True)
class Allowance:
    """The limits of a run's programs."""

    limits: Limits = Limits()
    """`cpu_s` is the floor; the wall limit grows with the CPU limit."""
    cpu_factor: int = CPU_FACTOR
    """So many times the canonical solution's CPU time may a program use; 0 for the floor alone."""

    def for_canonical(self) -> Limits:
        """Limits of a problem's own solution."""
        return self._with(self.limits.cpu_s * (GATE_FACTOR if self.cpu_factor else 1))

    def for_samples(self, canonical: dict[str, Any] | None) -> Limits:
        """Limits of other solutions of a problem, from the row of its own one."""
        measured_s = canonical.get("run_cpu_s", 0.0) if canonical else 0.0
        return self._with(max(self.limits.cpu_s, math.ceil(self.cpu_factor * measured_s)))

    def _with(self, cpu_s: int) -> Limits:
        wall_s = self.limits.wall_s * cpu_s / self.limits.cpu_s
        return dataclasses.replace(self.limits, cpu_s=cpu_s, wall_s=wall_s)


def summary(rows: Iterable[dict[str, Any]], allowance: Allowance) -> dict[str, Any]:
    """What canonical solutions took and what follows, for the manifest; empty if none was executed."""
    taken = [row for row in rows if "run_cpu_s" in row]
    if not taken:
        return {}
    limits = {row["task_id"]: allowance.for_samples(row).cpu_s for row in taken}
    return {
        "canonical_cpu_s": {
            "median": round(statistics.median(row["run_cpu_s"] for row in taken), 3),
            "most": round(max(row["run_cpu_s"] for row in taken), 3),
        },
        "cpu_limit_s": {"least": min(limits.values()), "most": max(limits.values())},
        "above_the_floor": {task: cpu_s for task, cpu_s in limits.items() if cpu_s > allowance.limits.cpu_s},
    }
