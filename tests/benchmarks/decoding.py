"""Greedy decoding beside Hugging Face's GPTNeoXForCausalLM.generate: float32, the same weights, the same threads.

    python -m tests.benchmarks.decoding [10m | 100m]

Needs PyTorch and transformers (make bench EXTRAS=interop). Each round runs every contender once, in turns, in this
process; a rate counts the prompt's pass, too. The ids must be equal. The memory's read bandwidth is measured in
the same rounds: a token of a single row needs every weight once, so bytes over bandwidth is the floor of its time.
"""

import os

os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
os.environ.setdefault("GLOG_v", "3")

import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mindgeex.model_zoo.config import ModelConfig, load_model_config
from mindgeex.model_zoo.decoding.graph import GraphDecoder
from mindgeex.model_zoo.decoding.kernels.decoder import NativeDecoder
from mindgeex.model_zoo.decoding.kernels.native import PHASES, load_library
from mindgeex.model_zoo.families import Model
from mindgeex.model_zoo.int8 import quantize
from tests.model_zoo.foreign import load_foreign

THREADS = 2
ROUNDS = 5
PROMPT, NEW = 32, 64
"""Tokens of a prompt, and tokens generated after it."""
BATCHES = (1, 16)
BANDWIDTH_BYTES = 2**29


def main() -> None:
    """Prints rates, ratios, the share of the bandwidth, and where the rest of a step's time goes."""
    if importlib.util.find_spec("torch") is None:
        raise SystemExit("decoding has nothing to be compared with: make bench EXTRAS=interop")
    print(f"{THREADS} threads, {ROUNDS} rounds, {PROMPT} tokens of prompt and {NEW} new ones, greedy\n")
    for size in sys.argv[1:] or ("10m", "100m"):
        with tempfile.TemporaryDirectory() as scratch:
            compare(load_model_config(f"gpt_neox_{size}"), Path(scratch))


def compare(config: ModelConfig, scratch: Path) -> None:
    """One size: both float32 engines and int8."""
    peer = hugging_face(config, scratch)
    plain = load_foreign(scratch)
    small = load_foreign(scratch)
    quantize(small)
    started = time.perf_counter()
    ours, int8 = NativeDecoder(plain, THREADS), NativeDecoder(small, THREADS)
    ready = time.perf_counter() - started
    print(f"{config.parameters / 1e6:.0f}M parameters; decoders of both types ready after {ready:.1f} s")
    bandwidth = Bandwidth()
    for batch in BATCHES:
        prompts = np.random.default_rng(batch).integers(1, config.vocab_size, (batch, PROMPT))
        if not np.array_equal(peer(prompts), generated(ours, prompts)):
            raise SystemExit("the ids differ: no speed is worth measuring")
        generated(int8, prompts)
        names = ("Hugging Face", "mindgeex", "mindgeex int8")
        runs: tuple[Callable[[], Any], ...] = (
            lambda prompts=prompts: peer(prompts),
            lambda prompts=prompts: generated(ours, prompts),
            lambda prompts=prompts: generated(int8, prompts),
        )
        times, reads = [], []
        for _ in range(ROUNDS):
            times.append([seconds(run) for run in runs])
            reads.append(bandwidth.measure())
        print(f"\nbatch {batch}: tokens a second (median), and the ratio to Hugging Face (least to most of a round)")
        for index, name in enumerate(names):
            ratios = sorted(of_round[0] / of_round[index] for of_round in times)
            rate = batch * NEW / statistics.median(of_round[index] for of_round in times)
            print(f"  {name:14} {rate:8.1f}   {statistics.median(ratios):5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
        read = statistics.median(reads)
        print(f"  read bandwidth {read / 1e9:.1f} GB/s ({min(reads) / 1e9:.1f} to {max(reads) / 1e9:.1f})")
        for name, decoder, model in (("float32", ours, plain), ("int8", int8, small)):
            explain(name, decoder, step_bytes(model), read, prompts)
        if batch == 1:  # with more rows the graph's own cache and scores take gigabytes beside the others'
            show_graph(load_foreign(scratch), prompts)
    print()


def explain(name: str, decoder: NativeDecoder, weight_bytes: int, read: float, prompts: np.ndarray) -> None:
    """Where a step's time goes, and the floor that the weights set."""
    decoder.prefill(prompts.tolist())
    ids_B = prompts[:, 0].astype(np.int32)
    decoder.native.seconds = np.zeros(len(PHASES))
    times = []
    for _ in range(NEW):
        started = time.perf_counter()
        decoder.step(ids_B)
        times.append(time.perf_counter() - started)
    inside, decoder.native.seconds = decoder.native.seconds, None
    step, floor = statistics.median(times), weight_bytes / read
    shares = dict(zip(PHASES, inside / sum(times), strict=True))
    shares["Python"] = 1 - sum(inside) / sum(times)
    print(
        f"  {name:7} a step {step * 1e3:.2f} ms, weights {weight_bytes / 1e6:.0f} MB, floor {floor * 1e3:.2f} ms: "
        f"{floor / step:.0%} of the bandwidth; " + ", ".join(f"{key} {share:.0%}" for key, share in shares.items())
    )


def show_graph(model: Model, prompts: np.ndarray) -> None:
    """What a machine without a compiler gets."""
    decoder = GraphDecoder(model)
    started = time.perf_counter()
    decoder.prefill(prompts.tolist())
    ids_B = prompts[:, 0].astype(np.int32)
    decoder.step(ids_B)
    compiled = time.perf_counter() - started
    step = statistics.median(seconds(lambda: decoder.step(ids_B)) for _ in range(16))
    print(f"  MindSpore graph (where there is no g++): a step {step * 1e3:.2f} ms, after {compiled:.1f} s of compiling")


class Bandwidth:
    """Reads an array that no cache holds."""

    def __init__(self) -> None:
        self.numbers = np.ones(BANDWIDTH_BYTES // 4, np.float32)
        self.measure()

    def measure(self) -> float:
        """Bytes a second, the best of three."""
        read = load_library().read_all
        return BANDWIDTH_BYTES / min(
            seconds(lambda: read(self.numbers.ctypes.data, self.numbers.size, THREADS)) for _ in range(3)
        )


def hugging_face(config: ModelConfig, folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Their model of these sizes with random weights, saved into the folder, as prompts -> new ids."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    theirs = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.feed_forward_size,
            max_position_embeddings=config.seq_length,
            hidden_act=config.activation,
            rotary_pct=config.rotary_pct,
            use_parallel_residual=config.parallel_residual,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()
    theirs.save_pretrained(folder)
    theirs.generation_config.eos_token_id = None  # a text goes on to its full length

    @torch.no_grad()
    def generate(prompts: np.ndarray) -> np.ndarray:
        ids = torch.tensor(prompts)
        mask = torch.ones_like(ids)
        return theirs.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=NEW)[:, PROMPT:].numpy()

    return generate


def generated(decoder: NativeDecoder, prompts: np.ndarray) -> np.ndarray:
    """New ids [B, NEW]."""
    logits_BV = decoder.prefill(prompts.tolist())
    ids = [logits_BV.argmax(axis=1).astype(np.int32)]
    for _ in range(NEW - 1):
        ids.append(decoder.step(ids[-1]).argmax(axis=1).astype(np.int32))
    return np.stack(ids, axis=1)


def step_bytes(model: Model) -> int:
    """What a step reads of the weights: all but the table of words."""
    return sum(parameter.asnumpy().nbytes for parameter in model.get_parameters()) - (
        model.word_embedding.weight.asnumpy().nbytes
    )


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
