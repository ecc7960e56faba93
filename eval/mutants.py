"""Mutants: variants of a solution with one small mistake each, by which tests are told from useless ones.

Made from the syntax tree, so one implementation serves every language of HumanEval-X: an operator becomes another, a
whole number the next one, true false, a condition its opposite, a Python result None. Covers: mistakes that still
parse. Does not cover: mutants that behave like the original: nobody can decide that in general, so whoever uses them
first drops those that good tests do not catch; removed or swapped statements.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mindgeex.common.grammars import parse

if TYPE_CHECKING:
    from tree_sitter import Node

SWAPS = {
    "+": ("-",), "-": ("+",), "*": ("+",), "/": ("*",), "//": ("*",), "%": ("*",), "**": ("*",),
    "<": ("<=", ">"), "<=": ("<", ">="), ">": (">=", "<"), ">=": (">", "<="),
    "==": ("!=",), "!=": ("==",), "===": ("!==",), "!==": ("===",), "in": ("not in",),
    "&&": ("||",), "||": ("&&",), "and": ("or",), "or": ("and",), "&": ("|",), "|": ("&",), "^": ("&",),
    "+=": ("-=",), "-=": ("+=",), "*=": ("+=",), "/=": ("*=",), "//=": ("*=",), "%=": ("*=",),
}  # fmt: skip
"""Operator -> what it is mistaken for."""
OPERATIONS = {
    "binary_operator", "comparison_operator", "boolean_operator", "augmented_assignment", "binary_expression",
    "assignment_expression", "augmented_assignment_expression", "compound_assignment_expr", "assignment_statement",
}  # fmt: skip
"""Nodes whose operators are meant: elsewhere `<` may open a type and `*` a pointer."""
NUMBERS = {"integer", "number", "number_literal", "int_literal", "integer_literal", "decimal_integer_literal"}
LITERALS = {"true": "false", "false": "true", "True": "False", "False": "True"}
CONDITIONS = {"if_statement", "while_statement", "if_expression", "while_expression", "elif_clause", "for_statement"}


def mutants(before: str, solution: str, language: str, most: int = 10) -> tuple[str, ...]:
    """Wrong variants of a solution, spread evenly over it, always the same ones.

    Args:
        before: the code in front of the solution, which stays as it is.
        solution: what is changed.
        language: a key of mindgeex.common.grammars.
        most: how many, if there are as many places to change.

    Raises:
        ParseTimeout: the code is too large or hostile.
    """
    source = (before + solution).encode()
    offset = len(before.encode())
    parsed = parse(before + solution, language)
    if parsed is None:
        return ()
    found: dict[str, None] = {}
    for start, end, text in _changes(parsed.tree.root_node, source, language):
        if start >= offset:
            found[(source[offset:start] + text.encode() + source[end:]).decode()] = None
    every = list(found)
    if len(every) > most:
        every = [every[round(index * (len(every) - 1) / max(1, most - 1))] for index in range(most)]
    return tuple(every)


def _changes(root: "Node", source: bytes, language: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and new text of every mistake, in the order of the code."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        waiting += reversed(node.children)
        text = source[node.start_byte : node.end_byte].decode("utf-8", "replace")
        parent = node.parent.type if node.parent else ""
        if node.child_count == 0 and parent in OPERATIONS:
            for other in SWAPS.get(text, ()):
                yield node.start_byte, node.end_byte, other
        if node.type in NUMBERS and text.isdigit():
            yield node.start_byte, node.end_byte, str(int(text) + 1)
        elif text in LITERALS and node.type in LITERALS.keys() | {"boolean_literal"}:
            yield node.start_byte, node.end_byte, LITERALS[text]
        elif node.type == "return_statement" and language == "python" and node.named_child_count:
            value = node.named_children[0]
            yield value.start_byte, value.end_byte, "None"
        if node.type in CONDITIONS and (condition := node.child_by_field_name("condition")) is not None:
            start, end = condition.start_byte, condition.end_byte
            wanted = source[start:end].decode("utf-8", "replace")
            if language == "python":
                yield start, end, f"not ({wanted})"
            elif wanted.startswith("("):
                yield start, end, f"(!{wanted})"
            else:
                yield start, end, f"!({wanted})"
