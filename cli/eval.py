"""`mindgeex eval run`, `report`, `list`, `compare` and `doctor`: parse, call, print."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.decoding.settings import Sampling

if TYPE_CHECKING:
    from mindgeex.eval.execution.engines.engine import Engine


def run(
    benchmark: Annotated[str, tyro.conf.Positional],
    out: Path = Path("runs/eval"),
    languages: tuple[str, ...] = (),
    data: str | None = None,
    canonical: bool = False,
    checkpoint: Path | None = None,
    generations: Path | None = None,
    endpoint: str | None = None,
    model: str | None = None,
    api: Literal["completions", "chat"] = "completions",
    key_variable: str = "OPENAI_API_KEY",
    requests: int = 8,
    rules: tuple[str, ...] = (),
    num_samples: int = 1,
    sampling: Annotated[Sampling, tyro.conf.OmitArgPrefixes] = Sampling(temperature=0.2, max_new_tokens=512),  # noqa: B008
    seed: int = 42,
    max_rows: int = 16,
    engine: Literal["local", "ray"] = "local",
    workers: int = 0,
    address: str | None = None,
    cpu_seconds: int = 10,
    cpu_factor: int = 100,
    memory_mb: int = 1024,
) -> int:
    """Score a checkpoint, a server or a file of completions, or check a benchmark's own solutions, in a sandbox.

    Canonical solutions run first; a problem whose own solution fails here is named and left out. The same command
    continues a run that was interrupted. Ends with code 1 if --canonical found a solution that fails.

    Args:
        benchmark: which benchmark; `mindgeex eval list` names them.
        out: folder for results, score.json and report.html.
        languages: such as python cpp js, or pairs such as python-cpp, or all; without it, the benchmark's first.
        data: folder with the benchmark's files, or hub for the Hugging Face hub; without it, the few problems that
            ship with the project.
        canonical: only check the canonical solutions.
        checkpoint: folder of the checkpoint to score.
        generations: JSON lines with task_id and generation to score, plain or packed by gzip.
        endpoint: base of an OpenAI-compatible API to score, such as http://127.0.0.1:8000/v1.
        model: its name there.
        api: completions continues the prompt, chat puts it into a request.
        key_variable: environment variable that holds the key, if the server wants one.
        requests: problems that the server is asked about at once.
        rules: post-processing (codegeex, raw, codefuse, sanitize); without it, all, side by side.
        num_samples: samples a problem; pass@k needs k of them.
        sampling: how tokens are chosen.
        seed: of the samples.
        max_rows: completions of a problem made at once.
        engine: where programs are executed: on this machine, or on a Ray cluster, with the same results.
        workers: programs executed at once; 0 for one a core, of this machine or the cluster.
        address: of a running Ray cluster, such as auto or 10.0.0.1:6379; without it, one is started on this machine.
        cpu_seconds: CPU time each program may use at least; the wall limit is 4 times that and 5 s, and grows with it.
        cpu_factor: so many times the CPU time that the problem's own solution took here may a program use, if that is
            more: it follows the machine's speed; 0 for --cpu-seconds alone.
        memory_mb: memory each program may use, in MiB.
    """
    from mindgeex.eval import generations as external
    from mindgeex.eval import runner
    from mindgeex.eval.benchmarks import benchmark as named
    from mindgeex.eval.execution.job import MIB, Limits
    from mindgeex.eval.reports import page, report
    from mindgeex.eval.stages import Completer

    if canonical + (checkpoint is not None) + (generations is not None) + (endpoint is not None) != 1:
        raise UserError(
            "give one of --checkpoint FOLDER or --endpoint URL to score a model, --generations FILE to score "
            "completions, or --canonical to check the benchmark"
        )
    if (endpoint is None) != (model is None):
        raise UserError("--endpoint URL and --model NAME belong together: give both, or neither")
    at_least_one = {
        "--num-samples": num_samples,
        "--max-rows": max_rows,
        "--requests": requests,
        "--cpu-seconds": cpu_seconds,
        "--memory-mb": memory_mb,
    }
    for name, value in at_least_one.items():
        if value < 1:
            raise UserError(f"{name} {value}: at least 1")
    if cpu_factor < 0:
        raise UserError(f"--cpu-factor {cpu_factor}: at least 0, which stands for no calibration")
    if workers < 0:
        raise UserError(f"--workers {workers}: at least 1, or 0 for one a core")
    completer: Completer | None = None
    chosen = named(benchmark)
    dataset = chosen.load(languages, data)
    recorded = None if generations is None else external.read(generations, dataset.problems)
    if checkpoint is not None:
        from mindgeex.cli.generate import load_completer

        completer = load_completer(checkpoint, sampling, max_rows=max_rows)
    if endpoint is not None and model is not None:
        from mindgeex.eval.endpoint import EndpointCompleter

        completer = EndpointCompleter(endpoint, model, sampling, api=api, key=os.environ.get(key_variable))
    with open_engine(engine, workers, address) as opened:
        done = runner.run(
            chosen,
            dataset,
            out,
            completer=completer,
            generations=recorded,
            rules=rules,
            num_samples=num_samples,
            seed=seed,
            problems_at_once=requests if endpoint else 1,
            engine=opened,
            cpu_factor=cpu_factor,
            limits=Limits(cpu_s=cpu_seconds, wall_s=4.0 * cpu_seconds + 5.0, memory_bytes=memory_mb * MIB),
        )
    print("\n".join([*(recorded.warnings if recorded else ()), *report.lines(done)]))
    print(f"report: {page.write(done)}")
    return 1 if canonical and done.excluded else 0


def report(folder: Annotated[Path, tyro.conf.Positional]) -> None:
    """Say what a finished run scored and write its page again, from its folder alone.

    Args:
        folder: --out folder of a finished `mindgeex eval run`.
    """
    from mindgeex.eval import runner
    from mindgeex.eval.reports import page, report

    done = runner.read(folder)
    print("\n".join(report.lines(done)))
    print(f"report: {page.write(done)}")


@contextlib.contextmanager
def open_engine(kind: Literal["local", "ray"], workers: int, address: str | None) -> "Iterator[Engine]":
    """Where programs are executed, for the block; Ray's workers are those that also build corpora."""
    from mindgeex.eval.execution.engines.local import LocalEngine
    from mindgeex.eval.execution.engines.ray import RayEngine

    if kind == "ray":
        from mindgeex.data.ray_engine import ray_pool

        with ray_pool(workers, address) as pool:
            yield RayEngine(pool)
    elif address is not None:
        raise UserError(f"--address {address}: only Ray has one: add --engine ray")
    else:
        yield LocalEngine(workers or os.cpu_count() or 1)


