"""CodeFuseEval: HumanEval and MBPP asked in Chinese, and six sets of code translation.

Prompts are those of codefuseEval/processor (commit 09a4f2a) without the role tags that its chat models want: for
HumanEval the language tag and the prompt, for MBPP the sentence and the tests, for translation the program and the
name of the function to write. Programs are put together as its evaluation does, except for what made it fail:
- HumanEval: a prompt that ends without a line break gets one before the canonical solution, which is no Python
  otherwise.
- Translation to C++ renames no function (the published way renames every call), to Java imports nothing by itself.
  Covers: humaneval_python_cn, mbpp_x and codeTrans_<source>_to_<target>, .jsonl or .jsonl.gz, in the folder or in
  `code_completion`, `nl2code` and `code_trans` below it. Does not cover: its data science sets, which are DS-1000.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from mindgeex.eval.benchmarks.assembly import assemble, assemble_plainly, missing_includes, python_imports
from mindgeex.eval.benchmarks.benchmark import Benchmark, Code, Dataset
from mindgeex.eval.benchmarks.humaneval_x import LANGUAGE_TAGS, unique
from mindgeex.eval.benchmarks.mbpp import called
from mindgeex.eval.benchmarks.source import choose, open_source, text, texts
from mindgeex.eval.postprocess import codefuse
from mindgeex.eval.problem import Kept, Problem
from mindgeex.model_zoo.decoding.stops import Stop, StopStrings

HUB = "codefuse-ai/CodeFuseEval"
PAIRS = ("cpp-java", "cpp-python", "java-cpp", "java-python", "python-cpp", "python-java")
MBPP_STOPS = StopStrings(("\nassert", "\nprint", "\nif __name__", '\n"""'))
TRANSLATION_STOPS = StopStrings(("\n# ", "\nint main", "\npublic class Main", "\nif __name__", "\nassert"))


def files(name: str, folder: str) -> tuple[str, ...]:
    """Where a file of CodeFuseEval may lie."""
    return tuple(
        f"{below}{name}.jsonl{packed}" for below in ("", f"{folder}/", f"**/{folder}/") for packed in (".gz", "")
    )


class ChineseHumanEval(Benchmark):
    """Continue a Python function whose comment is Chinese."""

    name = "humaneval-cn"
    about = "CodeFuseEval: HumanEval with Chinese comments"
    prompt_version = "codefuse-cn-v1"
    languages = ("python",)
    default_languages = languages

    def load(self, languages: Sequence[str] = (), data: Path | str | None = None) -> Dataset:
        """See Benchmark.load."""
        choose(languages or self.default_languages, self.languages)
        names = files("humaneval_python_cn", "code_completion")
        source = open_source(data, HUB, names)
        problems = []
        for where, row in source.rows(names):
            prompt = text(row, "prompt", where)
            problems.append(
                Problem(
                    task_id=text(row, "task_id", where),
                    language="python",
                    prompt=prompt,
                    canonical_solution=("" if prompt.endswith("\n") else "\n") + text(row, "canonical_solution", where),
                    test=text(row, "test", where),
                    asked=f"{LANGUAGE_TAGS['python']}\n{prompt}",
                )
            )
        return Dataset(unique(problems), source.sha256, source.described)

    def program(self, problem: Problem, kept: Kept) -> Code:
        """See assembly.py."""
        return assemble(problem, kept)


class ChineseMbpp(Benchmark):
    """Write a Python function from a Chinese sentence and its tests."""

    name = "mbpp-cn"
    about = "CodeFuseEval: MBPP with Chinese sentences"
    prompt_version = "codefuse-mbpp-cn-v1"
    languages = ("python",)
    default_languages = languages
    rules = ("codefuse", "raw", "sanitize")

    def load(self, languages: Sequence[str] = (), data: Path | str | None = None) -> Dataset:
        """See Benchmark.load."""
        choose(languages or self.default_languages, self.languages)
        names = files("mbpp_x", "nl2code")
        source = open_source(data, HUB, names)
        problems = []
        for where, row in source.rows(names):
            tests, challenges = texts(row, "test", where), texts(row, "challenge_test_list", where)
            asked = f"{text(row, 'prompt_text_chinese', where)}你的代码必须能够通过这些测试用例:\n" + "\n".join(tests)
            problems.append(
                Problem(
                    task_id=text(row, "task_id", where),
                    language="python",
                    prompt="",
                    canonical_solution=text(row, "canonical_solution", where),
                    test="\n".join([text(row, "test_setup", where), *tests, *challenges]),
                    asked=asked,
                    entry_point=called(row["canonical_solution"], tests),
                )
            )
        return Dataset(unique(problems), source.sha256, source.described)

    def stop(self, problem: Problem) -> Stop:
        """Where a base model leaves the program; the published chat models end by themselves."""
        return MBPP_STOPS

    def program(self, problem: Problem, kept: Kept) -> Code:
        """CodeFuse's imports, the solution, all tests."""
        return assemble_plainly(problem, Kept(kept.before, kept.code, "codefuse"), problem.test)

    def programs(self, problem: Problem, completion: str, rules: str) -> tuple[Code, ...]:
        """CodeFuse has other rules for whole programs than for functions that are continued."""
        if rules == "codefuse":
            return (self.program(problem, codefuse.keep_block(completion)),)
        return super().programs(problem, completion, rules)


