"""Compiles C++ files for this machine's processor, once, into the user's cache (common/prepared.py).

A library is named after its sources, the compiler, its options and the processor, so a changed one is never mistaken
for another.
Covers: g++ on Linux. Does not cover: other compilers; without one, models run by MindSpore's own operators alone.
"""

import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.common.prepared import build, prepared


class CannotCompile(Exception):
    """Why there is no library: the machine lacks something, which is no mistake of its user's."""


def shared_library(name: str, sources: Path, options: Sequence[str], folder: Path | None = None) -> Path:
    """All C++ files of a folder as one library.

    Args:
        name: of the library, for people.
        sources: the folder with the .cc files, and the .h files that they include.
        options: of the compiler.
        folder: where to keep it, if not in the user's cache.

    Raises:
        CannotCompile: no g++ here, it fails, or there is nowhere to write.
    """
    compiler, version = find_compiler()
    units = sorted(sources.glob("*.cc"))

    def make(made: Path) -> None:
        build([compiler, *options, *map(str, units), "-o", str(made / f"{name}.so")])

    try:
        texts = [f"{path.name}\n{path.read_text(encoding='utf-8')}" for path in (*sorted(sources.glob("*.h")), *units)]
        made_from = [version, *options, platform.machine(), _processor(), *texts]
        return prepared(name, made_from, make, folder) / f"{name}.so"
    except (UserError, OSError) as error:
        raise CannotCompile(str(error)) from None


def find_compiler() -> tuple[str, str]:
    """Path and version of g++.

    Raises:
        CannotCompile: there is none, or it does not run.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        raise CannotCompile("there is no g++ here (Debian, Ubuntu: apt install g++)")
    try:
        return compiler, build([compiler, "--version"])
    except UserError as error:
        raise CannotCompile(str(error)) from None


def _processor() -> str:
    """What -march=native looks at, as far as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    wanted = ("flags", "Features", "model", "CPU part")
    return "\n".join(sorted({line for line in lines if line.split("\t")[0].strip() in wanted}))
