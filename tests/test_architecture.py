"""The rooms keep to themselves: who imports whom, what the command line loads, and that every command exists."""

import ast
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mindgeex.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "common": set(),
    "data": {"common"},
    "model_zoo": {"common"},
    "hccl_configs": {"common"},
    "train": {"common", "model_zoo", "data"},
    "eval": {"common", "model_zoo"},
    "cli": {"common", "data", "model_zoo", "hccl_configs", "train", "eval"},
}
"""Room -> rooms it may import beside itself."""
MACHINE_PATH = re.compile(r"/(work|root|home|Users)/[A-Za-z]")
HEAVY = {"mindspore", "mindformers", "numpy", "matplotlib", "tokenizers", "tiktoken", "rich"}


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            # `from mindgeex import data` names a room only in what it imports.
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "mindgeex" else [module]
            yield from ((node.lineno, name) for name in names)


def room_files() -> list[Path]:
    return sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))


def offences(room: str, source: str) -> list[str]:
    """What the rules have against the imports of a file of a room ("tests" may import every room)."""
    found = []
    for line, name in imports(source):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if name.startswith("."):
            found.append(f"line {line}: relative import: write mindgeex.{room}...")
        elif top in MAY_IMPORT:
            found.append(
                f"line {line}: `{name}` finds a second copy, or the folder of another project: mindgeex.{name}"
            )
        elif top == "mindgeex" and room != "tests" and target != room and target not in MAY_IMPORT[room]:
            found.append(f"line {line}: {room} may not import {target}")
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_the_rooms_it_may(room: str) -> None:
    found = {
        str(path.relative_to(ROOT)): problems
        for path in room_files()
        if path.is_relative_to(ROOT / room) and (problems := offences(room, path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_tests_import_the_installed_rooms_and_no_second_copy() -> None:
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert {str(path): found for path in files if (found := offences("tests", path.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(
    ("room", "source", "words"),
    [
        ("data", "from mindgeex.train.config import RunConfig", "data may not import train"),
        ("model_zoo", "def f():\n    import mindgeex.data.filters", "line 2: model_zoo may not import data"),
        ("eval", "from mindgeex import data", "eval may not import data"),
        ("train", "import data.filters", "second copy"),
        ("tests", "from eval.reports.metrics import pass_at_k", "second copy"),
        ("train", "from . import loss", "relative import"),
        ("common", "from mindgeex.data import document", "common may not import data"),
    ],
)
def test_the_rules_notice(room: str, source: str, words: str) -> None:
    assert words in " ".join(offences(room, source))


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("train", "from mindgeex.data.mindrecord import load\nimport dataclasses\nimport database"),
        ("cli", "from mindgeex.common.errors import UserError\ndef f():\n    from mindgeex.train import trainer"),
        ("eval", "from mindgeex.eval.reports import metrics"),
    ],
)
def test_the_rules_let_pass(room: str, source: str) -> None:
    assert offences(room, source) == []


def test_every_folder_of_a_room_is_a_package_so_that_it_is_installed() -> None:
    folders = {path.parent for path in room_files()}
    assert [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_help_imports_nothing_big_and_answers_within_a_second() -> None:
    script = "import sys; from mindgeex.cli.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not HEAVY & set(ran.stderr.split())

    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([Path(sys.executable).with_name("mindgeex"), "--help"], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_without_loading_mindspore(name: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "mindgeex.cli.main", *name.split(), "--help"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.startswith(f"usage: mindgeex {name} ")
    loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "tyro" in loaded
    assert not {"mindspore", "mindformers"} & loaded


def git_files(*arguments: str) -> list[str]:
    """What `git ls-files` lists; skips where it cannot tell project files from others."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    listed = subprocess.run(["git", "ls-files", "-z", *arguments], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert listed.stdout, "git lists no file"
    return listed.stdout.rstrip("\0").split("\0")


def test_every_file_of_a_room_is_installed() -> None:
    suffixes = re.search(r"SUFFIXES = \((.*)\)", (ROOT / "setup.py").read_text())
    assert suffixes is not None
    installed = {f".{suffix}" for suffix in ast.literal_eval(f"[{suffixes[1]}]")} | {".py"}
    assert [name for name in git_files(*MAY_IMPORT) if Path(name).suffix not in installed] == []


def test_no_file_names_a_path_of_one_machine() -> None:
    found = []
    for name in git_files("--cached", "--others", "--exclude-standard"):
        if name == "tests/test_architecture.py" or not (ROOT / name).is_file():
            continue
        text = (ROOT / name).read_text(encoding="utf-8", errors="ignore")
        found += [f"{name}: {line.strip()}" for line in text.splitlines() if MACHINE_PATH.search(line)]
    assert found == []
