"""A training step beside PyTorch's: float32, the same sizes, batch, threads and recipe (AdamW, clipping at norm 1).

    python -m tests.benchmarks.training [10m | tiny] [eager]

Needs PyTorch (make bench EXTRAS=interop). Theirs uses scaled_dot_product_attention with the documents' mask, and AdamW
in its quickest form here, eager and under torch.compile (`eager` leaves the latter out: it takes minutes to compile
on a busy machine). Each round runs every contender in turns, in this process, for half a second at least, steps
following one another as they do in training, and measures both frameworks' matmul peak, beside them our own product's,
which may use the processor's matrix unit: a share above 100 % of the frameworks' peak is then no error. FLOPs are
those of config.forward_flops_per_token, three times, attention over the whole window counted, as the published figures
count it. Other programs on the machine slow all of them down: only ratios within a round mean something.
Covers: one process, dropout 0 and 0.1. Does not cover: half precision, reading data.
"""

import os

os.environ.setdefault("GLOG_v", "3")

import dataclasses
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindgeex.model_zoo.checkpoints.native import named_parameters
from mindgeex.model_zoo.config import ComputeConfig, ModelConfig, load_model_config
from mindgeex.model_zoo.families import build_model
from mindgeex.model_zoo.kernels import library, linear
from mindgeex.train.batch import BatchPlan
from mindgeex.train.feed import Batch
from mindgeex.train.loss import TokenLoss
from mindgeex.train.optimizer import AdamW
from mindgeex.train.optimizer_config import OptimizerConfig
from mindgeex.train.step import TrainStep

ROUNDS = 9
ROUND_S = 0.5
REST_S = 0.3  # before each measurement: the threads of who was measured before may look for work for a while
ROWS = 4
PEAK_SHAPES = ((1024, 1024, 1024), (2048, 384, 1536), (2048, 1536, 384), (2048, 2048, 2048))
OWN = "ours"
Step = Callable[[], float]


def main() -> None:
    """Prints times, ratios and the share of the matmul peak."""
    if importlib.util.find_spec("torch") is None:
        raise SystemExit("training has nothing to be compared with: make bench EXTRAS=interop")
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    ms.set_context(mode=ms.GRAPH_MODE)
    print(f"{torch.get_num_threads()} threads, {ROUNDS} rounds, {ROWS} rows a step, load {os.getloadavg()[0]:.1f}\n")
    eager = "eager" in sys.argv
    for size in [name for name in sys.argv[1:] if name != "eager"] or ("10m", "tiny"):
        for rate in (0.0, 0.1):
            compare(dataclasses.replace(load_model_config(f"codegeex_{size}"), dropout_rate=rate), size, eager)