def doctor(languages: tuple[str, ...] = ()) -> int:
    """Say what the evaluation has here and what each language lacks, with what installs it.

    A program of each language is compiled, run and proven in the sandbox. Ends with code 1 if something is missing for
    the languages asked for.

    Args:
        languages: such as python cpp js; without it, all six.
    """
    from concurrent.futures import ThreadPoolExecutor

    from mindgeex.cli.doctor import missing, show
    from mindgeex.eval.benchmarks.source import choose
    from mindgeex.eval.doctor import tools
    from mindgeex.eval.languages import LANGUAGES

    chosen = choose(languages or tuple(LANGUAGES), tuple(LANGUAGES))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        findings = list(threads.map(lambda tool: tool.look(), tools(chosen, chosen, run=True)))
    show(findings)
    return 1 if missing(findings) else 0


def list_benchmarks() -> None:
    """Name the benchmarks, with their languages, post-processing and measure."""
    from mindgeex.eval.benchmarks import BENCHMARKS
    from mindgeex.eval.benchmarks import benchmark as named

    for name in BENCHMARKS:
        one = named(name)
        few = one.languages[:6]
        more = f" and {len(one.languages) - len(few)} more" if len(one.languages) > len(few) else ""
        print(f"{name}: {one.about}")
        print(f"  --languages {' '.join(few)}{more}; --rules {' '.join(one.rules)}; {one.measure}")


def compare(
    first: Annotated[Path, tyro.conf.Positional],
    second: Annotated[Path, tyro.conf.Positional],
    out: Path = Path("comparison.html"),
) -> None:
    """Compare two runs problem by problem, as lines and a page: the difference, its error, and whether it is chance.

    Both have to be of the same benchmark, problems, data and number of samples.

    Args:
        first: --out folder of a finished `mindgeex eval run`: A.
        second: another one: B.
        out: the page, with both completions of every problem side by side.
    """
    from mindgeex.eval.reports import compare_page
    from mindgeex.eval.reports.compare import lines, pair

    found = pair(first, second)
    print("\n".join(lines(found)))
    print(f"comparison: {compare_page.write(found, out)}")
