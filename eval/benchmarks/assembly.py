"""How a solution in one of six languages becomes a program, by the rules of HumanEval-X.

Differences from the published harness, each because it judged wrongly:
- Go: packages are imported if the code uses them, not if a comment or a text mentions them.
- Python: numpy is imported only where the program names it (a program cannot tell, and it takes 60 ms).
- White space at the end of a solution is cut, so that completions that differ in nothing else are executed once.
"""

import re

from mindgeex.eval.problem import Kept, Problem

PYTHON_IMPORTS = """import math
import re
import sys
import copy
import datetime
import itertools
import collections
import heapq
import statistics
import functools
import hashlib
{numpy}import string
from typing import *
from collections import *
"""
CODEFUSE_IMPORTS = f"""from math import *
{PYTHON_IMPORTS}from itertools import combinations_with_replacement
import cmath
import collections as ct
import heapq as hq
from collections import Counter
from itertools import chain
from heapq import heappop, heappush
from operator import itemgetter
from itertools import groupby
from copy import deepcopy
"""
"""What CodeFuseEval puts before every Python program; `pow` and others are then those of math."""
CPP_INCLUDES = ("stdlib.h", "algorithm", "math.h", "stdio.h", "vector", "string", "climits", "cstring", "iostream")
GO_PACKAGES = ("math", "strings", "fmt", "strconv", "time", "bytes", "regexp", "sort", "math/rand", "crypto/md5")


def assemble(problem: Problem, kept: Kept) -> tuple[str, str]:
    """Everything before the tests, and the tests."""
    text = f"{kept.before}{kept.code}".rstrip() + "\n"
    if problem.language == "python":
        return python_imports(kept.imports, text + problem.test) + text, problem.test
    if problem.language == "cpp":
        return "\n".join([*missing_includes(kept.before), text]), problem.test
    if problem.language == "go":
        code = _without_go_comments(text + problem.test)
        packages = [f'"{name}"' for name in GO_PACKAGES if re.search(rf"\b{name.split('/')[-1]}\.", code)]
        imported = [name for name in packages if name not in problem.setup]
        block = "import (\n    " + "\n    ".join(imported) + "\n)\n" if imported else ""
        return f"{problem.setup}\n{block}{text.replace(problem.imports, '', 1)}", problem.test
    return text, problem.test


def assemble_plainly(problem: Problem, kept: Kept, tests: str) -> tuple[str, str]:
    """A Python program as OpenAI's and EvalPlus' harnesses make it: no imports but the solution's own.

    CodeFuse's rules bring their list of imports, since a function that stands alone lacks the prompt's.
    """
    text = f"{kept.before}{kept.code}".rstrip() + "\n"
    return (python_imports("codefuse", text + tests) if kept.imports == "codefuse" else "") + text, tests


def python_imports(whose: str, program: str) -> str:
    """The imports before a Python program.

    Args:
        whose: `codegeex` or `codefuse`.
        program: all of it, to see whether it names numpy.
    """
    numpy = "import numpy\nimport numpy as np\n" if re.search(r"\b(?:np|numpy)\b", program) else ""
    return (CODEFUSE_IMPORTS if whose == "codefuse" else PYTHON_IMPORTS).format(numpy=numpy)


def missing_includes(code: str) -> list[str]:
    """The headers that HumanEval-X adds to C++ code that lacks them."""
    return [f"#include<{name}>" for name in CPP_INCLUDES if f"#include<{name}>" not in code]


def _without_go_comments(code: str) -> str:
    """Go code without comments and texts, so that only what the compiler sees is searched for package names."""
    pattern = r"//[^\n]*|/\*.*?\*/|`[^`]*`|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'"
    return re.sub(pattern, lambda match: '""' if match[0][0] in "\"`'" else " ", code, flags=re.DOTALL)