def compare(config: ModelConfig, size: str, eager: bool) -> None:
    """One size and dropout rate."""
    rows = np.random.default_rng(0).integers(1, config.vocab_size, (ROWS, config.seq_length + 1)).astype(np.int32)
    contenders: dict[str, Step] = {"mindgeex": our_step(config, rows), **their_steps(config, rows, eager)}
    for name, step in list(contenders.items()):
        started = time.perf_counter()
        try:
            step()
        except Exception as error:  # torch.compile needs a compiler, and some versions of Python
            print(f"  {name} does not run: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
            del contenders[name]
            continue
        first = time.perf_counter() - started
        step()
        print(f"  {name}: first step after {first:.1f} s")
    peaks = {"MindSpore": our_matmuls(ops.MatMul(transpose_b=True)), "PyTorch": their_matmuls()}
    peaks[OWN] = our_matmuls(linear.product()) if library.kernels_here() else peaks["MindSpore"]
    times, rates = [], []
    for _ in range(ROUNDS):
        times.append({name: pace(step) for name, step in contenders.items()})
        rates.append({name: peak(products) for name, products in peaks.items()})
    tokens = ROWS * config.seq_length
    flops = 3 * config.forward_flops_per_token() * tokens
    own = max(rate.pop(OWN) for rate in rates)
    best = {name: max(rate[name] for rate in rates) for name in rates[0]}
    print(f"codegeex_{size}, dropout {config.dropout_rate}: matmul peak of the two in GFLOP/s: ", end="")
    print(", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in best.items()), f"; our product {own / 1e9:.0f}")
    quickest = [min(of_round[name] for name in contenders if name != "mindgeex") for of_round in times]
    for name in contenders:
        ratios = sorted(peer / of_round[name] for peer, of_round in zip(quickest, times, strict=True))
        shares = sorted(flops / t[name] / max(r.values()) for t, r in zip(times, rates, strict=True))
        middle = statistics.median(of_round[name] for of_round in times)
        ratio = statistics.median(ratios)
        print(
            f"  {name:16} {1e3 * middle:7.1f} ms {tokens / middle:7.0f} tokens/s   "
            f"{ratio:.2f} times the quickest PyTorch ({ratios[0]:.2f} to {ratios[-1]:.2f})   "
            f"{statistics.median(shares):.0%} of the round's peak ({shares[0]:.0%} to {shares[-1]:.0%}); "
            f"best round {flops / min(t[name] for t in times) / max(best.values()):.0%} of the best peak"
        )
    print(flush=True)


def our_step(config: ModelConfig, rows: np.ndarray, compute: ComputeConfig | None = None) -> Step:
    """The project's step on the same rows again and again."""
    model = build_model(config, compute)
    optimizer = AdamW(named_parameters(model), OptimizerConfig())
    step = TrainStep(TokenLoss(model), optimizer, BatchPlan(len(rows), 1, 1, rows.shape[1] - 1), seed=0)
    batch = Batch(rows, np.ones((len(rows), rows.shape[1] - 1), np.float32), np.arange(len(rows)))
    scalars = optimizer.scalars(1e-4, 10)
    return lambda: step(batch, scalars).loss


def their_steps(config: ModelConfig, rows: np.ndarray, eager_only: bool) -> dict[str, Step]:
    """PyTorch's, eager with each form of AdamW (the quicker one stays), and compiled."""
    import torch

    from tests.benchmarks.torch_codegeex import TorchCodeGeeX

    ids = torch.tensor(rows.astype(np.int64))

    def build(compiled: bool, **form: bool) -> Step:
        torch.manual_seed(0)
        model = TorchCodeGeeX(config).train()
        decayed = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), eps=1e-8, **form)
        run = torch.compile(model) if compiled else model

        def step() -> float:
            logits = run(ids[:, :-1])
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            return loss.item()

        return step

    forms = {"fused": {"fused": True}, "foreach": {"foreach": True}}
    eager = {name: build(False, **form) for name, form in forms.items()}
    for step in eager.values():
        step()
    quick = min(eager, key=lambda name: min(seconds(eager[name]) for _ in range(3)))
    print(f"  AdamW of PyTorch: {quick}")
    if eager_only:
        return {"PyTorch eager": eager[quick]}
    return {"PyTorch eager": eager[quick], "PyTorch compile": build(True, **forms[quick])}


def our_matmuls(operator: Any) -> list[tuple[int, Callable[[], object]]]:
    """FLOPs and a product, for every shape."""

    class Product(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.matmul = operator

        def construct(self, a: ms.Tensor, b: ms.Tensor) -> ms.Tensor:
            return self.matmul(a, b)

    found: list[tuple[int, Callable[[], object]]] = []
    for m, k, n in PEAK_SHAPES:
        cell, a, b = Product(), ms.Tensor(np.ones((m, k), np.float32)), ms.Tensor(np.ones((n, k), np.float32))
        found.append((2 * m * k * n, lambda cell=cell, a=a, b=b: cell(a, b)[:1, :1].asnumpy()))
    return found


def their_matmuls() -> list[tuple[int, Callable[[], object]]]:
    """The same in PyTorch."""
    import torch

    found: list[tuple[int, Callable[[], object]]] = []
    for m, k, n in PEAK_SHAPES:
        a, b = torch.ones(m, k), torch.ones(n, k)
        found.append((2 * m * k * n, lambda a=a, b=b: a @ b.T))
    return found


def peak(products: list[tuple[int, Callable[[], object]]]) -> float:
    """FLOPs a second: the best of all shapes and a few repetitions."""
    time.sleep(REST_S)
    return max(flops / min(seconds(run) for _ in range(6)) for flops, run in products)


def pace(step: Step) -> float:
    """Seconds a step."""
    time.sleep(REST_S)
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < ROUND_S:
        step()
        done += 1
    return (time.perf_counter() - started) / done


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
