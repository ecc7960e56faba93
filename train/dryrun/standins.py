"""Stand-ins for CANN's libraries, so that MindSpore's Ascend plugin loads where there is no NPU and no CANN.

The wheel ships the plugin, which only lacks what CANN would define. For every symbol that it leaves undefined, and
every name that it looks up while it runs, one generated C file defines a function that returns 0. Names are read from
the plugin's own symbol tables; nothing of CANN is copied. That suffices to compile a graph, and for nothing else.

Covers: x86-64 and aarch64 Linux with a C compiler. Does not cover: running anything on a stand-in.
"""

import os
import platform
import re
import shutil
import struct
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.common.prepared import build, prepared

MACHINES = {"x86_64": 62, "aarch64": 183}
LIBRARIES = (
    "ge_runner", "graph", "msprofiler", "hccl", "runtime", "platform", "c_sec", "nnopbase", "acl_op_compiler",
    "acl_tdt_channel", "acl_tdt_queue", "ascend_hal", "opapi", "ascend_ml",
)  # fmt: skip
"""What the plugin needs or opens by name, beside libascendcl, which holds all functions."""
LOOKED_UP = re.compile(rb"\x00((?:acl|rt|hal|Hccl|Hcom|shmem_|Tft|prof|Msprof|mstx)\w+)(?=\x00)")
ELSEWHERE = re.compile(r"__|_?Py|_ITM_|_ZTH|_ZNK?9mindspore")
"""Defined by Python, the C compiler or MindSpore itself."""
SYSTEM = re.compile(r"(lib(c|m|stdc\+\+|gcc_s|gomp|pthread|dl|rt)|ld-linux[\w-]*)\.so")
SYMBOL = np.dtype({"names": ["name", "section"], "formats": ["<u4", "<u2"], "offsets": [0, 6], "itemsize": 24})
DYNAMIC_SYMBOLS = 11


def symbols(path: Path) -> tuple[set[str], set[str]]:
    """Names that a shared library of this machine leaves undefined, and names that it defines.

    Both are empty for a file of another machine, or none of the format (ELF, 64 bits, little-endian).
    """
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", data, 18)[0] != MACHINES[platform.machine()]:
        return set(), set()
    (start,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, start + index * size) for index in range(count)]
    undefined: set[str] = set()
    defined: set[str] = set()
    for section in sections:
        if section[1] != DYNAMIC_SYMBOLS:
            continue
        strings = data[sections[section[6]][4] :][: sections[section[6]][5]]
        table = np.frombuffer(data, SYMBOL, section[5] // SYMBOL.itemsize, section[4])
        for name, where in zip(table["name"].tolist(), table["section"].tolist(), strict=True):
            (defined if where else undefined).add(strings[name : strings.index(b"\0", name)].decode())
    return undefined - {""}, defined


def missing_names(libraries: Path) -> list[str]:
    """What nobody defines for the Ascend plugin below `libraries` (mindspore/lib)."""
    plugin = [libraries / "plugin" / name for name in ("libmindspore_ascend.so.2", "libmindspore_ops_ascend.so")]
    if not all(path.is_file() for path in plugin):
        raise UserError(f"{libraries}: this MindSpore has no Ascend plugin: install the wheel for Linux")
    plugin += sorted(p for p in (libraries / "plugin" / "ascend").rglob("*.so") if "dvpp" not in p.name)
    undefined: set[str] = set()
    defined: set[str] = set()
    looked_up: set[str] = set()
    for path in plugin:
        wanted, given = symbols(path)
        undefined |= wanted
        defined |= given
        if wanted:
            looked_up |= {name.decode() for name in LOOKED_UP.findall(path.read_bytes())}
    for path in (*libraries.glob("*.so*"), *system_libraries()):
        defined |= symbols(path)[1]
    return sorted({name for name in (undefined | looked_up) - defined if not ELSEWHERE.match(name)})


def system_libraries() -> list[Path]:
    """The libraries of C, C++ and OpenMP that this process has loaded, or could."""
    listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, env={"PATH": "/sbin:/usr/sbin"})
    paths = {Path(line.rpartition("=> ")[2].strip()) for line in listed.stdout.splitlines() if "=> " in line}
    return sorted(path for path in paths if SYSTEM.match(path.name) and path.is_file())


