"""Compiles the C++ files of this folder for this machine's processor, once, into the user's cache folder.

The library's name is a hash of the sources, the compiler, its options and the processor, so a changed one is never
mistaken for another, and processes that compile at the same time publish the same thing.
Covers: g++ on Linux. Does not cover: other compilers; without one, decoding runs as a MindSpore graph.
"""

import hashlib
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from mindgeex.common.files import PARTIAL

SOURCES = Path(__file__).parent
OPTIONS = ("-std=c++17", "-O3", "-march=native", "-fopenmp-simd", "-pthread", "-shared", "-fPIC")
TIMEOUT_S = 300


class CannotCompile(Exception):
    """Why there is no library: the machine lacks something, which is no mistake of its user's."""


@cache
def library_file(folder: Path | None = None) -> Path:
    """The compiled library, in `folder` or in the user's cache; takes seconds the first time.

    Raises:
        CannotCompile: no g++ here, it fails, or there is nowhere to write.
    """
    compiler, version = find_compiler()
    try:
        folder = folder or Path.home() / ".cache" / "mindgeex"
        path = folder / f"decoding-{_fingerprint(version)}.so"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            # A folder of its own: others may be compiling the same at this moment.
            with tempfile.TemporaryDirectory(dir=folder, suffix=PARTIAL) as scratch:
                made = Path(scratch) / path.name
                _output([compiler, *OPTIONS, str(SOURCES / "forward.cc"), "-o", str(made)])
                made.replace(path)
    except (OSError, RuntimeError) as error:
        raise CannotCompile(f"the library cannot be written: {error}") from None
    return path


def find_compiler() -> tuple[str, str]:
    """Path and version of g++.

    Raises:
        CannotCompile: there is none, or it does not run.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        raise CannotCompile("there is no g++ here (Debian, Ubuntu: apt install g++)")
    return compiler, _output([compiler, "--version"])


def _fingerprint(version: str) -> str:
    digest = hashlib.sha256()
    for source in sorted(SOURCES.glob("*.h")) + sorted(SOURCES.glob("*.cc")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    for fact in (version, *OPTIONS, platform.machine(), _processor()):
        digest.update(fact.encode() + b"\0")
    return digest.hexdigest()[:16]


def _processor() -> str:
    """What -march=native looks at, as far as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    wanted = ("flags", "Features", "model", "CPU part")
    return "\n".join(sorted({line for line in lines if line.split("\t")[0].strip() in wanted}))


def _output(command: list[str]) -> str:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotCompile(f"{command[0]} does not run: {error}") from None
    if ran.returncode:
        said = [line for line in ran.stderr.splitlines() if "error" in line] or ran.stderr.splitlines()
        raise CannotCompile(f"{command[0]} fails: {said[0] if said else f'exit code {ran.returncode}'}")
    return ran.stdout
