"""GNU's compiler drivers and linkers: which is quickest, and what gcc, g++ and cc only pass on.

A driver starts the programs that do the work, and takes milliseconds for finding out how. Its findings hold for every
program, so it is asked once.
Does not cover: clang, which is not understood.
"""

import shutil
import subprocess

from mindgeex.common.errors import UserError


def linker() -> tuple[str, ...]:
    """The quicker of GNU's two linkers, with options for many large libraries of which little is needed."""
    if gold := shutil.which("ld.gold"):
        return gold, "--no-map-whole-files"
    return (shutil.which("ld") or "ld",)


def called(*command: str) -> str:
    """The one command that a driver calls when it is called so, to be used in a shell.

    Raises:
        UserError: this is not GNU's driver.
    """
    done = subprocess.run([*command, "-###"], capture_output=True, text=True, check=False)
    commands = [line.strip() for line in done.stderr.splitlines() if line.startswith(" ")]
    if done.returncode or len(commands) != 1:
        raise UserError(f"{' '.join(command)} is not understood on this machine: {done.stderr.strip()}")
    return commands[0]
