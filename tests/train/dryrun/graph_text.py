"""The text of a compiled graph (MindSpore 2.9, after `validate`) as nodes to be evaluated.

Covers: what a training step's graph holds. MindSpore prints constants of less than 30 numbers, and of more than 6 in
a row only the first and the last three: those are completed if they are steps of one size, and refused otherwise.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

GRAPH = re.compile(r"subgraph @([^(\s]+)\((.*)\) \{$")
NODE = re.compile(r"  (%\d+)\([^)]*\) = (.*)$")
CALL = re.compile(r"(?:PrimFunc_|call )?([^\s(\[]+)(?:\[@.*?\)\])?\(")
TOKEN = re.compile(r"[%@][^\s,()\[\]:]+")
SCALAR = re.compile(r"(I64|I32|F32|F64|Bool)\(([^)]*)\)")
TENSOR = re.compile(r"Tensor\(shape=\[([\d, ]*)\], dtype=(\w+), value=([^)]*)\)")
RESULT = re.compile(r"-> \(<(?:Ref\[)?Tensor\[(\w+)\]\]?, \(([\d, ]*)\)")
TYPES = {"Float32": np.float64, "Int32": np.int32, "Int64": np.int64, "Bool": np.bool_, "UInt8": np.uint8}
"""Rounding is no part of what is shown, so float32 is evaluated in double precision."""


@dataclass(frozen=True)
class Name:
    """A reference to a node or a parameter (%...), or to a graph (@...)."""

    text: str


@dataclass
class Node:
    """One operator."""

    target: str
    operator: str
    inputs: list[Any]
    """`Name`, array, number, bool, None or a tuple of such."""
    notes: str
    """What follows: instance name and attributes."""
    shape: tuple[int, ...] | None
    """Of the result, if that is one tensor."""
    dtype: str


@dataclass
class Graph:
    """Nodes in the order in which they are computed; `inputs` are those of a graph that is called."""

    inputs: list[str]
    nodes: list[Node]
    result: Any = None


@dataclass
class Program:
    """All graphs of a text, of which `main` is the step.

    `parameters` are the step's arguments and weights, in order, with their slices' shapes.
    """

    main: str
    graphs: dict[str, Graph]
    parameters: dict[str, tuple[int, ...]]


def read_program(text: str) -> Program:
    """The graphs of a text.

    Raises:
        ValueError: a constant is not printed in full.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    parameters = {}
    for line in lines:
        if found := re.match(r"(%para\d+_\S+): <(?:Ref\[)?Tensor\[\w+\]\]?, \(([\d, ]*)\)", line):
            parameters[found[1]] = sizes(found[2])
    graphs: dict[str, Graph] = {}
    graph = None
    at = 0
    while at < len(lines):
        if found := GRAPH.match(lines[at]):
            graph = graphs[found[1]] = Graph(re.findall(r"%para\d+_[^\s,]+", found[2]), [])
        elif graph is not None and lines[at].startswith(("  %", "  Return(")):
            end = at + 1
            while not lines[end].startswith("      : ("):  # a constant of several lines
                end += 1
            statement = "\n".join(lines[at:end])
            if statement.startswith("  Return("):
                graph.result = read_values(statement, statement.index("(") + 1)[0][0]
            else:
                graph.nodes.append(read_node(statement, lines[end]))
            at = end
        at += 1
    entry = re.search(r"^# IR entry: @(\S+)", text, re.MULTILINE)
    return Program(entry[1] if entry else "", graphs, parameters)


def read_node(statement: str, types: str) -> Node:
    """A node from its line, or lines, and the line of its types."""
    target, rest = re.match(r"  (%\d+)\([^)]*\) = (.*)$", statement, re.DOTALL).groups()
    call = CALL.match(rest)
    inputs, end = read_values(rest, call.end())
    result = RESULT.search(types)
    shape, dtype = (sizes(result[2]), result[1]) if result else (None, "")
    return Node(target, call[1], inputs, rest[end:], shape, dtype)


def read_values(text: str, at: int) -> tuple[list[Any], int]:
    """What stands between `at` and the closing bracket, and where that ends."""
    values: list[Any] = []
    while text[at] != ")":
        if text[at] in ", \n":
            at += 1
        elif text[at] == "(":
            inner, at = read_values(text, at + 1)
            values.append(tuple(inner))
        elif found := TENSOR.match(text, at):
            values.append(constant(found))
            at = found.end()
        elif found := SCALAR.match(text, at):
            values.append(float(found[2]) if found[1].startswith("F") else int(found[2]))
            at = found.end()
        elif found := TOKEN.match(text, at):
            values.append(Name(found[0]))
            at = found.end()
        else:  # None, or the order of side effects, which is the order of the text
            at = re.compile(r"None|UMonad\[U\]|IOMonad\[IO\]|U\b").match(text, at).end()
            values.append(None)
    return values, at + 1


def constant(found: re.Match[str]) -> np.ndarray:
    """The array that is printed; other floats are taken for zeros: where results differ, choose smaller sizes."""
    shape, dtype = sizes(found[1]), TYPES[found[2]]
    if found[3] == "[...]" and dtype == np.float64:
        return np.zeros(shape)
    numbers = re.sub(r"[\[\]]", " ", found[3]).replace("True", "1").replace("False", "0").split()
    if "..." not in numbers:
        return np.array([float(n) for n in numbers]).astype(dtype).reshape(shape)
    first, last = ([int(n) for n in part] for part in (numbers[:3], numbers[4:])) if len(numbers) == 7 else ([0], [0])
    count = math.prod(shape)
    steps = (first[0] + np.arange(count) * (first[-1] - first[0]) // 2).astype(dtype)  # wraps as the hash does
    if [*steps[:3], *steps[-3:]] != [*first, *last]:
        raise ValueError(f"MindSpore did not print the constant {found[0][:80]} in full: choose smaller sizes")
    return steps.reshape(shape)


def sizes(text: str) -> tuple[int, ...]:
    """A printed shape."""
    return tuple(int(n) for n in text.replace(",", " ").split())
