"""Things that make toolchains quick (compiled libraries, headers, services), made once a machine and kept.

They lie in the user's cache, `~/.cache/mindgeex`, under a name that changes with whatever they are made from, and
appear there whole or not at all: whoever comes first makes them, others find them.
Does not cover: removing those of compilers that are gone (delete the folder: everything in it is made again).
"""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.common.files import PARTIAL, disk_errors


def prepared(name: str, made_from: Sequence[object], make: Callable[[Path], None]) -> Path:
    """The folder of a thing, made now if it is not there yet.

    Args:
        name: what it is.
        made_from: all that it depends on: versions, flags, sources.
        make: fills an empty folder; UserError if it cannot.
    """
    digest = hashlib.sha256("\n".join(map(str, made_from)).encode()).hexdigest()[:16]
    folder = Path.home() / ".cache" / "mindgeex" / f"{name}-{digest}"
    if folder.is_dir():
        return folder
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, suffix=PARTIAL) as scratch:
            made = Path(scratch) / folder.name
            made.mkdir(mode=0o755)
            make(made)
            try:
                os.replace(made, folder)
            except OSError:  # another process was first
                if not folder.is_dir():
                    raise
    return folder


def build(command: Sequence[str], folder: Path) -> None:
    """Runs a compiler of this machine on sources of ours.

    Raises:
        UserError: it fails.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines() or ["no message"]
        raise UserError(f"'{command[0]}' does not work on this machine: {said[0]}")
