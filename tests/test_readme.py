"""The README's commands work: each of its bash blocks is run, in order, in one folder.

A block is not run if `<!-- not run: reason -->` stands before it, or if it calls make, whose targets must exist.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+?) -->\s*)?^```bash\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
TARGET = re.compile(r"\bmake ((?:[a-z]+ ?)+)")


@dataclass(frozen=True)
class Block:
    """A fenced bash block."""

    line: int
    code: str
    reason: str | None
    """Why it is not run; None if it is."""

    @property
    def targets(self) -> list[str]:
        """Targets of make in it."""
        return [target for words in TARGET.findall(re.sub("#.*", "", self.code)) for target in words.split()]


def blocks_in(text: str) -> list[Block]:
    return [
        Block(text.count("\n", 0, match.start("code")) + 1, match["code"], match["reason"])
        for match in BLOCK.finditer(text)
    ]


README = blocks_in((ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_chinese_page_has_the_same_commands() -> None:
    """Blocks, and what stands between backquotes in the tables."""

    def commands(page: str) -> list[str]:
        rows = [line for line in page.splitlines() if line.startswith("| ") and "`" in line]
        return [
            *(block.code for block in blocks_in(page)),
            *(code for row in rows for code in re.findall("`([^`]+)`", row)),
        ]

    pages = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README_CN.md")]
    assert commands(pages[0]) == commands(pages[1]) != []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize(
    "block", [b for b in README if not b.reason and not b.targets], ids=lambda block: f"line{block.line}"
)
def test_a_block_runs(block: Block, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", block.code]
    ran = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert ran.returncode == 0, (
        f"README.md, line {block.line}:\n{block.code}\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
    )


def test_the_targets_of_make_exist() -> None:
    named = {target for block in README for target in block.targets}
    assert {"quickstart", "test"} <= named, "README.md shows the two commands a newcomer needs"
    ran = subprocess.run(["make", "-n", *sorted(named)], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_blocks_reasons_and_targets_are_told_apart() -> None:
    text = "\n".join(
        ["a", "```bash", "make quickstart  # make tea", "make check test", "```", "b", "<!-- not run: needs NPUs -->"]
        + ["```bash", "msrun x", "```", "```python", "make no", "```", "```bash", "mindgeex doctor", "```", ""]
    )
    first, second, third = blocks_in(text)
    assert (first.line, first.targets, first.reason) == (3, ["quickstart", "check", "test"], None)
    assert (second.code, second.targets, second.reason) == ("msrun x\n", [], "needs NPUs")
    assert (third.code, third.targets, third.reason) == ("mindgeex doctor\n", [], None)
