import gzip
import io
import json
import pickle
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.data.document import Document, Drop
from mindgeex.data.languages import TAGS, canonical
from mindgeex.data.sources import RepositoryRules, open_source, rows
from mindgeex.data.sources.datasets import language_named

ALL = frozenset(map(canonical, TAGS)) | {"chinese", "english"}
PYTHON = """\
import os


def main(path):
    if path is None:
        return os.getcwd()
    for name in os.listdir(path):
        print(name)
"""


def lines(*values: Any) -> bytes:
    return b"".join(value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n" for value in values)


def github(text: Any, **meta: Any) -> dict[str, Any]:
    return {"text": text, "meta": {"pile_set_name": "Github", **meta}}


def read(
    spec: str, languages: frozenset[str] = ALL, wanted=lambda repo, path: True, **rules: int
) -> list[Document | Drop]:
    source = pickle.loads(pickle.dumps(open_source(spec, languages, RepositoryRules(**rules))))
    return [item for part in source.parts() for item in source.read(pickle.loads(pickle.dumps(part)), wanted)]


def read_bytes(folder: Path, kind: str, raw: bytes, name: str = "00.jsonl", **options: Any) -> list[Document | Drop]:
    (folder / name).write_bytes(raw)
    return read(f"{kind}:{folder / name}", **options)


def parquet(columns: dict[str, Any], row_group: int = 3) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), out, row_group_size=row_group)
    return out.getvalue()


def reasons(items: list[Document | Drop]) -> list[str | None]:
    return [getattr(item, "reason", None) for item in items]


def test_the_pile_s_code_is_read_and_its_other_sets_are_not(tmp_path):
    raw = lines(github(PYTHON), {"text": "Once upon a time", "meta": {"pile_set_name": "Books3"}}, github("nothing"))
    document, other, unknown = read_bytes(tmp_path, "pile", raw)
    assert document == Document(PYTHON, "python", document.repo, "")
    assert document.repo.startswith("pile/") and len(document.repo) == 21
    assert (other.reason, other.detail) == ("other_set", "Books3")
    assert unknown.reason == "unknown_language"


def test_the_pile_s_meta_is_used_where_it_says_more(tmp_path):
    row = github("x = 1", repo_name="a/b", path="c/d.py", stars=101, license="mit")
    few = github(PYTHON, repo_name="a/b", stars=100)
    named = github("puts 1", repository="c/d", language="Ruby")
    assert read_bytes(tmp_path, "pile", lines(row, few, named)) == [
        Document("x = 1", "python", "a/b", "c/d.py", "MIT", 101),
        Drop("few_stars", "a/b", "", "100 stars"),
        Document("puts 1", "ruby", "c/d", ""),
    ]
    assert reasons(read_bytes(tmp_path, "pile", lines(few), pile_min_stars=10)) == [None]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_compression_changes_nothing(tmp_path, ending):
    raw = lines(*(github(PYTHON + f"# {number}\n") for number in range(5)))
    packed = {"jsonl": raw, "jsonl.gz": gzip.compress(raw), "jsonl.zst": zstandard.compress(raw)}[ending]
    items = read_bytes(tmp_path, "pile", packed, f"00.{ending}")
    assert [item.text for item in items] == [PYTHON + f"# {number}\n" for number in range(5)]


def test_bad_rows_are_named_by_their_line_and_cost_no_other(tmp_path):
    raw = lines(
        b"not json\n",
        b"\n",
        [1],
        {"text": PYTHON},
        github(7),
        github("a\0b"),
        b'{"text": "\\ud800", "meta": {"pile_set_name": "Github"}}\n',
        b'{"text": "\xff", "meta": {}}\n',
        b"[" * 100_000 + b"\n",
        b'{"text": ' + b"9" * 5000 + b"}\n",
        {"meta": {"pile_set_name": "Github"}},
        github("\ufeff" + PYTHON),
    )
    *drops, last = read_bytes(tmp_path, "pile", raw)
    assert {(drop.reason, drop.repo, drop.path) for drop in drops} == {("bad_row", "pile", "00.jsonl")}
    details = [drop.detail for drop in drops]
    assert [detail.partition(":")[0] for detail in details] == [f"line {n}" for n in (1, 3, 4, 5, 6, 7, 8, 9, 10, 11)]
    assert [detail.partition(": ")[2] for detail in details[1:6]] == [
        "list, not an object",
        "no meta",
        "text is int, not text",
        "text holds NUL",
        "text holds half a character at 0",
    ]
    assert last.text == PYTHON


