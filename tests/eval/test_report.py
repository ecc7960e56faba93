"""What is said about a run: lines, manifest, page."""

import json
from pathlib import Path

import pytest

from mindgeex.eval import report
from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.runner import Run, run
from tests.eval.completers import Recital

RULES = ("codegeex", "raw")
pytestmark = [pytest.mark.toolchain, pytest.mark.usefixtures("sandbox")]


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> Run:
    """Three problems solved always, three never; one answer tries to break the page."""
    nothing = ["    return None  # <script>alert('x')</script>\n"]
    completer = Recital({"Python/0": nothing, "Python/2": nothing, "Python/4": nothing})
    folder = tmp_path_factory.mktemp("half")
    return run(HUMANEVAL_X, HUMANEVAL_X.load(), folder, completer=completer, num_samples=10, seed=5, rules=RULES)


def zero(folder: Path, completion: str) -> Run:
    nothing = {f"Python/{number}": [completion] for number in range(6)}
    return run(HUMANEVAL_X, HUMANEVAL_X.load(), folder, completer=Recital(nothing), rules=RULES)


def test_a_score_is_said_with_its_error_and_its_circumstances(half):
    lines = report.lines(half)
    assert lines[0] == "python: 6/6 canonical solutions pass"
    about = "6 problems, n=10, T=0.2, prompts codegeex-v1, kept by codegeex-v1"
    assert lines[1] == f"  pass@1 = 50.0 ± 22.4 ({about})"
    assert lines[2] == "  pass@1 by post-processing: codegeex 50.0, raw 50.0"
    assert lines[3].startswith("  pass@10 = 50.0 ± 22.4")
    assert len(lines) == 4


def test_the_manifest_says_what_the_score_depends_on(half):
    report.write(half)
    manifest = json.loads((half.folder / "score.json").read_text())
    scores = manifest["scores"]["python"]
    assert scores["codegeex"]["pass@1"] == scores["raw"]["pass@1"]
    assert scores["codegeex"]["pass@1"] == {
        "mean": 0.5,
        "standard_error": pytest.approx(0.2236, abs=1e-4),
        "problems": 6,
        "low": pytest.approx(1 / 6, abs=1e-9),
        "high": pytest.approx(5 / 6, abs=1e-9),
    }
    assert manifest["problems"]["codegeex"]["Python/0"] == [0.0, 10]
    assert manifest["problems"]["codegeex"]["Python/1"] == [10.0, 10]
    assert manifest["scores"]["python"]["verdicts"] == {"passed": 30, "wrong answer": 30}
    assert len(manifest["data"]["sha256"]["humaneval_python.jsonl"]) == 64
    for key in ("prompt_version", "post_processing", "model", "seed", "limits", "toolchains", "sandbox", "versions"):
        assert manifest[key], key
    assert manifest["excluded"] == {}
    executing = manifest["stages"]["executing"]
    assert executing["programs"] == 6 and executing["cpu_s"] > 0 and executing["wall_s"] > 0
    assert executing["engines"] == [{"kind": "local", "workers": 2}] and executing["machines"][0]["cores"] > 0
    assert manifest["stages"]["canonical solutions"]["programs"] == 6 and "generating" in manifest["stages"]
    calibration = manifest["calibration"]["python"]
    assert calibration["cpu_limit_s"]["least"] >= manifest["limits"]["cpu_s"]
    assert 0 < calibration["canonical_cpu_s"]["median"] <= calibration["canonical_cpu_s"]["most"]


def test_the_page_shows_every_sample_and_is_not_broken_by_one(half):
    page = report.write(half).read_text()
    assert "50.0 ± 22.4" in page
    assert page.count("<details>") == 61  # each sample, and the table of problems
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "<svg" in page
    assert "what the sandbox said" in page


def test_a_score_of_nothing_is_said_plainly(tmp_path):
    done = zero(tmp_path, "    return None\n")
    assert (
        "  0 of 6 problems solved: the model wrote no program that passes its tests (6 x wrong answer)"
        in report.lines(done)
    )
    assert 'class="warning"' in report.write(done).read_text()


def test_a_model_that_writes_nothing_that_counts_is_said_to(tmp_path):
    lines = report.lines(zero(tmp_path, "\n"))
    assert any("the model wrote nothing, or left the function at once" in line for line in lines)


def test_a_page_of_canonical_solutions_has_no_scores(tmp_path):
    done = run(HUMANEVAL_X, HUMANEVAL_X.load(), tmp_path)
    assert report.lines(done) == ["python: 6/6 canonical solutions pass"]
    page = report.write(done).read_text()
    assert "Canonical solutions" in page and "<details>" not in page
