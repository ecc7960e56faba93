"""Executing HumanEval-X's canonical solutions beside the way of the original harness, in one run.

    python -m tests.benchmarks.execution [--data FOLDER] [--languages cpp go] [--every 4] [--equal cpp]

With --equal a language's first problem is answered 200 times by 10 programs instead, through the whole of `eval run`.

The original way, as its description has it: a forked process for a sample (with a manager process beside it, as
OpenAI's harness has it), a cold call of the toolchain, no sandbox. Python is executed in the forked process; C++ is
g++, then the program; Go is `go test` with testify; Java is javac, then java; JavaScript is node; Rust is `cargo
check`, then `cargo test`, all samples in one package, its crates built before. Both ways get two workers and the same
programs. Go's tests find Debian's testify if it is installed (golang-github-stretchr-testify-dev), else our small
stand-in, which favours the original: it links faster.
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.execution.job import Limits
from mindgeex.eval.execution.sandbox import Sandbox
from mindgeex.eval.execution.verdict import Verdict, execute
from mindgeex.eval.generations import Generations
from mindgeex.eval.languages import LANGUAGES
from mindgeex.eval.languages.crates import CRATES
from mindgeex.eval.languages.go import SOURCES as GO_PACKAGES
from mindgeex.eval.languages.javascript import package
from mindgeex.eval.problem import Problem
from mindgeex.eval.runner import run as execute_run

WORKERS = 2
TESTIFY = Path("/usr/share/gocode")
TIMEOUT_S = 500
ANSWERS, DIFFERENT = 200, 10


def main() -> None:
    """Prints seconds both ways, their ratio, and where verdicts differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", help="folder with humaneval_LANGUAGE.jsonl.gz, or hub; without: ours")
    parser.add_argument("--languages", nargs="+", default=list(LANGUAGES), choices=list(LANGUAGES))
    parser.add_argument("--every", type=int, default=1, help="4: every fourth problem")
    parser.add_argument("--equal", choices=list(LANGUAGES), help="one problem of this language, 200 answers")
    parser.add_argument("--ways", nargs="+", default=["original", "ours"], choices=["original", "ours"])
    arguments = parser.parse_args()
    if arguments.equal:
        equal_programs(arguments.equal, arguments.data)
        return
    sums = dict.fromkeys(arguments.ways, 0.0)
    with tempfile.TemporaryDirectory() as scratch:
        for language in arguments.languages:
            problems = HUMANEVAL_X.load([language], arguments.data).problems[:: arguments.every]
            verdicts: dict[str, list[bool]] = {}
            line = f"{language:<11}"
            for way in arguments.ways:
                prepare = original_way if way == "original" else our_way
                run = prepare(language, Path(scratch))
                seconds, verdicts[way] = timed(run, problems)
                sums[way] += seconds
                line += f" {way} {seconds:7.2f} s, {sum(verdicts[way])}/{len(problems)} passed;"
            print(line, flush=True)
            if len(verdicts) == 2:
                differing = [p.task_id for p, a, b in zip(problems, *verdicts.values(), strict=True) if a != b]
                print(f"{'':<11} verdicts differ: {', '.join(differing) or 'none'}", flush=True)
    print(", ".join(f"{way} {seconds:.1f} s" for way, seconds in sums.items()))
    if len(sums) == 2:
        print(f"ratio {sums['original'] / sums['ours']:.2f}")


def equal_programs(language: str, data: str | None) -> None:
    """200 answers to one problem, 10 different ones: every one executed, and as a run executes them."""
    dataset = HUMANEVAL_X.load([language], data)
    problem = dataset.problems[0]
    comment = "#" if language == "python" else "//"
    answers = [f"{problem.canonical_solution.rstrip()}\n{comment} {number % DIFFERENT}\n" for number in range(ANSWERS)]
    problems = [replace(problem, canonical_solution=answer) for answer in answers]
    with tempfile.TemporaryDirectory() as name:
        original, passed = timed(original_way(language, Path(name)), problems)
        started = time.perf_counter()
        run = execute_run(
            HUMANEVAL_X,
            replace(dataset, problems=(problem,)),
            Path(name) / "run",
            generations=Generations({problem.task_id: answers}, {}, ANSWERS),
            rules=("raw",),
            workers=WORKERS,
        )
        ours = time.perf_counter() - started
    assert passed == [row["verdict"] == Verdict.PASSED.value for row in run.results]
    print(
        f"{ANSWERS} answers to {problem.task_id}, {DIFFERENT} different: original {original:.2f} s, ours {ours:.2f} s "
        f"(toolchain, canonical solution and files included), ratio {original / ours:.1f}; same verdicts"
    )


def timed(run: Callable[[Problem], bool], problems: Sequence[Problem]) -> tuple[float, list[bool]]:
    """Seconds for all problems on two workers, and which passed."""
    started = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        passed = list(pool.map(run, problems))
    return time.perf_counter() - started, passed


def our_way(language: str, _: Path) -> Callable[[Problem], bool]:
    """Through the sandbox, judged."""
    sandbox, toolchain = Sandbox(), LANGUAGES[language].toolchain()

    def run(problem: Problem) -> bool:
        solution, tests = HUMANEVAL_X.canonical(problem)
        outcome = execute(sandbox, LANGUAGES[language], toolchain, solution, tests, Limits())
        return outcome.verdict is Verdict.PASSED

    return run


