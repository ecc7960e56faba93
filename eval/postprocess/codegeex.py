"""CodeGeeX's published rules, bug for bug (codegeex/benchmark: cleanup_code, and the cut of process_humaneval_test).

Kept as they are: Python is cut at the *last* of each mark, then before the first line in column 0, so a completion that
begins in column 0 is lost whole; Java is cut at any `public static void main` and closed by a brace; braces in comments
and texts count as any others. Rust has no published rule; the one for braces is used.
"""

from mindgeex.eval.problem import Kept, Problem
from mindgeex.model_zoo.decoding.stops import FUNCTION_ENDS, end_of

PYTHON_CUTS = ("\ndef", "\nclass", "\nif", "\n#", "\nprint", "\nassert")


def keep(problem: Problem, completion: str) -> Kept:
    """What the rules of the problem's language leave."""
    return Kept(problem.prompt, _KEEP[problem.language](completion))


def _keep_python(text: str) -> str:
    for mark in PYTHON_CUTS:
        if mark in text:
            text = text[: text.rfind(mark)]
    return text[: end_of(FUNCTION_ENDS["python"], text)]


def _keep_java(text: str) -> str:
    main = text.find("public static void main")
    if main != -1:
        text = text[:main] + "}"
    text = _keep_braces(text)
    return text + "\n}" if text.count("{") + 1 == text.count("}") else text


def _keep_go(text: str) -> str:
    for mark in ("\n//", "\nfunc main("):
        if mark in text:
            text = text[: text.rfind(mark)]
    return _keep_braces(text)


def _keep_braces(text: str) -> str:
    return text[: text.rfind("}")] + "}" if "}" in text else text


_KEEP = {
    "python": _keep_python,
    "cpp": _keep_braces,
    "java": _keep_java,
    "javascript": _keep_braces,
    "go": _keep_go,
    "rust": _keep_braces,
}
