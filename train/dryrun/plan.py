"""A plan: a recipe's step compiled in a child process, and memory, communication and time read from it.

Plans are cached by the recipe, MindSpore's version and our own source, because compiling takes a minute.
"""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mindgeex.common.config import as_tree
from mindgeex.common.errors import UserError
from mindgeex.model_zoo.config import ModelConfig, load_model_config
from mindgeex.train.batch import BatchPlan, plan_batch
from mindgeex.train.config import RunConfig
from mindgeex.train.dryrun import estimate
from mindgeex.train.dryrun.graph import find_graph, read_graph
from mindgeex.train.dryrun.standins import cluster_environment
from mindgeex.train.pipeline import check_micro_batches, check_pieces

ROOMS = Path(__file__).parents[2]
SOURCES = ("model_zoo/*.py", "train/*.py", "train/dryrun/*.py")


@dataclass(frozen=True)
class Plan:
    """What one NPU of a cluster would hold, say and compute."""

    config: RunConfig
    model: ModelConfig
    rank: int
    cann: str
    """What defined CANN's functions: a folder, or stand-ins."""
    facts: dict[str, Any]
    """Layouts, collectives, products, seconds and bytes of the compilation."""

    @property
    def batch(self) -> BatchPlan:
        """A step cut up."""
        return plan_batch(self.config.batch, self.model.seq_length, self.config.parallel.dp)

    @property
    def rows(self) -> int:
        """Of an mp group in one micro batch."""
        return self.batch.micro_rows

    @property
    def stage(self) -> int:
        """Of the pipeline."""
        return self.rank // self.config.parallel.stage_npus

    @property
    def layouts(self) -> list[estimate.Layout]:
        """Of the weights."""
        return [estimate.Layout.from_tree(item) for item in self.facts["weights"]]

    @property
    def memory(self) -> list[estimate.Line]:
        """Bytes by what they are for."""
        config, micro_batches = self.config, self.batch.accumulate
        return estimate.memory(
            self.model, config.compute, config.parallel, self.rows, self.layouts, self.stage, micro_batches
        )

    @property
    def traffic(self) -> list[estimate.Traffic]:
        """Collectives of a step."""
        items = [
            estimate.Collective(i["kind"], i["purpose"], tuple(i["ranks"]), i["dtype"], tuple(i["shape"]), i["count"])
            for i in self.facts["collectives"]
        ]
        return estimate.traffic(items, self.config.parallel, self.rank)

    @property
    def times(self) -> estimate.Times:
        """The roofline."""
        products = [
            estimate.Product(i["kind"], tuple(map(tuple, i["shapes"])), i["transposes"], i["count"])
            for i in self.facts["products"]
        ]
        return estimate.times(
            self.model, self.config.compute, self.config.parallel, self.rows, products, self.traffic,
            self.batch.accumulate, self.stage,
        )  # fmt: skip


def make_plan(config: RunConfig, rank: int = 0, save_graphs: Path | None = None, cache: Path | None = None) -> Plan:
    """Compiles the step of one NPU, or takes what was compiled before.

    Args:
        config: the resolved recipe.
        rank: which NPU.
        save_graphs: keep MindSpore's graph here; compiles even if the plan is known.
        cache: folder of earlier plans.

    Raises:
        UserError: settings that do not fit together, or that MindSpore refuses.
    """
    from mindgeex.model_zoo.sharding import check_divisible, check_shard

    if config.model is None:
        raise UserError("a plan needs model: name a model, such as codegeex_13b")
    parallel, model = config.parallel, load_model_config(config.model)
    if not 0 <= rank < parallel.npus:
        raise UserError(f"rank {rank} is not one of {parallel.npus} NPUs: choose 0 to {parallel.npus - 1}")
    check_divisible(model, parallel.mp)
    check_pieces(model, parallel)
    check_shard(model, parallel.mp, parallel.dp, parallel.optimizer_shard)
    batch = plan_batch(config.batch, model.seq_length, parallel.dp)
    check_micro_batches(parallel, batch.accumulate)
    # A graph of as few micro batches as show all that is said; the rest of the step repeats them.
    count = parallel.pp
    tokens = batch.micro_rows * count * parallel.dp * model.seq_length
    one = dataclasses.replace(config.batch, tokens_per_step=tokens, micro_rows=batch.micro_rows, accumulate=count)
    compiled = dataclasses.replace(config, batch=one)
    cache = cache or Path.home() / ".cache" / "mindgeex" / "plans"
    known = cache / f"{plan_key(compiled, model, rank)}.json"
    if save_graphs is None and known.is_file():
        facts = json.loads(known.read_text(encoding="utf-8"))
    else:
        facts = compile_facts(compiled, model, rank, save_graphs, cache)
        partial = known.with_suffix(f".{os.getpid()}.partial")
        text = json.dumps(facts)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, known)
        facts = json.loads(text)  # the same lists as from the cache
    return Plan(config, model, rank, facts["cann"], facts)


def plan_key(config: RunConfig, model: ModelConfig, rank: int) -> str:
    """Of what decides about the compiled graph."""
    asked = {name: as_tree(getattr(config, name)) for name in ("compute", "optimizer", "batch", "parallel")}
    digest = hashlib.sha256(json.dumps([asked, as_tree(model), rank, version("mindspore")], sort_keys=True).encode())
    for pattern in SOURCES:
        for path in sorted(ROOMS.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:20]


def compile_facts(
    config: RunConfig, model: ModelConfig, rank: int, save_graphs: Path | None, cache: Path
) -> dict[str, Any]:
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
        request, out, log = folder / "request.json", folder / "facts.json", cache / "last.log"
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
        raw = json.loads(out.read_text(encoding="utf-8"))
        collectives, products = read_graph(find_graph(graphs).read_text(encoding="utf-8"))
    micro_batches = config.batch.accumulate or 1
    weights = [dataclasses.asdict(layout) for layout in estimate.read_layouts(raw.pop("layouts"))]
    return {
        **raw,
        "cann": cann,
        "total_s": time.perf_counter() - started,
        "weights": weights,
        "collectives": [dataclasses.asdict(item) for item in of_one_micro_batch(collectives, micro_batches)],
        "products": [dataclasses.asdict(item) for item in of_one_micro_batch(products, micro_batches)],
    }


def of_one_micro_batch(items: list[Any], micro_batches: int) -> list[Any]:
    """Equal ones counted; of what every micro batch says or computes, one's share."""
    counts: dict[Any, int] = {}
    for item in items:
        one = dataclasses.replace(item, count=1)
        counts[one] = counts.get(one, 0) + item.count
    each = ("forward", "backward", "pipeline")
    return [
        dataclasses.replace(item, count=count // micro_batches if getattr(item, "purpose", each[0]) in each else count)
        for item, count in counts.items()
    ]


def last_error(log: Path, code: int) -> str:
    """One line of what went wrong."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.partition(":")[0].endswith(("Error", "Exception")) and ": " in line]
    return errors[-1][:300] if errors else f"exit code {code}"
