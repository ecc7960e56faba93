"""What MindSpore made of a step: the child run for one model, read and cached.

Cached by the recipe, the model's sizes, MindSpore's version and our own source.
"""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mindgeex.common.config import as_tree
from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import ModelConfig
from mindgeex.train.config import RunConfig
from mindgeex.train.dryrun.graph import Collective, Product, find_graph, read_graph
from mindgeex.train.dryrun.memory import Layout, read_layouts
from mindgeex.train.dryrun.standins import cluster_environment
from mindgeex.train.parallel_config import ParallelConfig

ROOMS = Path(__file__).parents[2]
SOURCES = ("model_zoo/*.py", "train/*.py", "train/dryrun/*.py")


@dataclass(frozen=True)
class Compiled:
    """Weights in the order of the model, collectives and products in that of the graph, one by one."""

    weights: list[Layout]
    collectives: list[Collective]
    products: list[Product]
    cann: str
    """What defined CANN's functions: a folder, or stand-ins."""
    build_s: float
    """Until MindSpore begins to compile."""
    compile_s: float
    total_s: float
    """With the process's start and the graph's reading."""
    peak_bytes: int

    def as_tree(self) -> dict[str, Any]:
        """For JSON: items that are equal once, and their order."""
        lists = {name: _indexed(getattr(self, name)) for name in ("weights", "collectives", "products")}
        numbers = {name: getattr(self, name) for name in ("cann", "build_s", "compile_s", "total_s", "peak_bytes")}
        return lists | numbers

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> "Compiled":
        """From what `as_tree` gave, through JSON."""
        kinds: dict[str, type] = {"weights": Layout, "collectives": Collective, "products": Product}
        lists = {}
        for name, kind in kinds.items():
            items = [kind(**{key: _tuples(value) for key, value in item.items()}) for item in tree[name]["items"]]
            lists[name] = [items[at] for at in tree[name]["order"]]
        return cls(**tree | lists)


def _indexed(items: Sequence[Any]) -> dict[str, Any]:
    places: dict[Any, int] = {}
    order = [places.setdefault(item, len(places)) for item in items]
    return {"items": [dataclasses.asdict(item) for item in places], "order": order}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def known_or_compiled(
    config: RunConfig, model: ModelConfig, rank: int, cache: Path, save_graphs: Path | None = None
) -> Compiled:
    """Compiles the step, or takes what was compiled before.

    Args:
        config: the recipe, of one micro batch a stage.
        model: its sizes, or shallower.
        rank: which NPU.
        cache: folder of earlier ones.
        save_graphs: keep MindSpore's graph here; compiles even if the result is known.

    Raises:
        UserError: MindSpore refuses.
    """
    known = cache / f"{key(config, model, rank)}.json"
    if save_graphs is None and known.is_file():
        return Compiled.from_tree(json.loads(known.read_text(encoding="utf-8")))
    made = compile_step(config, model, rank, save_graphs, cache)
    partial = known.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(made.as_tree()), encoding="utf-8")
    os.replace(partial, known)
    return made


def key(config: RunConfig, model: ModelConfig, rank: int) -> str:
    """Of what decides about the compiled graph."""
    asked = {name: as_tree(getattr(config, name)) for name in ("compute", "optimizer", "batch", "parallel")}
    digest = hashlib.sha256(json.dumps([asked, as_tree(model), rank, version("mindspore")], sort_keys=True).encode())
    for pattern in SOURCES:
        for path in sorted(ROOMS.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:20]


def compile_step(config: RunConfig, model: ModelConfig, rank: int, save_graphs: Path | None, cache: Path) -> Compiled:
    """Runs the child and reads what it left.

    Raises:
        UserError: the child failed; its last error and its log are named.
    """
    cache.mkdir(parents=True, exist_ok=True)
    environment, cann = cluster_environment(os.environ, rank, config.parallel.npus)
    environment["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        folder = Path(scratch)
        graphs = save_graphs.absolute() if save_graphs else folder / "graphs"
        request, out = folder / "request.json", folder / "facts.json"
        log = cache / f"last-{model.num_layers}-layers.log"
        sizes = folder / "model.yaml"
        sizes.write_text(json.dumps(as_tree(model)), encoding="utf-8")  # JSON is YAML
        tree = as_tree(config) | {"model": str(sizes)}
        request.write_text(json.dumps({"config": tree, "graphs": str(graphs), "out": str(out)}), encoding="utf-8")
        started = time.perf_counter()
        command = [sys.executable, "-m", "mindgeex.train.dryrun.child", str(request)]
        with log.open("w", encoding="utf-8") as stream:
            code = subprocess.run(
                command, env=environment, cwd=folder, stdout=stream, stderr=subprocess.STDOUT, check=False
            ).returncode
        if code or not out.is_file():
            raise UserError(f"MindSpore could not compile this step: {last_error(log, code)} ({log})")
        made = read_step(out, graphs / f"rank_{rank}", config.parallel, cann)
    return dataclasses.replace(made, total_s=time.perf_counter() - started)


def read_step(facts: Path, graphs: Path, parallel: ParallelConfig, cann: str) -> Compiled:
    """What a child left."""
    raw = json.loads(facts.read_text(encoding="utf-8"))
    sharing = parallel.mp if parallel.sequence_parallel else 1
    collectives, products = read_graph(find_graph(graphs).read_text(encoding="utf-8"), sharing)
    return Compiled(read_layouts(raw.pop("layouts")), collectives, products, cann, total_s=0.0, **raw)


def last_error(log: Path, code: int) -> str:
    """One line of what went wrong."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.partition(":")[0].endswith(("Error", "Exception")) and ": " in line]
    return errors[-1][:300] if errors else f"exit code {code}"
