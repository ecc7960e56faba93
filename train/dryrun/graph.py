"""The compiled graph as MindSpore prints it: its collectives and its matrix products.

A graph that is printed once may be called many times: a block that is compiled once is called by every layer.
Covers: the text of `save_graphs` after the pass `validate` (MindSpore 2.9). Does not cover: other versions' texts; a
graph without any matrix product is refused rather than read as empty.
"""

import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

BYTES = {"Float16": 2, "BFloat16": 2, "Float32": 4, "Int32": 4, "Int64": 8, "Bool": 1, "UInt8": 1, "Int8": 1}
COLLECTIVES = ("AllReduce", "AllGather", "ReduceScatter", "AlltoAll", "AllToAll", "Send", "Receive", "Broadcast")
PRODUCTS = ("MatMul", "BatchMatMul", "FlashAttentionScoreGrad", "FlashAttentionScore")
NODE = re.compile(rf"= (?:PrimFunc_)?({'|'.join((*COLLECTIVES, *PRODUCTS))})\(")
PEER = re.compile(r"(?:dest|src)_rank: I64\((\d+)\)")
RANKS = re.compile(r"(?:group_rank_ids|rank_list): \(([\d, ]*)\)")
INSTANCE = re.compile(r"instance name: ([^}]*)\}")
GRAPH = re.compile(r"^subgraph @([^\s(]+)\(")
ENTRY = re.compile(r"^# IR entry: @(\S+)", re.MULTILINE)
CALL = re.compile(r"= (?:call (@[^\s(]+)|%\d+\[(@.*?)\])\(")
"""A graph called by its name, or through a value that may be one of several."""
NAME = re.compile(r"@(?!Partial\(|FuncUnion\()([^\s(),\[\]]+)")
TENSOR = re.compile(r"<(?:Ref\[)?Tensor\[(\w+)\]\]?, \(([\d, ]*)\)")


@dataclass(frozen=True)
class Collective:
    """One communication of the step."""

    kind: str
    purpose: str
    """forward, backward, tokens (gathered before a product, their derivatives scattered: sequence_parallel), pipeline,
    table (a tied one, between stages), redistribution, weights (HSDP gathers), accumulation (of a micro batch's
    gradients, which are kept in slices), gradients or norm."""
    ranks: tuple[int, ...]
    """Who takes part; empty: all. Of Send and Receive: the other one."""
    dtype: str
    shape: tuple[int, ...]
    """Of what an NPU puts in."""
    count: int = 1
    """How often."""

    @property
    def bytes(self) -> int:
        """Of what an NPU puts in."""
        return math.prod(self.shape) * BYTES[self.dtype]


@dataclass(frozen=True)
class Product:
    """One matrix product (or flash attention) of an NPU; `shapes` of its inputs and its output."""

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    transposes: bool
    """The first input is transposed: what is summed over is its last axis but one."""
    count: int = 1
    """How often."""

    @property
    def flops(self) -> int:
        """A multiplication and an addition counted as two."""
        first, second, result = self.shapes[0], self.shapes[1], self.shapes[-1]
        if self.kind == "FlashAttentionScore":
            return 4 * math.prod(first) * second[-2]
        if self.kind == "FlashAttentionScoreGrad":  # the scores again, and four products of the derivative
            return 10 * math.prod(first) * second[-2]
        inner = first[-2] if self.transposes else first[-1]
        return 2 * math.prod(result) * inner


def read_graph(text: str, sharing: int = 1) -> tuple[list[Collective], list[Product]]:
    """All collectives and matrix products of a step, in the order of the text, each as often as it is computed.

    Args:
        text: the graph.
        sharing: how many NPUs, one after the other, share the tokens of their rows.

    Raises:
        ValueError: there is no matrix product, or one is in a graph that nothing calls.
    """
    collectives, products = [], []
    lines = text.splitlines()
    runs, times = runs_of_graphs(text), 1
    for at, line in enumerate(lines):
        if (header := GRAPH.match(line)) is not None:
            times = runs[header[1]]
        if (match := NODE.search(line)) is None:
            continue
        if not times:
            raise ValueError(f"nothing calls the graph of {line.strip()[:80]!r}: this MindSpore prints calls otherwise")
        kind, types = match[1], TENSOR.findall(lines[at + 1])
        shapes = tuple(tuple(int(n) for n in shape.replace(",", " ").split()) for _, shape in types)
        if kind in COLLECTIVES:
            ranks = RANKS.search(line)
            is_gradient = any("scope: (Gradients/" in later for later in lines[at + 1 : at + 4])
            numbers = tuple(int(n) for n in ranks[1].replace(",", " ").split()) if ranks else ()
            said, purpose = 0, _purpose(kind, line, is_gradient)
            if kind in ("Send", "Receive") and (peer := PEER.search(line)):
                # The other's place in the group; what a Receive takes in is a placeholder.
                numbers, said = (numbers[int(peer[1])],), -1
            if purpose == "pipeline" and len(shapes[said]) == 2:
                purpose = "table"
            if purpose == "redistribution" and numbers == tuple(range(numbers[0], numbers[0] + sharing)):
                purpose = "tokens"
            collectives += [Collective(kind, purpose, numbers, types[said][0], shapes[said])] * times
        else:
            flags = re.findall(r"Bool\((\d)\)", line.partition("{")[0])
            products += [Product(kind, shapes, bool(flags) and flags[0] == "1")] * times
    if not products:
        raise ValueError("the graph has no matrix product: this MindSpore prints it in another way")
    return collectives, products


def runs_of_graphs(text: str) -> dict[str, int]:
    """How often a step runs each graph of the text; 0: nothing calls it."""
    sites: dict[str, list[str]] = {}
    caller = ""
    for line in text.splitlines():
        if (header := GRAPH.match(line)) is not None:
            caller = header[1]
            sites.setdefault(caller, [])
        elif (call := CALL.search(line)) is not None:
            for name in NAME.findall(call[1] or call[2]):
                sites.setdefault(name, []).append(caller)
    entry = ENTRY.search(text)

    @cache
    def runs(name: str) -> int:
        return int(entry is not None and name == entry[1]) + sum(runs(caller) for caller in sites[name])

    return {name: runs(name) for name in sites}


def _purpose(kind: str, line: str, is_gradient: bool) -> str:
    instance = INSTANCE.search(line)
    name = instance[1] if instance else ""
    if kind in ("Send", "Receive"):
        return "pipeline"
    if "redistribution" in name:
        return "redistribution"
    if "parallel_optimizer" in name:
        return "weights" if kind == "AllGather" else "gradients"
    if "grad_accumulation_shard" in name:
        return "accumulation"
    if "mirror" in name or (kind == "ReduceScatter" and "forward_op" not in name):
        return "gradients"
    if name in ("sum_votes", "sum_squares", "sum_losses"):
        return "norm"
    return "backward" if is_gradient else "forward"


def find_graph(folder: Path) -> Path:
    """The file of the last graph that was printed after `validate`.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(folder.rglob("*validate_*.ir"))
    if not found:
        raise FileNotFoundError(f"{folder}: MindSpore printed no graph")
    return found[-1]
