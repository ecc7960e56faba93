"""Pickles as data: read without importing or calling anything that the caller did not hand over; and written.

A pickle is a program for a small stack machine. This one has the instructions that build dictionaries, lists, tuples,
numbers and text, and looks a global up in a table of ours, never in Python's modules. So no way leads from a file to
code: no import, no attribute, no class, no registry of extensions.

Covers: what torch.save writes (protocol 2), and protocols 3 to 5 of the same values. Does not cover: protocols 0 and 1,
bytes, sets, objects of classes.
"""

import pickle
import pickletools
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


class ForeignGlobal(ValueError):
    """A pickle names a function or class that is not in the table; its text is the name."""


@dataclass(frozen=True)
class Global:
    """What a global of the pickle stands for."""

    name: str
    call: Callable[..., object] | None = None
    """What `REDUCE` gives; None for one that is never called."""


CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
}  # fmt: skip
LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
KEYS = (str, int, bool, float, type(None))
"""Types of a dictionary's keys. To hash a tuple of millions of tuples in each other would crash Python."""
SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def load(data: bytes, known: Iterable[Global], persistent: Callable[[object], object]) -> object:
    """The value that a pickle describes.

    Args:
        data: the pickle.
        known: the globals that may occur.
        persistent: gives the object for a persistent id.

    Raises:
        ForeignGlobal: another global occurs, called or not.
        ValueError: not a pickle, truncated, or with an instruction that is not covered (named).
    """
    try:
        return _run(data, {known_global.name: known_global for known_global in known}, persistent)
    except RecursionError:
        raise ValueError("the pickle's values lie too deep in each other") from None
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the pickle contradicts itself: {type(error).__name__} {error}") from None


def _run(data: bytes, known: Mapping[str, Global], persistent: Callable[[object], object]) -> object:
    stack: list[Any] = []
    below: list[list[Any]] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        nonlocal stack
        items, stack = stack, below.pop()
        return items

    argument: Any
    for opcode, argument, position in pickletools.genops(data):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case name if name in CONSTANTS:
                stack.append(CONSTANTS[name]())
            case name if name in LITERALS:
                if isinstance(argument, str):
                    argument.encode()  # half a character is no text: a ValueError
                stack.append(argument)
            case "MARK":
                below.append(stack)
                stack = []
            case "TUPLE":
                items = since_mark()
                stack.append(tuple(items))
            case name if name in SHORT_TUPLES:
                count = SHORT_TUPLES[name]
                if len(stack) < count:
                    raise IndexError("stack")
                stack[-count:] = [tuple(stack[-count:])]
            case "APPEND":
                item = stack.pop()
                _typed(stack[-1], list).append(item)
            case "APPENDS":
                items = since_mark()
                _typed(stack[-1], list).extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _typed(stack[-1], dict).update(pairs(((key, value),)))
            case "SETITEMS":
                items = since_mark()
                _typed(stack[-1], dict).update(pairs(zip(items[::2], items[1::2], strict=True)))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL" | "INST":
                stack.append(_find(known, *argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_find(known, _typed(module, str), _typed(name, str)))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                if not isinstance(function, Global) or function.call is None:
                    raise TypeError(f"{function!r} is called")
                stack.append(function.call(*_typed(arguments, tuple)))
            case "BUILD":  # attributes of an OrderedDict, such as the versions that Module.state_dict notes: left out
                stack.pop()
                _typed(stack[-1], dict)
            case "BINPERSID":
                stack.append(persistent(stack.pop()))
            case "STOP":
                if below or len(stack) != 1:
                    raise IndexError("stack")
                return stack[0]
            case name:
                raise ValueError(f"the pickle has the instruction {name} at byte {position}, which tensors do not need")
    raise ValueError("the pickle ends early")


def _find(known: Mapping[str, Global], module: str, name: str) -> Global:
    full = f"{module}.{name}"
    if full not in known:
        raise ForeignGlobal(full)
    return known[full]


def pairs(items: Iterable[Any]) -> dict[Any, Any]:
    """Keys and values as a dictionary.

    Raises:
        ValueError: a key is of no type that KEYS has.
        TypeError: not keys and values.
    """
    found: dict[Any, Any] = {}
    for key, value in items:
        if type(key) not in KEYS:
            raise ValueError(f"a dictionary has a key of type {type(key).__name__}")
        found[key] = value
    return found


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} stands where {kind.__name__} should")
    return value


# Writing


def dump(value: object, leaf: Callable[[Any], bytes]) -> bytes:
    """A pickle (protocol 2) of dictionaries, lists, tuples, numbers, text and None; `leaf` writes anything else."""
    return b"\x80\x02" + _value(value, leaf) + b"."


def global_name(module: str, name: str) -> bytes:
    """The instruction that stands for a global."""
    return b"c%s\n%s\n" % (module.encode(), name.encode())


def _value(value: object, leaf: Callable[[Any], bytes]) -> bytes:
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int() if -(1 << 31) <= value < 1 << 31:
            return b"J" + struct.pack("<i", value)
        case int():
            digits = pickle.encode_long(value)
            return b"\x8a" + bytes([len(digits)]) + digits
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            text = value.encode()
            return b"X" + struct.pack("<I", len(text)) + text
        case dict():
            return b"}(" + b"".join(_value(item, leaf) for pair in value.items() for item in pair) + b"u"
        case list():
            return b"](" + b"".join(_value(item, leaf) for item in value) + b"e"
        case tuple():
            return b"(" + b"".join(_value(item, leaf) for item in value) + b"t"
        case _:
            return leaf(value)
