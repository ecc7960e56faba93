"""What is said about a run: lines, manifest, page."""

import base64
import dataclasses
import gzip
import itertools
import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mindgeex.eval.benchmarks.benchmark import ALL_RULES
from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
from mindgeex.eval.benchmarks.source import SHIPPED
from mindgeex.eval.benchmarks.translation import PAPER_PAIRS, TRANSLATION
from mindgeex.eval.reports import page, report
from mindgeex.eval.reports.published import TRANSLATION as TRANSLATED
from mindgeex.eval.reports.published import published
from mindgeex.eval.reports.scores import curve
from mindgeex.eval.runner import Run, run
from tests.eval.completers import Recital

PLAIN = ' type="text/plain"'
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
    page.write(half)
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
    for key in ("prompt_version", "post_processing", "model", "seed", "limits", "toolchains", "sandbox"):
        assert manifest[key], key
    assert manifest["excluded"] == {}
    executing = manifest["stages"]["executing"]
    assert executing["programs"] == 6 and executing["cpu_s"] > 0 and executing["wall_s"] > 0
    assert executing["engines"] == [{"kind": "local", "workers": 2}] and executing["machines"][0]["cores"] > 0
    assert executing["versions"][0]["mindgeex"]
    assert manifest["stages"]["canonical solutions"]["programs"] == 6 and "generating" in manifest["stages"]
    calibration = manifest["calibration"]["python"]
    assert calibration["cpu_limit_s"]["least"] >= manifest["limits"]["cpu_s"]
    assert 0 < calibration["canonical_cpu_s"]["median"] <= calibration["canonical_cpu_s"]["most"]


def test_the_page_shows_every_sample_and_is_not_broken_by_one(half):
    shown = page.write(half).read_text()
    assert "50.0 ± 22.4" in shown
    assert "<script>alert" not in shown and "CodeGeeX-13B (published)" in shown
    assert shown.count("<svg") == 2
    assert not re.search(r"(?:src|href)=[\"'](?!#)", shown)  # nothing from elsewhere
    samples = packed(shown)
    assert len(samples["records"]) == 60
    first = {name: samples["texts"][place] for [[name, place]] in samples["records"][0]["rows"]}
    assert first["completion"] == "    return None  # <script>alert('x')</script>\n"
    assert first["prompt"].startswith("# language: Python\n")
    assert first["completion"] in first["program, without its tests, as codegeex, raw have it"]
    assert first["what the sandbox said"].startswith("wrong answer: AssertionError")


def packed(shown: str) -> dict[str, Any]:
    """The samples in a page."""
    match = re.search(r'<script type="text/plain">(.*?)</script>', shown)
    assert match is not None
    return json.loads(gzip.decompress(base64.b64decode(match[1])))


BROWSER = """
class Element {
  constructor(name) { this.name = name; this.children = []; this.heard = {}; this.value = ""; this.textContent = ""; }
  append(child) { this.children.push(child); child.parent = this; }
  replaceChildren() { this.children = []; }
  remove() { this.parent.children.splice(this.parent.children.indexOf(this), 1); }
  addEventListener(name, heard) { this.heard[name] = heard; }
  querySelector(name) { return parts[name]; }
}
const parts = Object.fromEntries(["input", "select", "p", "div", "script"].map((name) => [name, new Element(name)]));
parts.script.textContent = PACKED;
globalThis.document = { createElement: (name) => new Element(name), querySelectorAll: () => [new Element("div")] };
SCRIPT
setTimeout(() => {
  const { input, select: kinds, p, div } = parts, told = [];
  const tell = () => told.push([p.textContent, div.children.length]);
  tell();
  div.children.at(-1).heard.click();
  tell();
  input.value = "ALERT none"; input.heard.input();
  tell();
  kinds.value = "passed"; kinds.heard.change();
  tell();
  input.value = ""; input.heard.input();
  tell();
  const one = div.children[0];
  one.heard.toggle();
  console.log(JSON.stringify([told, one.children.map((child) => child.name)]));
}, 300);
"""


