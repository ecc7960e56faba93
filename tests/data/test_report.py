"""The report of a corpus: every fact in its place, every reason explained, the same bytes from the same manifest."""

import ast
import hashlib
import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mindgeex.common.html import write_page
from mindgeex.data import report
from mindgeex.data.reasons import DROP_TEXT, STEPS
from mindgeex.data.report import TEXT_CHARS, WORD_CHARS, sections
from tests.data.test_summary import LONG, first_version, make_manifest

DATA = Path(__file__).parents[2] / "data"
SECTIONS = {
    "overview": report._overview,
    "composition": report._composition,
    "what each filter dropped": report._dropped,
    "syntax and cleanliness": report._scores,
    "files with low scores": report._sample,
    "copies": report._duplicates,
    "licences": report._licences,
    "secrets and personal data": report._redacted,
    "benchmarks": report._decontamination,
    "mixture": report._mixture,
    "tokenizer": report._tokenizer,
    "train and held-out": report._split,
}
"""Title -> what makes the section, in the order of the page; a page takes a second, a section far less."""


def words(node: ast.AST) -> Iterator[str]:
    """String literals an expression can give: not those it compares with."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*words(node.body), *words(node.orelse))
    elif isinstance(node, ast.BoolOp | ast.Tuple):
        parts = node.values if isinstance(node, ast.BoolOp) else node.elts
        yield from (word for part in parts for word in words(part))


def reasons_in(source: str) -> set[str]:
    """Reasons to drop a file in a module: in `Drop("word")`, `problem = "word"`, FATES, and what filters return."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Drop", "Member"):
            found.update(words(node.args[0 if node.func.id == "Drop" else 2]))
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("problem", "FATES"):
            found.update(words(node.value))
        elif isinstance(node, ast.FunctionDef) and is_filter(node):
            returns = (inner for inner in ast.walk(node) if isinstance(inner, ast.Return) and inner.value)
            found.update(word for inner in returns for word in words(inner.value))
    return found


def is_filter(function: ast.FunctionDef) -> bool:
    """Whether it gives a reason to drop a document, or None."""
    arguments = [ast.unparse(argument.annotation) for argument in function.args.args if argument.annotation]
    returns = ast.unparse(function.returns) if function.returns else ""
    return returns == "str | None" and (arguments == ["Document"] or function.name == "reason")


def all_reasons() -> set[str]:
    return set().union(*(reasons_in(path.read_text()) for path in DATA.rglob("*.py"))) - {"kept"}


def page_of(manifest: dict[str, Any], folder: Path) -> str:
    write_page(folder / "page.html", "Corpus", sections(manifest))
    return (folder / "page.html").read_text()


def section(manifest: dict[str, Any], title: str) -> str:
    """One section's HTML. Figures carry their texts as comments."""
    return "\n".join(SECTIONS[title](manifest).blocks)


def rows(text: str) -> list[list[str]]:
    """The cells of all tables."""
    found = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", text)]
    return [[html.unescape(cell) for cell in row] for row in found if row]


def figure_texts(text: str) -> list[str]:
    return [html.unescape(found) for found in re.findall(r"<!-- (.*?) -->", text)]


def test_every_reason_to_drop_a_file_has_a_meaning():
    found = all_reasons()
    assert {"few_letters", "not_utf8", "encrypted", "licence", "near_duplicate", "parse_timeout"} <= found
    assert found - set(DROP_TEXT) == set()


def test_no_meaning_is_left_of_a_reason_that_no_longer_exists():
    assert set(DROP_TEXT) - all_reasons() == set()


def test_no_reason_belongs_to_two_steps():
    assert sum(map(len, STEPS.values())) == len(DROP_TEXT)
    assert all(text and len(text) < 80 for text in DROP_TEXT.values())


@pytest.mark.parametrize(
    ("source", "reasons"),
    [
        ("Drop('one', repo, path)", {"one"}),
        ("Drop('one' if name == 'x' else 'two', repo, path)", {"one", "two"}),
        ("def check(d: Document) -> str | None:\n    return None if d.text == 'x' else 'three'", {"three"}),
        ("def other(d: str) -> str | None:\n    return 'no reason'", set()),
    ],
)
def test_the_search_for_reasons_finds_them(source, reasons):
    assert reasons_in(source) == reasons


def test_sections_stand_in_their_order_whatever_the_manifest_holds():
    for manifest in (make_manifest(), {}):
        assert [s.title for s in sections(manifest)] == [f"Corpus: {title}" for title in SECTIONS]


