"""The inputs of MBPP+ as Python values: JSON has no tuples, sets or complex numbers, but some tasks need them.

Which tasks those are is a property of the data set (EvalPlus, mbpp_deserialize_inputs).
"""

from collections.abc import Callable
from typing import Any

Arguments = list[Any]


def python_inputs(task_id: str, inputs: list[Arguments]) -> list[Any]:
    """The arguments of every call.

    Args:
        task_id: such as Mbpp/2; other benchmarks' inputs are left as they are.
        inputs: as JSON gave them.
    """
    kind, _, number = task_id.partition("/")
    convert = _BY_TASK.get(int(number)) if kind == "Mbpp" and number.isdigit() else None
    return [convert(arguments) for arguments in inputs] if convert else inputs


def _each(arguments: Arguments) -> Arguments:
    return [tuple(value) for value in arguments]


def _within_each(arguments: Arguments) -> Arguments:
    return [[tuple(item) for item in value] for value in arguments]


def _within_first(arguments: Arguments) -> Arguments:
    return [[tuple(item) for item in arguments[0]], *arguments[1:2]]


def _second(arguments: Arguments) -> Arguments:
    return [arguments[0], tuple(arguments[1])]


def _first(arguments: Arguments) -> Arguments:
    return [tuple(arguments[0]), *arguments[1:]]


def _both(arguments: Arguments) -> Arguments:
    return _each(_within_each(arguments))


def _some_within(arguments: Arguments) -> Arguments:
    return [tuple(tuple(item) if isinstance(item, list) else item for item in arguments[0])]


def _sets(arguments: Arguments) -> Arguments:
    return [[set(item) if isinstance(item, list) and item else {} for item in arguments[0]]]


def _values(arguments: Arguments) -> Arguments:
    return [{key: tuple(value) for key, value in arguments[0].items()}, *arguments[1:]]


def _complex(arguments: Arguments) -> Arguments:
    return [complex(arguments[0])]


def _real_and_complex(arguments: Arguments) -> Arguments:
    return [float(arguments[0]), complex(arguments[1])]


def _all(value: Any) -> Any:
    return tuple(_all(item) for item in value) if isinstance(value, list) else value


_TASKS: dict[Callable[[Arguments], Any], tuple[int, ...]] = {
    _each: (
        2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809,
    ),
    _within_each: (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780),
    _within_first: (75, 413, 444, 753),
    _second: (106, 750),
    _sets: (115,),
    _real_and_complex: (124,),
    _first: (250, 307, 405, 446, 617, 720, 763, 808),
    _complex: (252,),
    _both: (259, 401, 445),
    _some_within: (278,),
    _all: (580, 615, 791),
    _values: (722,),
}  # fmt: skip
_BY_TASK = {number: convert for convert, numbers in _TASKS.items() for number in numbers}
