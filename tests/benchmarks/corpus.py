"""How fast a corpus is built, by step and core, and how much memory that takes as the input grows.

    python -m tests.benchmarks.corpus [SOURCE ...] [MEGABYTES ...]

SOURCE is what `mindgeex data build --source` takes (by default this Python's library, packages and headers), MEGABYTES
are the sizes to sample from it, smallest first (by default 25 and 100). Each size is built with one worker in
processes of their own; every 0.1 s the resident memory of the driver and of its worker is looked at.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mindgeex.data.sources.local import default_sources


def main() -> None:
    """Prints a line a size, and the ratio of the peaks."""
    sources = [word for word in sys.argv[1:] if ":" in word] or list(default_sources())
    sizes = [int(word) for word in sys.argv[1:] if word.isdigit()] or [25, 100]
    peaks = [measure(sources, megabytes) for megabytes in sizes]
    print(f"peak memory at {sizes[-1]} MB beside {sizes[0]} MB: {peaks[-1] / peaks[0]:.2f}")


def measure(sources: list[str], megabytes: int) -> float:
    """Builds a sample and prints its rates.

    Returns:
        Peak resident memory of driver and worker together, in MB.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "corpus"
        command = [sys.executable, "-m", "mindgeex.cli.main", "data", "build", "small", "--out", str(out)]
        command += ["--workers", "1", "--set", f"max_bytes={megabytes * 1_000_000}"]
        for source in sources:
            command += ["--source", source]
        log, errors = Path(scratch) / "log", Path(scratch) / "errors"
        started = time.monotonic()
        with log.open("w") as printed, errors.open("w") as told:
            process = subprocess.Popen(command, stdout=printed, stderr=told)
            driver = worker = together = 0.0
            while process.poll() is None:
                here, there = resident(process.pid), sum(map(resident, children(process.pid)))
                driver, worker, together = max(driver, here), max(worker, there), max(together, here + there)
                time.sleep(0.1)
        seconds = time.monotonic() - started
        if process.returncode:
            raise SystemExit(errors.read_text())
        manifest = json.loads((out / "manifest.json").read_text())
        print(log.read_text())
    kept = sum(split["bytes"] for split in manifest["splits"].values()) / 1e6
    rate = megabytes / seconds
    print(
        f"sample of {megabytes} MB, {kept:.1f} MB kept: {seconds:.1f} s, {rate:.2f} MB/s with one worker\n"
        f"peak memory: driver {driver:.0f} MB, worker {worker:.0f} MB, together {together:.0f} MB\n"
    )
    return together


def children(pid: int) -> list[int]:
    """Processes started by a process, and by those."""
    try:
        found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return found + [below for child in found for below in children(child)]


def resident(pid: int) -> float:
    """Resident memory of a process in MB."""
    try:
        match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(match[1]) / 1000 if match else 0.0


if __name__ == "__main__":
    main()