class CodeTranslation(Benchmark):
    """Translate a function between C++, Java and Python."""

    name = "codefuse-translation"
    about = "CodeFuseEval: six sets of code translation between C++, Java and Python"
    prompt_version = "codefuse-translation-v1"
    languages = PAIRS
    default_languages = ("python-cpp",)
    rules = ("codefuse", "raw", "sanitize")

    def load(self, languages: Sequence[str] = (), data: Path | str | None = None) -> Dataset:
        """See Benchmark.load; languages are pairs, such as python-cpp."""
        chosen = choose(languages or self.default_languages, self.languages, "pair")
        every = {pair: files("codeTrans_{}_to_{}".format(*pair.split("-")), "code_trans") for pair in PAIRS}
        source = open_source(data, HUB, [name for names in every.values() for name in names])
        problems = []
        for pair in chosen:
            first, second = pair.split("-")
            for where, row in source.rows(every[pair]):
                title, task = text(row, "func_title", where), text(row, "task_id", where)
                # The published prompt has this form and these names; the first comes from its command line.
                asked = (
                    f"# Translate the following {first} program to {second}\n# {first}\n{text(row, 'prompt', where)}\n"
                    f"# {second}\nThe result code must follow this function name :\n{title}\n"
                )
                problems.append(
                    Problem(
                        task_id=f"{pair}/{task.split('/')[-1]}",
                        language=second,
                        prompt="",
                        canonical_solution=text(row, "canonical_solution", where),
                        test=text(row, "test", where),
                        asked=asked,
                        group=f"{first} to {second}",
                        entry_point=_name(title),
                        aliases=(task,),
                    )
                )
        return Dataset(unique(problems), source.sha256, source.described)

    def stop(self, problem: Problem) -> Stop:
        """Where a base model goes on to something else; the published chat models end by themselves."""
        return TRANSLATION_STOPS

    def program(self, problem: Problem, kept: Kept) -> Code:
        """The solution stands by itself, with imports or headers before it."""
        code = f"{kept.code.rstrip()}\n"
        if problem.language == "python":
            return python_imports("codefuse", code + problem.test) + code, problem.test
        if problem.language == "cpp":
            using = [] if "using namespace std;" in code else ["using namespace std;"]
            # The proof that the tests ran is written behind their last statement, so `main` must not return before.
            tests = re.sub(r"return 0;\s*\}\s*\Z", "}\n", problem.test)
            return "\n".join([*missing_includes(""), *using, code]), tests
        return code, problem.test

    def programs(self, problem: Problem, completion: str, rules: str) -> tuple[Code, ...]:
        """CodeFuse's rules for translations: see `_keep`."""
        if rules == "codefuse":
            return (self.program(problem, Kept("", _keep(problem, completion), "codefuse")),)
        return super().programs(problem, completion, rules)


def _keep(problem: Problem, completion: str) -> str:
    """Python: blank lines go up to the first definition, which gets the right name. C++: what stands above `main()`."""
    lines = completion.split("\n")
    if problem.language == "python":
        begins = (n for n, line in enumerate(lines) if line.strip().startswith(("def ", "class ", "import ")))
        start = next(begins, len(lines))
        code = "\n".join([*(line for line in lines[:start] if line.strip()), *lines[start:]])
        named = re.search(r"def\s+(\w+)", code)
        if code.startswith(("def", "import")) and named and problem.entry_point not in ("", named[1]):
            code = re.sub(r"def\s+(\w+)", f"def {problem.entry_point}", code)
        return code
    if problem.language == "cpp":
        return "\n".join(lines[: next((n for n, line in enumerate(lines) if "main()" in line), len(lines))])
    return completion


def _name(title: str) -> str:
    """The function's name in a title such as `def f(a, b):` or `f`."""
    found = re.search(r"(\w+)\s*\(", title) or re.search(r"(\w+)\W*$", title)
    return found[1] if found else ""


CHINESE_HUMANEVAL = ChineseHumanEval()
CHINESE_MBPP = ChineseMbpp()
CODE_TRANSLATION = CodeTranslation()