def test_samples_are_found_by_words_and_verdicts_in_the_page(half, tmp_path):
    """The page's script runs in Node with just enough of a document."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed: apt-get install nodejs")
    shown = page.write(half).read_text()
    content, script = (re.search(rf"<script{kind}>(.*?)</script>", shown, re.DOTALL)[1] for kind in (PLAIN, ""))
    (tmp_path / "page.js").write_text(BROWSER.replace("PACKED", json.dumps(content)).replace("SCRIPT", script))
    done = subprocess.run(["node", tmp_path / "page.js"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told, parts = json.loads(done.stdout)
    all_of_them, wrong, none, passed = "60 of 60", "30 of 60", "0 of 60", "30 of 60"
    assert told == [[all_of_them, 51], [all_of_them, 60], [wrong, 30], [none, 0], [passed, 30]]  # 50 and a button first
    assert parts == ["summary", *["div"] * 4]


def test_a_page_of_164_problems_with_20_samples_is_small_enough_to_open(half):
    """Texts of a real length under every post-processing: a few MB."""
    problems = tuple(
        dataclasses.replace(half.problems[number % 6], task_id=f"Python/{number}") for number in range(164)
    )
    words = [problem.canonical_solution for problem in half.problems]
    rows = []
    for problem, sample, name in itertools.product(problems, range(20), ALL_RULES):
        body = f"    # {random.Random(f'{problem.task_id}/{sample}').randbytes(150).hex()}\n{words[sample % 6]}" * 2
        rows.append({
            "task_id": problem.task_id, "sample": sample, "rules": name, "completion": body, "score": float(sample % 2),
            "program": f"{problem.prompt}{body}# {name}\n", "verdict": "passed" if sample % 2 else "exception",
            "reason": "NameError", "output": "Traceback of the program\n" * 20, "cpu_s": 0.05, "wall_s": 0.06,
        })  # fmt: skip
    settings = {**half.settings, "num_samples": 20, "post_processing": dict.fromkeys(ALL_RULES, "v1")}
    big = dataclasses.replace(half, problems=problems, settings=settings, canonical={}, results=tuple(rows))
    shown = "".join(block for section in page.sections(big) for block in section.blocks)
    assert len(packed(shown)["records"]) == 164 * 20
    assert len(shown) < 6_000_000


def test_published_figures_are_those_of_the_row():
    assert published("humaneval-x", "python") == {"CodeGeeX-13B": {"pass@1": 22.9, "pass@10": 39.6, "pass@100": 60.9}}
    assert published("humaneval-x", "rust") == {"CodeGeeX-13B": {"pass@1": 4.3}}
    pair = published("humaneval-x-translation", "Java to C++")
    assert pair["CodeGeeX-13B"]["pass@1"] == 39.33 and pair["CodeGeeX-13B-FT"]["pass@100"] == 75.40
    assert published("mbpp", "python") == published("humaneval-x-translation", "Rust to Go") == {}
    rows = {problem.row for problem in TRANSLATION.load(PAPER_PAIRS).problems}
    assert rows == TRANSLATED.keys()


def test_a_curve_is_pass_at_k_for_every_k(half):
    points = curve(half, "python", "codegeex")
    assert [k for k, _ in points] == list(range(1, 11)) and all(share == 50.0 for _, share in points)


def test_a_score_of_nothing_is_said_plainly(tmp_path):
    done = zero(tmp_path, "    return None\n")
    assert (
        "  0 of 6 problems solved: the model wrote no program that passes its tests (6 x wrong answer)"
        in report.lines(done)
    )
    assert 'class="warning"' in page.write(done).read_text()


def test_a_model_that_writes_nothing_that_counts_is_said_to(tmp_path):
    lines = report.lines(zero(tmp_path, "\n"))
    assert any("the model wrote nothing, or left the function at once" in line for line in lines)


def test_a_page_of_canonical_solutions_has_no_scores(tmp_path):
    done = run(HUMANEVAL_X, HUMANEVAL_X.load(), tmp_path)
    assert report.lines(done) == ["python: 6/6 canonical solutions pass"]
    shown = page.write(done).read_text()
    assert "Canonical solutions" in shown and not re.search(r"<script|pass@1|<h2>(Samples|Each problem)", shown)


def test_known_errors_of_the_data_are_named_beside_the_score(tmp_path):
    """A program that passes may mean nothing there, and one that fails neither."""
    data = tmp_path / "data"
    data.mkdir()
    rows = [json.loads(line) for line in (SHIPPED / "humaneval_js.jsonl").read_text().splitlines()[:2]]
    rows[1]["task_id"] = "JavaScript/155"
    (data / "humaneval_js.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(HUMANEVAL_X, HUMANEVAL_X.load(["js"], data), tmp_path / "out")
    assert report.lines(done)[1].startswith(
        "  known error of the data: JavaScript/155: its own solution is wrong in the"
    )
    assert report.manifest(done)["known_defects"].keys() == {"JavaScript/155"}
    assert "Known errors of the data" in page.write(done).read_text()
    translated = {problem.task_id.split("/")[0]: problem for problem in TRANSLATION.load(["python-go"]).problems}
    problem = dataclasses.replace(translated["python-go"], aliases=("Python/95", "Go/95"))
    assert TRANSLATION.is_flaky(problem) and "order of a map" in str(TRANSLATION.known_defect(problem))