def test_a_line_beyond_the_limit_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "LINE_BYTES", 500)
    raw = lines(github("a" * 1000), github(PYTHON), github("b" * 5000))
    assert reasons(read_bytes(tmp_path, "pile", raw)) == ["bad_row", None, "bad_row"]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_file_cut_anywhere_gives_its_whole_rows_and_says_that_it_is_cut(tmp_path, pack):
    rng = [f"{PYTHON}# {number * 7919 % 1000003}\n" for number in range(40)]
    whole = pack(lines(*map(github, rng)))
    for cut in range(1, len(whole), max(1, len(whole) // 60)):
        *items, last = read_bytes(tmp_path, "pile", whole[:cut], "00.jsonl.x")
        assert [item.text for item in items] == rng[: len(items)], cut
        assert last.reason == ("corrupt_file" if cut > 6 else "bad_row"), cut


def test_codeparrot_s_columns(tmp_path):
    row = {"repo_name": "a/b", "path": "x/c.py", "copies": "3", "size": "5", "content": "x = 1", "license": "gpl-2.0"}
    variant = {"repo_name": "a/b", "path": "Makefile", "code": "all:\n", "language": "Makefile", "license": "mit"}
    unnamed = {"repo_name": "a/b", "path": "x", "code": "class A {}", "language": "C++", "license": "unknown"}
    assert read_bytes(tmp_path, "codeparrot", gzip.compress(lines(row, variant, unnamed, {"path": "a.py"}))) == [
        Document("x = 1", "python", "a/b", "x/c.py", "GPL-2.0-only"),
        Drop("other_language", "a/b", "Makefile", "makefile"),
        Document("class A {}", "cpp", "a/b", "x"),
        Drop("bad_row", "codeparrot", "00.jsonl", "line 4: no content or code"),
    ]


def test_parquet_gives_what_lines_of_json_give(tmp_path):
    table = [{"repo_name": f"a/{n}", "path": f"{n}.py", "content": f"x = {n}\r\n", "license": "mit"} for n in range(10)]
    columns = {key: [row[key] for row in table] for key in table[0]}
    here = read_bytes(tmp_path, "codeparrot", lines(*table))
    assert len(here) == 10 and reasons(here) == [None] * 10
    assert read_bytes(tmp_path, "codeparrot", parquet(columns), "0.parquet") == here
    columns["license"] = pyarrow.array(columns["license"]).dictionary_encode()
    columns["content"] = pyarrow.array(columns["content"], pyarrow.large_string())
    assert read_bytes(tmp_path, "codeparrot", parquet(columns), "0.parquet") == here
    pile = {"text": [PYTHON], "meta": [{"pile_set_name": "Github", "stars": 500}]}
    assert read_bytes(tmp_path, "pile", parquet(pile), "0.parquet")[0].stars == 500


def test_bad_rows_of_parquet_are_named(tmp_path):
    texts = pyarrow.array([b"x = 1", b"\xff\xfe", None, b"a\0"], pyarrow.binary()).view(pyarrow.string())
    raw = parquet({"content": texts, "path": ["a.py"] * 4})
    first, *bad = read_bytes(tmp_path, "codeparrot", raw, "0.parquet")
    assert first.text == "x = 1" and reasons(bad) == ["bad_row"] * 3
    assert [drop.detail.partition(":")[0] for drop in bad] == ["line 2", "line 3", "line 4"]
    numbers = read_bytes(tmp_path, "codeparrot", parquet({"content": [1, 2]}), "0.parquet")
    assert [drop.detail for drop in numbers] == [f"line {n}: content is int, not text" for n in (1, 2)]


def test_a_cut_parquet_file_is_one_drop(tmp_path):
    raw = parquet({"content": [f"x = {n}" for n in range(50)], "path": ["a.py"] * 50})
    for cut in range(4, len(raw), max(1, len(raw) // 40)):
        (item,) = read_bytes(tmp_path, "codeparrot", raw[:cut], "0.parquet")
        assert (item.reason, item.path) == ("corrupt_file", "0.parquet")


def test_a_folder_s_files_are_read_in_sorted_order_from_disk_or_a_url(tmp_path):
    memory = fsspec.filesystem("memory")
    for name in ("b/2.json.gz", "a.parquet", "c.jsonl", "notes.md"):
        row = {"repo_name": name, "path": "a.py", "content": "x = 1"}
        raw = parquet({key: [value] for key, value in row.items()}) if name.endswith("parquet") else lines(row)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(raw)
        memory.pipe(f"/rows/{name}", raw)
    here = read(f"codeparrot:{tmp_path}")
    assert [item.repo for item in here] == ["a.parquet", "b/2.json.gz", "c.jsonl"]
    assert read("codeparrot:memory://rows") == read(f"codeparrot:file://{tmp_path}") == here
    assert read(f"codeparrot:{tmp_path}/*.jsonl") == here[2:]


def test_the_sample_and_the_languages_are_asked(tmp_path):
    raw = lines(
        *({"repo_name": "r", "path": f"{n}.py", "content": "x"} for n in range(3)), {"path": "a.c", "content": "x"}
    )
    items = read_bytes(
        tmp_path, "codeparrot", raw, languages=frozenset({"python"}), wanted=lambda repo, path: path != "1.py"
    )
    assert reasons(items) == [None, "not_sampled", None, "other_language"]


def test_prose_has_the_language_it_names(tmp_path):
    table = [
        {"text": "Once upon a time", "language": "english"},
        {"content": "\u4ece\u524d\u6709\u5ea7\u5c71", "language": "zh"},
        {"text": "Es war einmal", "language": "german"},
    ]
    english, chinese, german = read_bytes(tmp_path, "jsonl", lines(*table))
    assert (english.language, chinese.language, german.reason) == ("english", "chinese", "other_language")
    assert english.repo.startswith("jsonl/") and english.repo != chinese.repo


def test_prose_without_a_language_is_told_by_its_characters(tmp_path):
    rows = [
        {"text": "\u4ece\u524d\u6709\u5ea7\u5c71\uff0c\u5c71\u91cc\u6709\u5ea7\u5e99\u3002" * 20},
        {"text": "Once upon a time. " * 20},
    ]
    assert [item.language for item in read_bytes(tmp_path, "jsonl", lines(*rows))] == ["chinese", "english"]


@pytest.mark.parametrize(
    ("name", "key"),
    [("C++", "cpp"), ("C-Sharp", "csharp"), ("GO", "go"), ("FORTRAN", "fortran"), ("Visual Basic", "vb"),
     ("TeX", "tex"),
     ("css", "css"), ("HTML", "html"), ("Markdown", "markdown"), ("Objective-C", "objective-c"), ("Delphi", "delphi"),
     ("zh", "chinese"), ("Dockerfile", "dockerfile")],
)  # fmt: skip
def test_the_names_data_sets_have_for_languages_are_known(name, key):
    assert language_named(name) == key


@pytest.mark.parametrize("kind", ["pile", "codeparrot", "jsonl"])
def test_a_place_without_rows_is_named(tmp_path, kind):
    with pytest.raises(UserError, match=f"--source {kind}:{tmp_path}: holds no file named .*jsonl.zst"):
        read(f"{kind}:{tmp_path}")
    with pytest.raises(UserError, match=f"--source {kind}:{tmp_path}/x: no such file or folder"):
        read(f"{kind}:{tmp_path}/x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["text", "content", "meta", "pile_set_name", "stars", "path", "language"]), inner
        )
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(JSON | st.binary(max_size=40), max_size=6), kind=st.sampled_from(["pile", "codeparrot"]))
def test_every_line_of_anything_is_accounted_for(tmp_path, values, kind):
    parts = [value.replace(b"\n", b"") if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    raw = b"".join(part + b"\n" for part in parts)
    items = read_bytes(tmp_path, kind, b" \n" + raw)  # a beginning that no compressed file has
    assert len(items) == sum(not part.isspace() for part in parts if part)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.none() | st.text(max_size=30) | st.binary(max_size=30), max_size=12), group=st.integers(1, 5))
def test_every_row_of_any_parquet_file_is_accounted_for(tmp_path, texts, group):
    raw = [
        None if text is None else text if isinstance(text, bytes) else text.encode("utf-8", "replace") for text in texts
    ]
    for kind in (pyarrow.binary(), pyarrow.string()):
        column = pyarrow.array(raw, pyarrow.binary()).view(kind)
        items = read_bytes(
            tmp_path, "codeparrot", parquet({"content": column, "path": ["a.py"] * len(raw)}, group), "0.parquet"
        )
        assert len(items) == len(raw)
        for text, item in zip(raw, items, strict=True):
            if isinstance(item, Document):
                assert text is not None and item.text == text.decode().removeprefix("\ufeff")
            else:
                assert item.reason == "bad_row"
