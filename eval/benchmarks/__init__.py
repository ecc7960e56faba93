"""The benchmarks by name; each is loaded when it is asked for."""

import importlib

from mindgeex.common.errors import UserError, did_you_mean
from mindgeex.eval.benchmarks.benchmark import Benchmark

BENCHMARKS = {
    "humaneval-x": ("humaneval_x", "HUMANEVAL_X"),
    "humaneval-x-translation": ("translation", "TRANSLATION"),
    "humaneval": ("humaneval", "HUMANEVAL"),
    "humaneval+": ("plus", "HUMANEVAL_PLUS"),
    "mbpp": ("mbpp", "MBPP"),
    "mbpp+": ("plus", "MBPP_PLUS"),
    "humaneval-cn": ("codefuse", "CHINESE_HUMANEVAL"),
    "mbpp-cn": ("codefuse", "CHINESE_MBPP"),
    "codefuse-translation": ("codefuse", "CODE_TRANSLATION"),
    "xlcost-translation": ("xlcost", "XLCOST_TRANSLATION"),
    "code-to-text": ("code_to_text", "CODE_TO_TEXT"),
    "comment-generation": ("comments", "COMMENT_GENERATION"),
    "test-generation": ("testcases", "TEST_GENERATION"),
}
"""Name as typed -> module of this folder, and the benchmark in it."""


def benchmark(name: str) -> Benchmark:
    """The benchmark of a name.

    Raises:
        UserError: there is none.
    """
    if name not in BENCHMARKS:
        raise UserError(f"unknown benchmark '{name}'{did_you_mean(name, BENCHMARKS)}")
    module, attribute = BENCHMARKS[name]
    found = getattr(importlib.import_module(f"mindgeex.eval.benchmarks.{module}"), attribute)
    assert isinstance(found, Benchmark)
    return found
