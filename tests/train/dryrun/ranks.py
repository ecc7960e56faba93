"""A step compiled for many ranks of simulated clusters by one process, which imports MindSpore once and forks.

python -m tests.train.dryrun.ranks REQUESTS.json: writes what each request names as `out`, and its graph to `graphs`.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindgeex.common.config import as_tree, build_config
from mindgeex.train.config import RunConfig
from mindgeex.train.dryrun.child import compile_step
from mindgeex.train.dryrun.graph import find_graph
from mindgeex.train.dryrun.standins import cluster_environment
from tests.train.dryrun.graph_text import Program, read_program

AT_ONCE = 2
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Compiled:
    """A rank's graph, and MindSpore's layout of every parameter: mesh, tensor map, slice, ..., as it gives them."""

    program: Program
    layouts: dict[str, list[Any]]


def compile_ranks(folder: Path, wanted: Mapping[str, tuple[RunConfig, int]]) -> dict[str, Compiled]:
    """Compiles a recipe for a rank, for each of some names, and reads what became of it."""
    print_ranks(folder, wanted)
    return {
        name: Compiled(
            read_program(find_graph(folder / name).read_text(encoding="utf-8")),
            json.loads((folder / f"{name}.json").read_text())["layouts"],
        )
        for name in wanted
    }


def print_ranks(folder: Path, wanted: Mapping[str, tuple[RunConfig, int]]) -> None:
    """Leaves the graphs in folders of these names."""
    requests = [
        {
            "config": as_tree(config),
            "rank": rank,
            "npus": config.parallel.npus,
            "graphs": str(folder / name),
            "out": str(folder / f"{name}.json"),
        }
        for name, (config, rank) in wanted.items()
    ]
    path = folder / "requests.json"
    path.write_text(json.dumps(requests))
    environment, _ = cluster_environment(os.environ, 0, 1)
    environment["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
    log = folder / "log.txt"
    with log.open("w") as stream:
        command = [sys.executable, "-m", "tests.train.dryrun.ranks", str(path)]
        done = subprocess.run(command, env=environment, cwd=ROOT, stdout=stream, stderr=stream, check=False)
    assert done.returncode == 0, log.read_text()[-2000:]


def compile_one(request: dict[str, Any]) -> None:
    """In a process of its own that has not touched a device yet."""
    os.environ |= {"RANK_SIZE": str(request["npus"]), "RANK_ID": str(request["rank"])}
    facts = compile_step(build_config(RunConfig, request["config"], "request"), Path(request["graphs"]))
    Path(request["out"]).write_text(json.dumps(facts))


def main(path: Path) -> int:
    """Forks for every request; how many failed."""
    import mindspore  # noqa: F401  what takes seconds is done once

    import mindgeex.model_zoo.families
    import mindgeex.train.parallel  # noqa: F401

    failed, running = 0, 0
    for request in json.loads(path.read_text()):
        if running == AT_ONCE:
            failed, running = failed + (os.wait()[1] != 0), running - 1
        if os.fork() == 0:
            try:
                compile_one(request)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        running += 1
    return failed + sum(os.wait()[1] != 0 for _ in range(running))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
