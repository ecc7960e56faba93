"""`mindgeex doctor`: a table of what is here and what is missing for which ability."""

import os
from pathlib import Path


def doctor() -> int:
    """Says what is here, what is missing for which ability, and how to get it.

    The exit code is 1 if the main job (build data, train, evaluate in Python) cannot run here, else 0.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from mindgeex.common.doctor import examine

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    findings = examine(Path.cwd(), os.environ)
    table = Table("for", "", "what", "found", "fix", box=box.SIMPLE_HEAD)
    previous = ""
    for finding in findings:
        trouble = "[red]missing[/]" if finding.required else "[yellow]no[/]"
        mark = {True: "[green]ok[/]", False: trouble, None: "?"}[finding.ok]
        ability = "" if finding.ability == previous else finding.ability
        table.add_row(ability, mark, finding.what, finding.found, finding.fix)
        previous = finding.ability
    console.print(table)
    broken = [finding.what for finding in findings if finding.required and finding.ok is False]
    if broken:
        console.print(f"The main job cannot run here; first fix: {', '.join(broken)}")
        return 1
    silent = [finding.what for finding in findings if finding.required and finding.ok is None]
    unless = f", unless {', '.join(silent)} is broken, which did not answer in time" if silent else ""
    console.print(f"The main job (build data, train, evaluate in Python) can run here{unless}.")
    return 0
