"""Strict configuration: what is accepted, and what is said about a mistake."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from mindgeex.common.config import as_tree, build_config, read_yaml
from mindgeex.common.errors import UserError


@dataclass(frozen=True)
class Optimizer:
    lr: float = 1e-3
    warmup_steps: int = 10
    betas: tuple[float, float] = (0.9, 0.95)


@dataclass(frozen=True)
class Source:
    kind: str
    weight: float = 1.0


@dataclass(frozen=True)
class Recipe:
    name: str
    optimizer: Optimizer = field(default_factory=Optimizer)
    sources: tuple[Source, ...] = ()
    languages: tuple[str, ...] = ("python",)
    extra: Optimizer | None = None
    out: Path = Path("runs")
    resume: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError("name is empty: give the recipe a name")


def build(**tree: Any) -> Recipe:
    return build_config(Recipe, {"name": "tiny", **tree}, "tiny.yaml")


def test_defaults_stand_where_nothing_is_given() -> None:
    assert build() == Recipe("tiny")


def test_a_whole_tree_is_read_with_what_a_person_means_by_a_number_and_a_list() -> None:
    text = """
        name: tiny
        optimizer: {lr: 1e-4, betas: [0.9, 1]}
        sources: [{kind: local}, {kind: pile, weight: 2}]
        languages: [python, c]
        extra: {lr: 3}
        out: some/where
        resume: true
    """
    assert build_config(Recipe, yaml.safe_load(text), "tiny.yaml") == Recipe(
        name="tiny",
        optimizer=Optimizer(lr=1e-4, betas=(0.9, 1.0)),
        sources=(Source("local"), Source("pile", 2.0)),
        languages=("python", "c"),
        extra=Optimizer(lr=3.0),
        out=Path("some/where"),
        resume=True,
    )


def test_the_resolved_tree_is_plain_yaml_and_reads_back_to_the_same() -> None:
    recipe = build(sources=[{"kind": "local"}], extra={"lr": 2}, out="a/b")
    assert build_config(Recipe, yaml.safe_load(yaml.safe_dump(as_tree(recipe))), "saved") == recipe


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"nam": 1}, "unknown key 'nam' in tiny.yaml; did you mean 'name'?"),
        ({"optimizer": {"lrr": 1}}, "unknown key 'optimizer.lrr' in tiny.yaml; did you mean 'optimizer.lr'?"),
        ({"extra": {"warmup": 1}}, "unknown key 'extra.warmup' in tiny.yaml; did you mean 'extra.warmup_steps'?"),
        ({"sources": [{"kind": "a"}, {"knd": 1}]}, "'sources[1].knd' in tiny.yaml; did you mean 'sources[1].kind'?"),
        ({"optimizer": {"zzz": 1}}, "unknown key 'optimizer.zzz' in tiny.yaml; known: lr, warmup_steps, betas"),
        ({7: 1}, "unknown key '7' in tiny.yaml; known: name,"),
        ({"sources": [{}]}, "tiny.yaml: key 'sources.kind' is missing: add it"),
        ({"optimizer": {"lr": "fast"}}, "tiny.yaml: key 'optimizer.lr' is 'fast', expected float"),
        ({"optimizer": {"warmup_steps": 2.5}}, "tiny.yaml: key 'optimizer.warmup_steps' is 2.5, expected int"),
        ({"optimizer": {"warmup_steps": True}}, "key 'optimizer.warmup_steps' is True, expected int"),
        ({"optimizer": {"lr": False}}, "key 'optimizer.lr' is False, expected float"),
        ({"optimizer": None}, "tiny.yaml: key 'optimizer' is None, expected Optimizer"),
        ({"optimizer": 3}, "tiny.yaml: key 'optimizer' is 3, expected Optimizer"),
        ({"optimizer": {"betas": [0.9]}}, "tiny.yaml: key 'optimizer.betas' is [0.9], expected 2 values"),
        ({"languages": "python"}, "tiny.yaml: key 'languages' is 'python', expected a list: write [python]"),
        ({"languages": 5}, "tiny.yaml: key 'languages' is 5, expected a list: write [5]"),
        ({"languages": [1]}, "tiny.yaml: key 'languages' is (1,), expected tuple[str, ...]"),
        ({"resume": "yes"}, "tiny.yaml: key 'resume' is 'yes', expected bool"),
        ({"out": 3}, "tiny.yaml: key 'out' is 3, expected Path"),
        ({"name": ""}, "tiny.yaml: name is empty: give the recipe a name"),
    ],
)
def test_a_mistake_is_named_with_file_key_and_value(tree: dict[Any, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        build_config(Recipe, {"name": "tiny", **tree}, "tiny.yaml")
    assert message in str(error.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(UserError, match="key 'name' is missing: add it"):
        build_config(Recipe, {}, "tiny.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: tiny\noptimizer: {lr: 1\n", r"recipe\.yaml, line 3: not valid YAML"),
        (b"name: \x01\n", r"not valid YAML: unacceptable character #x0001: special characters are not allowed in "),
        pytest.param(b"a: " + b"9" * 5000, "not YAML that can be read", id="digits"),
        pytest.param(b"[" * 20_000, "not YAML that can be read", id="lists"),
        (b"name: a: b\n", r"recipe\.yaml, line 1: not valid YAML: mapping values are not allowed here"),
        (b"- a\n- b\n", r"recipe\.yaml: expected a mapping of keys to values at the top, found list"),
        (b"", r"recipe\.yaml: expected a mapping of keys to values at the top, found NoneType"),
        (b"name: \xe9\n", r"recipe\.yaml: cannot be read as UTF-8 text"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_yaml(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml(tmp_path)


def test_a_mapping_is_read(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: é\nn: [1, 2]\n", encoding="utf-8")
    assert read_yaml(tmp_path / "recipe.yaml") == {"name": "é", "n": [1, 2]}