def cann_libraries(environment: Mapping[str, str]) -> Path | None:
    """The folder of a real libascendcl.so, if CANN is set up."""
    homes = [environment[name] for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH") if environment.get(name)]
    folders = [Path(home) / "lib64" for home in homes]
    folders += [Path(part) for part in environment.get("LD_LIBRARY_PATH", "").split(":") if part]
    return next((folder for folder in folders if (folder / "libascendcl.so").is_file()), None)


def build_standins() -> Path:
    """Compiles them into the user's cache, the first time for a MindSpore.

    Returns:
        The folder with `latest/lib64/` and `python/`.

    Raises:
        UserError: no C compiler, no Ascend plugin, or another kind of machine.
    """
    spec = find_spec("mindspore")
    if spec is None or spec.origin is None:
        raise UserError("mindspore is not installed")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise UserError("a simulated cluster needs a C compiler: install gcc")
    if platform.machine() not in MACHINES:
        raise UserError(f"a simulated cluster needs x86_64 or aarch64, not {platform.machine()}")
    libraries = Path(spec.origin).parent / "lib"
    stat = (libraries / "plugin" / "libmindspore_ascend.so.2").stat()
    made_from = [libraries, stat.st_size, stat.st_mtime_ns, *LIBRARIES]
    return prepared("standins", made_from, lambda folder: compile_standins(compiler, missing_names(libraries), folder))


def compile_standins(compiler: str, names: list[str], folder: Path) -> None:
    """One library with all functions, and one without any for every other name, which leads to it."""
    target = folder / "latest" / "lib64"  # MindSpore looks for these two in the path of aclrtMalloc
    target.mkdir(parents=True)
    source = folder / "standins.c"
    source.write_text("\n".join(f"long {name}() {{ return 0; }}" for name in names), encoding="utf-8")

    def link(name: str, *words: str) -> None:
        command = [compiler, "-w", "-shared", "-fPIC", "-fno-builtin", f"-Wl,-soname,lib{name}.so", *words]
        build([*command, "-o", str(target / f"lib{name}.so")], folder)

    link("ascendcl", str(source))
    for name in LIBRARIES:
        link(name, "-x", "c", os.devnull, "-Wl,--no-as-needed", "-L", str(target), "-lascendcl", "-Wl,-rpath,$ORIGIN")
    package = folder / "python" / "hccl"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "sys_version.py").write_text('__sys_version__ = "stand-in"\n', encoding="utf-8")


def cluster_environment(environment: Mapping[str, str], rank: int, npus: int) -> tuple[dict[str, str], str]:
    """What has to be in a process's environment before it starts.

    Args:
        environment: of this process.
        rank: which NPU the process is to compile for.
        npus: of the cluster.

    Returns:
        The environment, and what defines CANN's functions: its folder, or "stand-ins".
    """
    result = dict(environment)

    def prepend(name: str, value: object) -> None:
        result[name] = f"{value}:{result[name]}" if result.get(name) else str(value)

    real = cann_libraries(environment)
    if real is None:
        folder = build_standins()
        prepend("LD_LIBRARY_PATH", folder / "latest" / "lib64")
        prepend("LD_PRELOAD", folder / "latest" / "lib64" / "libascendcl.so")
        prepend("PYTHONPATH", folder / "python")
    result |= {"MS_SIMULATION_LEVEL": "0", "RANK_SIZE": str(npus), "RANK_ID": str(rank), "GLOG_v": "3"}
    result["MS_DEV_DUMP_IR_PASSES"] = "validate"
    return result, str(real) if real else "stand-ins"
