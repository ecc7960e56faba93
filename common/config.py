"""YAML into frozen dataclasses, strictly: an unknown key or a wrong type is an error naming the file and the key."""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import dacite
import yaml

from mindgeex.common.errors import UserError, did_you_mean

T = TypeVar("T")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: the file is missing, is not UTF-8, is not YAML (with the line), or is not a mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected a mapping of keys to values at the top, found {type(tree).__name__}")
    return tree


def build_config(cls: type[T], tree: dict[str, Any], where: str) -> T:
    """A dataclass of type `cls` from a nested mapping.

    Args:
        cls: a frozen dataclass; fields may be dataclasses, optionals, tuples and scalars.
        tree: keys and values, as YAML gives them.
        where: what to call the source in an error, usually the file's path.

    Raises:
        UserError: unknown key (with the nearest known one), missing key, wrong type, or a value that the
            dataclass's own `__post_init__` refuses.
    """
    _check_keys(cls, tree, where, prefix="")
    try:
        # YAML 1.1 reads 1e-3 as text; the casts accept what a person means by a number and by a list.
        return dacite.from_dict(
            cls, tree, dacite.Config(strict=True, cast=[tuple, Path], type_hooks={float: _as_float})
        )
    except dacite.MissingValueError as error:
        raise UserError(f"{where}: key '{error.field_path}' is missing: add it") from None
    except dacite.WrongTypeError as error:
        expected = getattr(error.field_type, "__name__", str(error.field_type))
        raise UserError(f"{where}: key '{error.field_path}' is {error.value!r}, expected {expected}") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def as_tree(config: Any) -> dict[str, Any]:
    """The resolved configuration as plain YAML types, for printing and for saving beside a run."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return plain(dataclasses.asdict(config))


def _as_float(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _check_keys(cls: Any, tree: dict[str, Any], where: str, prefix: str) -> None:
    hints = typing.get_type_hints(cls)
    known = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    for key, value in tree.items():
        if key not in known:
            hint = did_you_mean(str(key), known).replace("did you mean '", f"did you mean '{prefix}")
            raise UserError(f"unknown key '{prefix}{key}' in {where}{hint}")
        inner = _dataclass_in(known[key])
        if inner is not None and isinstance(value, dict):
            _check_keys(inner, value, where, f"{prefix}{key}.")


def _dataclass_in(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return hint
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next((arg for arg in typing.get_args(hint) if dataclasses.is_dataclass(arg)), None)
    return None
