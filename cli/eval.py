"""`mindgeex eval run`: parse, call, print."""

import os
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.decoding.settings import Sampling


def run(
    benchmark: Annotated[Literal["humaneval-x"], tyro.conf.Positional],
    out: Path = Path("runs/eval"),
    languages: tuple[str, ...] = ("python",),
    data: Path | None = None,
    canonical: bool = False,
    checkpoint: Path | None = None,
    num_samples: int = 1,
    sampling: Annotated[Sampling, tyro.conf.OmitArgPrefixes] = Sampling(temperature=0.2, max_new_tokens=512),  # noqa: B008
    seed: int = 42,
    max_rows: int = 16,
    workers: int = 0,
    cpu_seconds: int = 10,
    memory_mb: int = 1024,
) -> int:
    """Score a checkpoint, or check a benchmark's own solutions, in a sandbox.

    Canonical solutions run first; a problem whose own solution fails here is named and left out. The same command
    continues a run that was interrupted. Ends with code 1 if --canonical found a solution that fails.

    Args:
        benchmark: which benchmark.
        out: folder for results, score.json and report.html.
        languages: python, cpp, java, javascript (or js), go, rust; several with spaces between.
        data: folder with humaneval_<language>.jsonl[.gz]; without it, the few problems that ship with the project.
        canonical: only check the canonical solutions.
        checkpoint: folder of the checkpoint to score.
        num_samples: samples a problem; pass@k needs k of them.
        sampling: how tokens are chosen.
        seed: of the samples.
        max_rows: completions of a problem made at once.
        workers: programs executed at once; 0 for one a core.
        cpu_seconds: CPU time each program may use; the wall limit is 4 times that and 5 s.
        memory_mb: memory each program may use, in MiB.
    """
    from mindgeex.eval import report, runner
    from mindgeex.eval.benchmarks import humaneval_x
    from mindgeex.eval.job import MIB, Limits

    if canonical == (checkpoint is not None):
        raise UserError("give either --checkpoint FOLDER to score a model, or --canonical to check the benchmark")
    at_least_one = {
        "--num-samples": num_samples,
        "--max-rows": max_rows,
        "--cpu-seconds": cpu_seconds,
        "--memory-mb": memory_mb,
    }
    for name, value in at_least_one.items():
        if value < 1:
            raise UserError(f"{name} {value}: at least 1")
    if workers < 0:
        raise UserError(f"--workers {workers}: at least 1, or 0 for one a core")
    completer: runner.Completer | None = None
    dataset = humaneval_x.load(languages, data)
    if checkpoint is not None:
        from mindgeex.cli.generate import load_completer

        completer = load_completer(checkpoint, sampling, max_rows=max_rows)
    done = runner.run(
        humaneval_x,
        dataset,
        out,
        completer=completer,
        num_samples=num_samples,
        seed=seed,
        workers=workers or os.cpu_count() or 1,
        limits=Limits(cpu_s=cpu_seconds, wall_s=4.0 * cpu_seconds + 5.0, memory_bytes=memory_mb * MIB),
    )
    print("\n".join(report.lines(done)))
    print(f"report: {report.write(done)}")
    return 1 if canonical and done.excluded else 0
