"""Python: the interpreter that runs the harness, numpy included, in a fresh process.

The program is executed as a module named `program` (a block below `if __name__ == "__main__":` is skipped, as in the
published harness). The script that holds the secret deletes itself before the program starts. Of site-packages a
program sees numpy only, and nothing there runs when Python starts (-S): that would take longer than most programs.
"""

import importlib.util
import os
import platform
import sys
from pathlib import Path

from mindgeex.eval.languages.language import Language, Proof, Toolchain, place

DRIVER = """
import _sitebuiltins, builtins, os, sys, types
os.unlink(__file__)
builtins.exit, builtins.quit = (_sitebuiltins.Quitter(name, "Ctrl-D (i.e. EOF)") for name in ("exit", "quit"))
module = sys.modules["program"] = types.ModuleType("program")
with open("program.py", encoding="utf-8") as file:
    exec(compile(file.read(), "program.py", "exec"), module.__dict__)
os.write({descriptor}, b"{secret}")
"""


def locate() -> Toolchain:
    """This interpreter, and numpy if it is installed."""
    executable = os.path.realpath(sys.executable)
    inside, folders = place(executable, "/opt/python")
    numpy = importlib.util.find_spec("numpy")
    if numpy is not None and numpy.origin:
        site = Path(numpy.origin).parents[1]
        folders |= {str(site / name): f"/opt/site/{name}" for name in ("numpy", "numpy.libs") if (site / name).is_dir()}
    return Toolchain(
        version=f"Python {platform.python_version()}",
        run=(inside, "-S", "-s", "-B", "driver.py"),
        folders=folders,
        environment={"PYTHONPATH": "/opt/site", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
    )


def prove(solution: str, tests: str, proof: Proof) -> dict[str, str]:
    """The program, and the driver that executes it and then writes the secret."""
    return {"program.py": f"{solution}\n{tests}\n", "driver.py": DRIVER.format(**vars(proof))}


LANGUAGE = Language(key="python", title="Python", tools=(), locate=locate, prove=prove, failed_test="AssertionError")