def original_way(language: str, scratch: Path) -> Callable[[Problem], bool]:
    """A forked process and a manager for a sample, which calls the toolchain."""
    shared = scratch / f"original-{language}"
    shared.mkdir()
    prepare = {"rust": _cargo_package, "go": _go_path}.get(language)
    if prepare:
        prepare(shared)

    def run(problem: Problem) -> bool:
        context = multiprocessing.get_context("fork")
        with context.Manager() as manager:
            result = manager.list()
            process = context.Process(target=_forked, args=(problem, shared, result))
            process.start()
            process.join(TIMEOUT_S)
            return list(result) == [True]

    return run


def _forked(problem: Problem, shared: Path, result: list[bool]) -> None:
    with tempfile.TemporaryDirectory(dir=shared) as name:
        os.chdir(name)
        result.append(ORIGINAL[problem.language](problem, shared, *HUMANEVAL_X.canonical(problem)))


def _run(*command: str, **environment: str) -> bool:
    done = subprocess.run(
        command, capture_output=True, timeout=TIMEOUT_S, check=False, env={**os.environ, **environment}
    )
    return done.returncode == 0


def _python(_: Problem, shared: Path, solution: str, tests: str) -> bool:
    try:
        exec(solution + tests, {"__name__": "program"})
    except BaseException:  # noqa: BLE001 - whatever it is, it has failed
        return False
    return True


def _cpp(problem: Problem, shared: Path, solution: str, tests: str) -> bool:
    Path("test.cpp").write_text(solution + tests)
    libraries = ["-lcrypto", "-lssl"] if problem.task_id == "CPP/162" else []
    return _run("g++", "-std=c++11", "test.cpp", *libraries) and _run("./a.out")


def _java(_: Problem, shared: Path, solution: str, tests: str) -> bool:
    Path("Main.java").write_text(solution + tests)
    return _run("javac", "Main.java") and _run("java", "-cp", ".", "Main")


def _javascript(_: Problem, shared: Path, solution: str, tests: str) -> bool:
    Path("test.js").write_text(solution + tests)
    modules = package()
    # Variables that name certificates make node start three times as slowly, which is no fault of the original.
    environment = {"PATH": os.environ["PATH"], "NODE_PATH": str(modules.parent) if modules else ""}
    done = subprocess.run(["node", "test.js"], capture_output=True, check=False, env=environment)
    return not done.stdout and not done.stderr


def _go(_: Problem, shared: Path, solution: str, tests: str) -> bool:
    Path("main_test.go").write_text(solution + tests)
    return _run("go", "test", "main_test.go", GO111MODULE="off", GOPATH=f"{shared}:{TESTIFY}", GOFLAGS="")


def _go_path(shared: Path) -> None:
    if not (TESTIFY / "src/github.com/stretchr/testify/assert").is_dir():
        folder = shared / "src/github.com/stretchr/testify/assert"
        folder.mkdir(parents=True)
        shutil.copy(GO_PACKAGES / "assert.go", folder)


def _rust(problem: Problem, shared: Path, solution: str, tests: str) -> bool:
    name = problem.task_id.lower().replace("/", "_")
    os.chdir(shared)
    Path(f"src/bin/{name}.rs").write_text(f"fn main() {{}}\n{solution}{tests}")
    return _run("cargo", "check", "--offline", "--bin", name, "--message-format", "json") and _run(
        "cargo", "test", "--offline", "--bin", name, "--message-format", "json"
    )


def _cargo_package(shared: Path) -> None:
    """A package with the problems' crates, built once, as the original's folder is after its first sample."""
    lines = ['[package]\nname = "rust"\nversion = "0.1.0"\nedition = "2021"\n\n[dependencies]']
    for crate in CRATES:
        folder = shared / "crates" / crate.name
        source = crate.source()
        if source is None:
            raise SystemExit(f"the crate {crate.name} is missing: apt-get install {crate.package}")
        shutil.copytree(source.parent, folder / "src")
        dependencies = "\n".join(f'{name} = {{ path = "../{name}" }}' for name in crate.needs)
        features = "\n".join(f'"{name}" = []' for name in crate.features)
        default = ", ".join(f'"{name}"' for name in crate.features)
        (folder / "Cargo.toml").write_text(
            f'[package]\nname = "{crate.name}"\nversion = "1.0.0"\nedition = "{crate.edition}"\n'
            f'[lib]\npath = "src/{source.name}"\n[features]\ndefault = [{default}]\n{features}\n'
            f"[dependencies]\n{dependencies}\n"
        )
        lines.append(f'{crate.name} = {{ path = "crates/{crate.name}" }}')
    (shared / "Cargo.toml").write_text("\n".join(lines) + "\n")
    (shared / "src/bin").mkdir(parents=True)
    (shared / "src/bin/first.rs").write_text("use rand::Rng; use regex::Regex; use md5;\nfn main() {}\n")
    for action in ("check", "test"):
        if not _run("cargo", action, "--offline", "--manifest-path", str(shared / "Cargo.toml")):
            raise SystemExit("cargo cannot build the crates")


ORIGINAL = {"python": _python, "cpp": _cpp, "java": _java, "javascript": _javascript, "go": _go, "rust": _rust}

if __name__ == "__main__":
    main()
