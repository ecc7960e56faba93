"""What is on this machine and what is missing for which ability, with the fix. Facts only; `cli/doctor.py` prints them.

Covers: the Python packages (imported in child processes, so that one that crashes is reported), the processor mindspore
was built for, Ascend's driver and CANN, disk and memory, and whatever tools the rooms name.
Does not cover: whether NPUs work (ask npu-smi), libraries that single benchmark problems include, the network.
"""

import importlib.util
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.common.versions import installed_version

CHILD_TIMEOUT_S = 4.5
"""How long a child process may take; all run side by side, so the whole answer takes little longer."""
MIN_FREE_GB = 2.0
"""Disk and memory that the quickstart needs at least, each."""
REINSTALL = "make setup, or pip install -c constraints.txt -e '.[mindformers]'"
ASCEND = Path("/usr/local/Ascend")
"""Where the installers of driver and CANN put them unless told otherwise."""


@dataclass(frozen=True)
class Finding:
    """One row of the table."""

    ability: str
    """What cannot be done without it."""
    what: str
    """The package, command or quantity looked at."""
    ok: bool | None
    """None: it did not answer in time, so nothing is claimed."""
    found: str
    """Version or value found, or why it does not work."""
    fix: str = ""
    """What to do about it; empty if all is well."""
    required: bool = False
    """The main job (build data, train, evaluate in Python) cannot run without it."""


@dataclass(frozen=True)
class Tool:
    """Something outside Python that a room needs; the room itself says how to find out."""

    ability: str
    what: str
    version: Callable[[], str]
    """What is found, or UserError, whose last part is the remedy."""
    required: bool = False

    def look(self) -> Finding:
        """Asks the room."""
        try:
            return Finding(self.ability, self.what, True, self.version(), required=self.required)
        except UserError as error:
            found, _, fix = str(error).rpartition(": ")
            return Finding(self.ability, self.what, False, found or fix, fix if found else "", self.required)


def examine(folder: Path, environment: Mapping[str, str], tools: Sequence[Tool] = ()) -> list[Finding]:
    """Looks at everything, side by side.

    Args:
        folder: where runs will be written; its disk is looked at.
        environment: environment variables, for the child processes and for Ascend's folders.
        tools: what the rooms need beside Python packages.

    Returns:
        Findings in the order of the table.
    """
    looks: list[Callable[[], Finding]] = [
        lambda: _imports(
            "train, generate", "mindspore", ("mindspore",), environment
        ),  # the slowest, so it starts first
        _processor,
        lambda: _imports("tokenizer", "tokenizers, tiktoken", ("tokenizers", "tiktoken", "regex"), environment),
        _xz,
        *(tool.look for tool in tools),
        _npus,
        lambda: _driver(ASCEND),
        lambda: _cann(environment, ASCEND),
        _python,
        _requirements,
        lambda: _space(folder),
        _memory,
    ]
    with ThreadPoolExecutor(max_workers=len(looks)) as threads:
        return [future.result() for future in [threads.submit(look) for look in looks]]


def _python() -> Finding:
    ok = sys.version_info[:2] == (3, 11)
    fix = "" if ok else "use Python 3.11: apt install python3.11 python3.11-venv"
    return Finding("everything", "Python", ok, f"{platform.python_version()}, {platform.machine()}", fix, required=True)


def _space(folder: Path) -> Finding:
    free_gb = shutil.disk_usage(folder).free / 1e9
    fix = "" if free_gb >= MIN_FREE_GB else f"free {MIN_FREE_GB:.0f} GB, or work in another folder"
    return Finding("everything", "free disk", not fix, f"{free_gb:.1f} GB in {folder}", fix, required=True)


def _memory() -> Finding:
    try:
        available_kb = re.search(r"MemAvailable:\s*(\d+)", Path("/proc/meminfo").read_text())
    except OSError:
        available_kb = None
    if available_kb is None:
        return Finding("everything", "free memory", None, "this system has no /proc/meminfo", required=True)
    free_gb = int(available_kb[1]) * 1024 / 1e9
    fix = "" if free_gb >= MIN_FREE_GB else f"end other programs until {MIN_FREE_GB:.0f} GB are free"
    return Finding("everything", "free memory", not fix, f"{free_gb:.1f} GB", fix, required=True)


def _requirements() -> Finding:
    problems = list(unmet_requirements("mindgeex"))
    shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
    found = shown or f"mindgeex {installed_version('mindgeex')} and what it needs"
    return Finding("everything", "packages", not problems, found, REINSTALL if problems else "")


def unmet_requirements(package: str) -> Iterator[str]:
    """What an installed package and everything it needs ask for and is absent or of a version out of range."""
    from packaging.requirements import Requirement

    asked = {package}
    waiting = [package]
    while waiting:
        name = waiting.pop()
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            version = installed_version(requirement.name)
            if version is None:
                yield f"{requirement.name} is missing, for {name}"
            elif not requirement.specifier.contains(version, prereleases=True):
                yield f"{requirement.name} {version} is installed, {name} needs {requirement.specifier}"
            elif requirement.name not in asked:
                asked.add(requirement.name)
                waiting.append(requirement.name)


