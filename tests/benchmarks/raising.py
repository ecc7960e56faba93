"""Whether HumanEval-X's tests catch a body that only raises or aborts: every problem in six languages.

    python -m tests.benchmarks.raising [--data FOLDER] [--languages cpp go]

Ends with exit code 1 if such a body passes in a problem that is not known to test nothing, or if one that is known to
does not let it pass.
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X, KNOWN_DEFECTS
from mindgeex.eval.execution.job import Limits
from mindgeex.eval.execution.sandbox import Sandbox
from mindgeex.eval.execution.verdict import Outcome, Verdict, execute
from mindgeex.eval.languages import LANGUAGES
from mindgeex.eval.problem import Kept, Problem

WORKERS = 2
RAISES = {
    "python": '    raise ValueError("no idea")\n',
    "cpp": "    __builtin_abort();\n}\n",
    "java": '        throw new IllegalStateException("no idea");\n    }\n}',
    "javascript": '  throw new TypeError("no idea")\n}\n',
    "go": '    panic("no idea")\n}\n',
    "rust": '    panic!("no idea")\n}\n',
}


def main() -> None:
    """Prints, for each language, the verdicts and which problems such a body passes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", help="folder with humaneval_LANGUAGE.jsonl.gz, or hub; without: ours")
    parser.add_argument("--languages", nargs="+", default=list(LANGUAGES), choices=list(LANGUAGES))
    arguments = parser.parse_args()
    sandbox = Sandbox()
    unexpected = False
    for language in arguments.languages:
        problems = HUMANEVAL_X.load([language], arguments.data).problems
        toolchain = LANGUAGES[language].toolchain()
        started = time.perf_counter()

        def run(problem: Problem, toolchain=toolchain) -> Outcome:  # type: ignore[no-untyped-def]
            solution, tests = HUMANEVAL_X.program(problem, Kept(problem.prompt, RAISES[problem.language]))
            return execute(sandbox, LANGUAGES[problem.language], toolchain, solution, tests, Limits())

        with ThreadPoolExecutor(WORKERS) as pool:
            outcomes = dict(zip(problems, pool.map(run, problems), strict=True))
        counts: dict[str, int] = {}
        for outcome in outcomes.values():
            counts[outcome.verdict.value] = counts.get(outcome.verdict.value, 0) + 1
        passing = {problem.task_id for problem, outcome in outcomes.items() if outcome.verdict is Verdict.PASSED}
        useless = {p.task_id for p in problems if "tests nothing" in KNOWN_DEFECTS.get(p.task_id, "")}
        unexpected |= passing != useless
        print(f"{language:<11} {time.perf_counter() - started:6.1f} s, {counts}, passing: {sorted(passing) or 'none'}")
        compile_errors = [(p.task_id, o.reason) for p, o in outcomes.items() if o.verdict is Verdict.COMPILE]
        for task, reason in compile_errors[:3]:
            print(f"{'':<11} {task}: {reason}")
    sys.exit(unexpected)


if __name__ == "__main__":
    main()
