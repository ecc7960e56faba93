"""`mindgeex doctor`: a table of what is here and what is missing for which ability."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mindgeex.common.doctor import Finding


def doctor() -> int:
    """Says what is here, what is missing for which ability, and how to get it.

    The exit code is 1 if the main job (build data, train, evaluate in Python) cannot run here, else 0.
    """
    from mindgeex.common.doctor import Tool, examine
    from mindgeex.common.errors import UserError
    from mindgeex.data.ray_engine import ray_version
    from mindgeex.eval.doctor import tools
    from mindgeex.eval.languages import LANGUAGES
    from mindgeex.model_zoo.shared_library import CannotCompile, find_compiler

    def compiler_version() -> str:
        try:
            return find_compiler()[1].splitlines()[0]
        except CannotCompile:
            raise UserError("not found, so decoding is several times slower: apt-get install g++") from None

    cluster = Tool("build data, evaluate on a cluster", "ray", ray_version)
    wanted = [cluster, Tool("decode fast on a CPU", "g++", compiler_version), *tools(LANGUAGES, ["python"])]
    findings = examine(Path.cwd(), os.environ, wanted)
    show(findings)
    if broken := missing(findings):
        print(f"The main job cannot run here; first fix: {', '.join(broken)}")
        return 1
    silent = [finding.what for finding in findings if finding.required and finding.ok is None]
    unless = f", unless {', '.join(silent)} is broken, which did not answer in time" if silent else ""
    print(f"The main job (build data, train, evaluate in Python) can run here{unless}.")
    return 0


def missing(findings: "Sequence[Finding]") -> list[str]:
    """What is required and not there."""
    return [finding.what for finding in findings if finding.required and finding.ok is False]


def show(findings: "Sequence[Finding]") -> None:
    """Prints the table."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    table = Table("for", "", "what", "found", "fix", box=box.SIMPLE_HEAD)
    previous = ""
    for finding in findings:
        trouble = "[red]missing[/]" if finding.required else "[yellow]no[/]"
        mark = {True: "[green]ok[/]", False: trouble, None: "?"}[finding.ok]
        ability = "" if finding.ability == previous else finding.ability
        table.add_row(ability, mark, finding.what, escape(finding.found), escape(finding.fix))
        previous = finding.ability
    console.print(table)