def _processor() -> Finding:
    """A mindspore wheel for one processor may carry a tag that lets pip install it on any."""
    here = _processor_name(platform.machine())
    spec = importlib.util.find_spec("mindspore")  # finds without importing
    places = (spec.submodule_search_locations or ()) if spec else ()
    libraries = [library for place in places for library in Path(place).glob("_c_expression*")]
    if not libraries:
        return Finding(
            "train, generate", "mindspore's binary", False, "no _c_expression library is installed", REINSTALL, True
        )
    built_for = elf_processor(libraries[0])
    ok = built_for == here
    try:
        tag = re.search(r"^Tag: (.+)$", metadata.distribution("mindspore").read_text("WHEEL") or "", re.MULTILINE)
    except metadata.PackageNotFoundError:  # a folder on PYTHONPATH
        tag = None
    found = f"for {built_for} (wheel tag {tag[1] if tag else 'none'}), this machine is {here}"
    fix = "" if ok else f"install the wheel of mindspore for {here}: pip may have taken another's"
    return Finding("train, generate", "mindspore's binary", ok, found, fix, required=True)


def elf_processor(library: Path) -> str:
    """The processor a shared library was built for, from its ELF header (bytes 18 and 19, e_machine)."""
    with library.open("rb") as file:
        header = file.read(20)
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return "a system other than Linux"
    (machine,) = struct.unpack("<H" if header[5] == 1 else ">H", header[18:20])
    return {0x3E: "x86_64", 0xB7: "aarch64", 0xF3: "riscv64"}.get(machine, f"ELF machine {machine}")


def _processor_name(machine: str) -> str:
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine.lower(), machine.lower())


def _imports(ability: str, what: str, modules: tuple[str, ...], environment: Mapping[str, str]) -> Finding:
    ok, problem = _run_python(f"import {', '.join(modules)}", environment)
    if ok:
        versions = ", ".join(f"{module} {installed_version(module)}" for module in modules)
        return Finding(ability, what, True, versions, required=True)
    fix = REINSTALL if ok is False else "ask again: a first import is slow"
    return Finding(ability, what, ok, problem, fix, required=True)


def _xz() -> Finding:
    try:
        import lzma  # noqa: F401
    except ImportError:
        fix = "install this Python anew with liblzma-dev present, or use the system's"
        return Finding("comparison with xz", "lzma", False, "this Python was built without it", fix)
    return Finding("comparison with xz", "lzma", True, "in this Python")


def _npus() -> Finding:
    npus, smi = len(list(Path("/dev").glob("davinci[0-9]*"))), shutil.which("npu-smi")
    found = f"{npus} NPUs, npu-smi {'found' if smi else 'not found'}"
    return Finding("train on Ascend", "NPUs", bool(npus and smi), found, "" if npus and smi else "not needed on a CPU")


def _driver(ascend: Path) -> Finding:
    return _ascend_version("driver", [ascend / "driver/version.info"], r"(?i)^version\s*=\s*(\S+)")


def _cann(environment: Mapping[str, str], ascend: Path) -> Finding:
    home = Path(environment.get("ASCEND_HOME_PATH") or ascend / "ascend-toolkit/latest")
    files = [*home.glob("ascend_*_install.info"), *home.glob("*-linux/ascend_*_install.info")]
    return _ascend_version("CANN", files, r"^version\s*=\s*(\S+)")


def _ascend_version(what: str, files: list[Path], pattern: str) -> Finding:
    wanted = ascend_versions().get(what, "")
    for file in files:
        try:
            match = re.search(pattern, file.read_text(errors="replace"), re.MULTILINE)
        except FileNotFoundError:
            continue
        except OSError as error:  # the driver's folder may be closed to all but one group
            return Finding("train on Ascend", what, None, f"{file}: {error.strerror}", "ask as a user who may read it")
        if match:
            ok = wanted in ("", match[1])
            return Finding("train on Ascend", what, ok, match[1], "" if ok else f"install {what} {wanted}")
    return Finding("train on Ascend", what, False, "not found", f"with NPUs, install {what} {wanted}".rstrip())


def ascend_versions() -> dict[str, str]:
    """The versions of CANN and driver that the installed mindspore was released for, by MindFormers' own table."""
    from mindgeex.common.files import read_json

    spec = importlib.util.find_spec("mindformers")  # finds without importing
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(place) / "VERSION_MAP.json").is_file():
            table = read_json(file)
            cann = table["ms"].get(installed_version("mindspore"), {}).get("prefer", "")
            return {"CANN": cann, "driver": table["cann"].get(cann, {}).get("prefer", "")}
    return {}


def _run_python(code: str, environment: Mapping[str, str]) -> tuple[bool | None, str]:
    """Whether a child process runs the code to its end (None: not in time), and if not, why."""
    with tempfile.TemporaryDirectory() as folder:  # some packages write where they are imported
        try:
            child = subprocess.run(
                [sys.executable, "-c", code],
                cwd=folder,
                env=dict(environment),
                timeout=CHILD_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired:
            return None, f"no answer within {CHILD_TIMEOUT_S} s"
    if child.returncode == 0:
        return True, ""
    ended = f"ended by signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
    lines = child.stdout.strip().splitlines()
    return False, f"{ended}: {lines[-1].strip()}" if lines else ended
