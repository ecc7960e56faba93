"""NPUs that compute a compiled step together: each its own graph, until all of a group have come to its collective."""

import re
from collections import defaultdict
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.train.dryrun.arithmetic import adam_weight_decay, evaluate
from tests.train.dryrun.graph_text import Name, Node, Program

COLLECTIVES = ("AllReduce", "AllGather", "ReduceScatter", "Send", "Receive")


@dataclass(frozen=True)
class Exchange:
    """A collective at which an NPU waits."""

    kind: str
    rule: str
    """sum or max; empty if nothing is added."""
    ranks: tuple[int, ...]
    """Who takes part, in the order of their pieces; empty: all. Of Send and Receive: the other one."""
    value: np.ndarray
    tag: int = 0
    """Of a message: which of those between the same two."""


class Npu:
    """One rank's graph, and what it holds: arrays by parameter, which an update changes in place."""

    def __init__(self, program: Program, held: Mapping[str, np.ndarray]):
        self.program = program
        self.held = dict(held)
        self.gradients: dict[str, np.ndarray] = {}
        """As the update takes them: after clipping."""
        assert {name: value.shape for name, value in held.items()} == program.parameters

    def run(self) -> Generator[Exchange, np.ndarray, Any]:
        """The step's results; yields where it has to wait for others, and is sent what they make together."""
        return self.call(self.program.main, dict(self.held))

    def call(self, graph: str, values: dict[str, Any]) -> Generator[Exchange, np.ndarray, Any]:
        """The result of a graph, from the values of its inputs."""

        def value(item: Any) -> Any:
            if isinstance(item, Name):
                return values[item.text] if item.text.startswith("%") else item
            return tuple(map(value, item)) if isinstance(item, tuple) else item

        for node in self.program.graphs[graph].nodes:
            inputs = [value(item) for item in node.inputs]
            if node.operator in COLLECTIVES:
                result = yield exchange(node, inputs[0])
                assert result.shape == node.shape, node
            elif node.operator == "Partial":
                result = (inputs[0].text[1:], inputs[1:])
            elif node.operator == "Switch":
                result = inputs[1] if inputs[0] else inputs[2]
            elif node.operator.startswith(("%", "@")):
                name, bound = values[node.operator] if node.operator[0] == "%" else (node.operator[1:], ())
                names = self.program.graphs[name].inputs
                result = yield from self.call(name, dict(zip(names, [*bound, *inputs], strict=True)))
            elif node.operator == "AdamWeightDecay":
                self.gradients[node.inputs[0].text.partition("_")[2]] = inputs[8]
                result = adam_weight_decay(*inputs)
            else:
                result = evaluate(node, inputs)
            values[node.target] = result
        return value(self.program.graphs[graph].result)


def exchange(node: Node, value: np.ndarray) -> Exchange:
    """Kind, rule and group of a collective, as the graph says them."""
    if node.operator in ("Send", "Receive"):
        peer, tag = (re.search(rf"{word}: I64\((\d+)\)", node.notes) for word in (r"(?:dst|src)_global_rank", "sr_tag"))
        return Exchange(node.operator, "", (int(peer[1]),), value, int(tag[1]))
    ranks = re.search(r"group_rank_ids: \(([\d, ]+)\)", node.notes)
    rule = re.search(r'\bop: "(\w+)"', node.notes)
    group = tuple(int(n) for n in ranks[1].split(",")) if ranks else ()
    return Exchange(node.operator, rule[1] if rule else "", group, value)


def together(kind: str, rule: str, values: list[np.ndarray]) -> list[np.ndarray]:
    """What a group's NPUs get, in its order, for what they put in."""
    if kind == "AllGather":
        return [np.concatenate(values)] * len(values)
    total = {"sum": np.sum, "max": np.max}[rule](values, axis=0)
    return np.split(total, len(values)) if kind == "ReduceScatter" else [total] * len(values)


def run_step(npus: Mapping[int, Npu]) -> dict[int, Any]:
    """The results of all NPUs by rank.

    Raises:
        RuntimeError: some wait for others that never come: their groups, or their order, contradict each other.
    """
    running, results = {rank: npu.run() for rank, npu in npus.items()}, {}
    waiting: dict[int, Exchange] = {}
    sent: dict[tuple[int, int, int], list[np.ndarray]] = defaultdict(list)
    answers: dict[int, Any] = dict.fromkeys(npus)
    while answers:
        for rank, answer in answers.items():
            try:
                waiting[rank] = running[rank].send(answer)
            except StopIteration as end:
                results[rank] = end.value
        answers = {}
        for rank, at in list(waiting.items()):
            if at.kind == "Send":
                sent[rank, at.ranks[0], at.tag].append(at.value.copy())
                answers[rank] = at.value
            elif at.kind == "Receive" and (letters := sent[at.ranks[0], rank, at.tag]):
                answers[rank] = letters.pop(0)
            if at.kind in ("Send", "Receive"):
                continue
            group = at.ranks or tuple(sorted(npus))
            met = [waiting.get(member) for member in group]
            said = {(other.kind, other.rule, other.ranks) for other in met if other is not None}
            if rank == group[0] and None not in met and len(said) == 1:
                made = together(at.kind, at.rule, [other.value for other in met if other is not None])
                answers |= dict(zip(group, made, strict=True))
        for rank in answers:
            del waiting[rank]
    if waiting:
        at_what = ", ".join(f"{rank} at {item.kind} of {item.ranks}" for rank, item in waiting.items())
        raise RuntimeError(f"NPUs wait for each other: {at_what}")
    return results
