"""YAML into frozen dataclasses, strictly: an unknown key or a wrong type is an error naming the file and the key."""

import dataclasses
import types
import typing
from collections.abc import Sequence
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
        what = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{path}{line}: not valid YAML: {what}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of lists in each other
        raise UserError(f"{path}: not YAML that can be read: {error}") from None
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
    tree = _checked(cls, tree, where, prefix="")
    try:
        return dacite.from_dict(cls, tree, dacite.Config(strict=True, type_hooks={float: _as_float, Path: _as_path}))
    except dacite.MissingValueError as error:
        raise UserError(f"{where}: key '{error.field_path}' is missing: add it") from None
    except dacite.WrongTypeError as error:
        expected = _type_name(error.field_type)
        raise UserError(f"{where}: key '{error.field_path}' is {error.value!r}, expected {expected}") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def recipe_names(folder: Path) -> list[str]:
    """The recipes that ship in a folder, by name."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_recipe(cls: type[T], folder: Path, name: str, overrides: Sequence[str] = ()) -> T:
    """A configuration from a shipped recipe's name or a YAML file's path, with overrides applied.

    Args:
        cls: a frozen dataclass.
        folder: where the shipped recipes are.
        name: a recipe's name, or a path that ends in .yaml or .yml.
        overrides: `key.inner=value` each, the value as in YAML.

    Raises:
        UserError: no such recipe, an override of another form, or what `build_config` refuses.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if path.parent == folder and not path.is_file():
        raise UserError(f"no recipe named {name!r}{did_you_mean(name, recipe_names(folder))}")
    tree = read_yaml(path)
    for override in overrides:
        _override(tree, override)
    return build_config(cls, tree, f"{path}" + (f" with {' '.join(overrides)}" if overrides else ""))


def as_tree(config: Any) -> dict[str, Any]:
    """The resolved configuration as plain YAML types, for printing and for saving beside a run."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return plain(dataclasses.asdict(config))


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"override {override!r} is not of the form key=value, such as schedule.peak=1e-3")
    *outer, last = key.split(".")
    for name in outer:
        inner = tree.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UserError(f"override {override!r}: '{name}' holds a value, not keys")
        tree = inner
    try:
        tree[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or error
        raise UserError(f"override {override!r}: the value is not valid YAML: {problem}") from None


def _as_float(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 as text: what a person means by a number is one."""
    if isinstance(value, bool):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _as_path(value: Any) -> Any:
    return Path(value) if isinstance(value, str) else value


def _checked(cls: Any, tree: dict[str, Any], where: str, prefix: str) -> dict[str, Any]:
    """The tree with its lists as tuples; refuses unknown keys at any depth, and true and false as numbers."""
    hints = typing.get_type_hints(cls)
    known = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    result = {}
    for key, value in tree.items():
        if key not in known:
            hint = did_you_mean(str(key), known).replace("did you mean '", f"did you mean '{prefix}")
            raise UserError(f"unknown key '{prefix}{key}' in {where}{hint}")
        result[key] = _checked_value(known[key], value, where, f"{prefix}{key}")
    return result


def _checked_value(hint: Any, value: Any, where: str, key: str) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if isinstance(value, bool) and bool not in options and Any not in options:
        raise UserError(f"{where}: key '{key}' is {value!r}, expected {_type_name(hint)}")
    for option in options:
        if dataclasses.is_dataclass(option) and isinstance(value, dict):
            return _checked(option, value, where, f"{key}.")
        if typing.get_origin(option) is tuple and value is not None:
            if not isinstance(value, (list, tuple)):
                raise UserError(f"{where}: key '{key}' is {value!r}, expected a list: write [{value}]")
            items = typing.get_args(option)
            if items[-1] is Ellipsis:
                items = items[:1] * len(value)
            if len(items) != len(value):
                raise UserError(f"{where}: key '{key}' is {value!r}, expected {len(items)} values")
            return tuple(
                _checked_value(item_hint, item, where, f"{key}[{at}]")
                for at, (item_hint, item) in enumerate(zip(items, value, strict=True))
            )
    return value


def _type_name(hint: Any) -> str:
    return str(hint) if typing.get_args(hint) else getattr(hint, "__name__", str(hint))
