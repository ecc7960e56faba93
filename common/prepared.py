"""Things compiled on this machine (libraries, headers, services), made once and kept.

They lie in the user's cache, `~/.cache/mindgeex`, each in a folder whose name changes with whatever it is made from,
and appear there whole or not at all: whoever comes first makes them, others find them.
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

TIMEOUT_S = 300


def prepared(name: str, made_from: Sequence[object], make: Callable[[Path], None], cache: Path | None = None) -> Path:
    """The folder of a thing, made now if it is not there yet.

    Args:
        name: what it is.
        made_from: all that it depends on: versions, options, sources.
        make: fills an empty folder; UserError if it cannot, and then nothing of it stays.
        cache: where such folders lie, if not in the user's cache.

    Raises:
        UserError: `make` does, or there is nowhere to write.
    """
    digest = hashlib.sha256("\n".join(map(str, made_from)).encode()).hexdigest()[:16]
    folder = (cache or _user_cache()) / f"{name}-{digest}"
    if folder.is_dir():
        return folder
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A folder of its own: other processes may be making the same at this moment.
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


def build(command: Sequence[str], folder: Path | None = None) -> str:
    """Runs a compiler of this machine on sources of ours, in `folder` -> what it wrote to standard output.

    Raises:
        UserError: it fails, does not start, or takes longer than TIMEOUT_S.
    """
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"'{command[0]}' does not work on this machine: {error}") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
        reason = next((line for line in said if "error" in line), said[0])
        raise UserError(f"'{command[0]}' does not work on this machine: {reason}")
    return done.stdout


def _user_cache() -> Path:
    try:
        return Path.home() / ".cache" / "mindgeex"
    except RuntimeError:
        raise UserError("there is no home folder to keep what is compiled in: set HOME") from None
