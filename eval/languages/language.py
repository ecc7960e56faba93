"""What the harness knows of a programming language: its tools, and how a program of it is proven, compiled and run."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.eval.execution.job import MIB, Limits

COMPILE_LIMITS = Limits(cpu_s=30, wall_s=125.0, memory_bytes=2048 * MIB)
"""For compilers, which run in the sandbox too: a small program may ask them for endless work."""


@dataclass(frozen=True)
class Proof:
    """What a program must do to show that it reached the end of its tests: write the secret to the descriptor."""

    descriptor: int
    secret: str


@dataclass(frozen=True)
class Toolchain:
    """A language's tools as found on this machine."""

    version: str
    run: tuple[str, ...]
    """The command, in a folder that holds the sources and, if something was compiled, the file `program`."""
    compile: str | None = None
    """Shell script that turns the sources into the file `program`; None where nothing is compiled so."""
    service: tuple[str, ...] | None = None
    """In place of `compile`: a compiler that stays (execution/service.py), for languages with one source file. Its last
    argument will be the descriptor it writes to."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """Folder or file of the host -> where the sandbox shows it."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Further files that compiling and running need."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Library:
    """Something beyond the language's own library that some problems use."""

    name: str
    used: str
    """Pattern of the code that needs it."""
    remedy: str
    """The command that installs it."""
    found: Callable[[], bool]
    """Whether it is installed."""


@dataclass(frozen=True)
class Language:
    """One language of a benchmark."""

    key: str
    title: str
    tools: tuple[tuple[str, str], ...]
    """Command and the Debian package it comes with."""
    locate: Callable[[], Toolchain]
    """Finds the tools, raising UserError; ask once a run."""
    prove: Callable[[str, str, Proof], dict[str, str]]
    """Solution, tests, proof -> source files (name -> text) that write the secret after the last test."""
    failed_test: str
    """What a program prints when a test found a wrong answer (and not an error of another kind)."""

    libraries: tuple[Library, ...] = ()

    def missing(self, code: str | None = None) -> str | None:
        """What is not installed of the libraries that some code needs (all, where None), and how to get it."""
        missing = [
            library
            for library in self.libraries
            if (code is None or re.search(library.used, code)) and not library.found()
        ]
        if not missing:
            return None
        remedies = dict.fromkeys(library.remedy for library in missing)
        return f"toolchain missing: {', '.join(library.name for library in missing)}: {'; '.join(remedies)}"

    def toolchain(self) -> Toolchain:
        """Finds the tools.

        Raises:
            UserError: a tool is missing, with the package that brings it.
        """
        for command, package in self.tools:
            if shutil.which(command) is None:
                raise UserError(f"{self.title} needs '{command}', which is not installed: apt-get install {package}")
        return self.locate()


def place(command: str, folder: str) -> tuple[str, dict[str, str]]:
    """Where the sandbox shows a command of the host.

    Args:
        command: name or path of a program whose own files lie beside it (`PREFIX/bin/command`, `PREFIX/lib`...).
        folder: where to show PREFIX if it is not part of the system.

    Returns:
        Path of the command inside, and the folders to show.

    Raises:
        UserError: the program's folder is a home folder, which no sample may read.
    """
    path = Path(os.path.realpath(shutil.which(command) or command))
    if path.is_relative_to("/usr"):
        return str(path), {}
    prefix = path.parents[1]
    if Path.home().is_relative_to(prefix):
        raise UserError(f"{path} lies directly in a home folder, which samples must not see: install it elsewhere")
    return f"{folder}/{path.relative_to(prefix)}", {str(prefix): folder}


def ask(*command: str) -> str:
    """What a trusted tool of this machine prints, such as its version.

    Raises:
        UserError: it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise UserError(f"'{' '.join(command)}' does not work on this machine: {done.stderr.strip()}")
    return done.stdout.strip() or done.stderr.strip()