def test_the_same_manifest_gives_the_same_bytes_in_every_process(tmp_path):
    page = page_of(make_manifest(), tmp_path)
    assert page_of(json.loads(json.dumps(make_manifest())), tmp_path) == page
    (tmp_path / "manifest.json").write_text(json.dumps(make_manifest()))
    code = (
        "import json, pathlib, sys; from mindgeex.common.html import write_page; "
        "from mindgeex.data.report import sections; folder = pathlib.Path(sys.argv[1]); "
        "manifest = json.loads((folder / 'manifest.json').read_text()); "
        "write_page(folder / 'other.html', 'Corpus', sections(manifest))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=os.environ | {"PYTHONHASHSEED": "77"})
    digests = {hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("page.html", "other.html")}
    assert len(digests) == 1


def test_the_overview_tells_sources_and_what_each_step_left():
    text = section(make_manifest(), "overview")
    assert ["local:code", "7", "1,500,000", "120", "60", "50"] in rows(text)
    assert ["corpus:before (earlier corpus)", "2", "9,000,000", "", "", ""] in rows(text)
    shown = figure_texts(text)
    for step in ("150  (100 %)", "120  (80 %)", "110  (73.33 %)", "106  (70.67 %)", "103  (68.67 %)", "90  (60 %)"):
        assert step in shown
    assert "sampled" in shown and "licence allowed" not in shown  # nothing was dropped there


def test_a_merged_corpus_names_those_it_was_made_of():
    merged = make_manifest(merged_from=[{"name": "first"}, {"name": "second"}], config=None)
    assert "Merged from first, second." in section(merged, "overview")
    assert "Merged" not in section(make_manifest(), "overview")


def test_a_reason_nobody_knows_still_counts():
    documents = {"in": 10, "kept": 4, "dropped": {"new_rule": 5, "too_small": 1}, "examples": {}}
    shown = figure_texts(section(make_manifest(documents=documents), "overview"))
    assert "kept" in shown and "4  (40 %)" in shown
    assert ["new_rule", "5", "50", ""] in rows(section(make_manifest(documents=documents), "what each filter dropped"))


def test_the_composition_stands_beside_the_published_mix():
    text = section(make_manifest(), "composition")
    found = {row[0]: row[1:] for row in rows(text)}
    assert found["c"] == ["300,000", "100,000", "100,000", "3", "50", "6.72", "43.28"]
    assert found["rust"] == ["9,000", "10,000", "10,000", "0.9", "5", "", ""]
    assert found["others, together"] == ["29,000", "20,000", "30,000", "1.45", "15", "3.1", "11.9"]
    assert found["all"][:5] == ["969,000", "280,000", "200,000", "3.461", "100"]
    assert {"javascript", "others", "CodeGeeX's training mix, as published"} <= set(figure_texts(text))


def test_drops_have_their_meaning_and_whole_names_below():
    text = section(make_manifest(), "what each filter dropped")
    found = {row[0].partition(":")[0]: row for row in rows(text)}
    assert found["too_small"] == [
        f"too_small: {DROP_TEXT['too_small']}", "10", "6.67",
        "repo0: …/project/internal/Reader.java (312 bytes)",
    ]  # fmt: skip
    assert found["not_sampled"][-1] == ""
    assert LONG in text and "span of Python/3" in text
    assert "&lt;b&gt;&amp;.py" in text and "<b>" not in text


def test_scores_are_shown_for_the_largest_languages_with_the_thresholds():
    text = section(make_manifest(), "syntax and cleanliness")
    assert "87 files" in text and "python (57)" in figure_texts(text)
    assert text.count("stroke-dasharray: 3.7,1.6") == 4  # both scores of both
    many = {f"language{n:02}": {"syntax": [0] * 19 + [n], "cleanliness": [n] + [0] * 19} for n in range(1, 15)}
    text = section(make_manifest(analysis=many), "syntax and cleanliness")
    shown = figure_texts(text)
    assert "The 12 languages with most files, of 14" in text
    assert "language14 (14)" in shown and "language02 (2)" not in shown and shown.count("language03 (3)") == 2


def test_the_sample_begins_with_the_lowest_scores_and_ends_somewhere():
    found = rows(section(make_manifest(), "files with low scores"))
    assert found[0] == ["repo1: low.c", "c", "MIT", "12,345", "0.91", "0.41"]
    assert found[1][1:] == ["python", "", "", "1", "0.62"] and len(found) == 2
    one = make_manifest()["sample"][0]
    many = [one | {"path": f"{n:03}.py", "cleanliness": 1 - n / 1000} for n in range(100)]
    found = rows(section(make_manifest(sample=many), "files with low scores"))
    assert [row[0] for row in found] == [f"repo0: {n:03}.py" for n in range(99, 69, -1)]


def test_copies_name_what_was_kept_and_hide_no_name():
    text = section(make_manifest(), "copies")
    assert "13 copies, exact or near, of 2 files" in text
    assert rows(text)[1] == ["repo5: e.py", "1", "repo6: e.py"]
    assert f"repo0: {LONG}\n    repo2: b.c\n    repo3: c.c" in text


def test_rare_licences_are_counted_together():
    licences = {f"Licence-{n}": 100 - n for n in range(25)}
    found = rows(section(make_manifest(licences=licences), "licences"))
    assert len(found) == 21 and found[-1][:2] == ["5 others", str(sum(100 - n for n in range(20, 25)))]
    assert sum(float(row[2]) for row in found) == pytest.approx(100, abs=0.2)


def test_redactions_hits_and_the_mixture_are_counted():
    assert rows(section(make_manifest(), "secrets and personal data")) == [["email", "4"], ["aws_key", "1"]]
    text = section(make_manifest(), "benchmarks")
    assert rows(text) == [["humaneval-x", "820", "4"], ["mbpp", "500", "0"]] and "decontamination.jsonl" in text
    text = section(make_manifest(), "mixture")
    assert ["lua", "20", "11.11", "10,000", "40,000", "20,000", "2"] in rows(text)
    assert 'class="warning">Too little of lua' in text


def test_the_tokenizer_has_its_facts_and_bytes_a_token_by_language():
    text = section(make_manifest(), "tokenizer")
    assert ["vocabulary", "4,096"] in rows(text) and ["origin", "trained on this corpus's train split"] in rows(text)
    assert {"python", "4.00", "rust", "0.90"} <= set(figure_texts(text))


def test_the_splits_are_told_and_a_missing_one_is_a_warning():
    text = section(make_manifest(), "train and held-out")
    assert ["heldout", "5", "49,000", "20,000", "20,000", "9", "1"] in rows(text) and "warning" not in text
    assert "Nothing is held out" in section(first_version(), "train and held-out")


def test_a_manifest_of_the_first_version_shows_what_it_has():
    assert ["local:code", "", "", "", "", ""] in rows(section(first_version(), "overview"))
    assert "code: a.py" in section(first_version(), "what each filter dropped")


def test_what_is_absent_is_said_in_one_sentence():
    off = make_manifest(analysis={}, sample=[], duplicates={}, licences={}, redacted={}, decontamination={}, mixture={})
    for title in list(SECTIONS)[3:10]:
        text = section(off, title)
        assert text.count("<p>") == 1 and "<table" not in text and "<svg" not in text and text.endswith(".</p>")


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(list(SECTIONS)), st.sets(st.sampled_from(sorted(make_manifest()))))
def test_any_key_may_be_absent(title, absent):
    assert section({key: value for key, value in make_manifest().items() if key not in absent}, title)


@settings(max_examples=60, deadline=None)
@example(f"repo: {LONG}")
@given(st.text(st.sampled_from("ab/ .…"), max_size=TEXT_CHARS * 2))
def test_a_text_is_cut_to_short_words_that_end_as_they_ended(text):
    cut = report._cut(text)
    assert all(len(word) <= WORD_CHARS + 2 for word in cut.split(" "))
    assert len(cut) <= TEXT_CHARS + 1
    if len(text) <= TEXT_CHARS:
        ends = [(old, new) for old, new in zip(text.split(" "), cut.split(" "), strict=True) if old != new]
        assert all(new.startswith("…") and old.endswith(new[1:]) and len(new) > 1 for old, new in ends)


def test_a_built_corpus_has_a_report_of_its_own(built, tmp_path):
    page = page_of(built.manifest, tmp_path)
    assert page == (built.folder / "report.html").read_text()
    for words_ in ("<svg", "few_letters", "repo0/bad/large.py", "CodeGeeX"):
        assert words_ in page
    unexplained = set(built.manifest["documents"]["dropped"]) - set(DROP_TEXT)
    assert unexplained == set()
