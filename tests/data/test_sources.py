import gzip
import json
import os
import pickle
import sysconfig
import zipfile
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.data.document import Document, Drop
from mindgeex.data.sources import RepositoryRules, open_source
from mindgeex.data.sources import local as local_module
from mindgeex.data.sources.local import default_sources
from mindgeex.data.sources.text import decode

ALL = frozenset({"python", "c", "cpp"})


def read_all(root: Path, languages=ALL, wanted=lambda repo, path: True) -> list[Document | Drop]:
    source = open_source(f"local:{root}", languages)
    return [item for part in source.parts() for item in source.read(part, wanted)]


def write(path: Path, text: str = "x = 1\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_repository_is_the_first_folder_and_the_order_is_sorted(tmp_path):
    root = tmp_path / "site-packages"
    for name in (
        "zlib/a.py",
        "alpha/sub/b.py",
        "alpha/a.py",
        "single.py",
        "alpha/__pycache__/c.py",
        "b/site-packages/x.py",
    ):
        write(root / name)
    items = read_all(root)
    assert [(item.repo, item.path) for item in items] == [
        ("site-packages/alpha", "alpha/a.py"),
        ("site-packages/alpha", "alpha/sub/b.py"),
        ("site-packages", "single.py"),
        ("site-packages/zlib", "zlib/a.py"),
    ]
    assert all(isinstance(item, Document) and item.language == "python" and item.text == "x = 1\n" for item in items)


def test_a_git_checkout_is_one_repository(tmp_path):
    write(tmp_path / "work" / "group" / "project" / "pkg" / "a.py")
    (tmp_path / "work" / "group" / "project" / ".git").mkdir()
    write(tmp_path / "work" / "group" / "other.py")
    assert [item.repo for item in read_all(tmp_path / "work")] == ["work/group", "work/group/project"]
    checkout = tmp_path / "work" / "group" / "project"
    write(checkout / "tests" / "b.py")
    assert {item.repo for item in read_all(checkout)} == {"project"}


def test_parts_do_not_change_what_is_read(tmp_path, monkeypatch):
    for number in range(30):
        write(tmp_path / "r" / f"f{number:02d}.py", f"x = {number}\n" * number)
    whole = read_all(tmp_path)
    monkeypatch.setattr(local_module, "PART_BYTES", 500)
    monkeypatch.setattr(local_module, "PART_FILES", 4)
    source = open_source(f"local:{tmp_path}", ALL)
    assert len(list(source.parts())) > 7
    assert read_all(tmp_path) == whole and len(whole) == 30


def test_header_in_an_unwanted_language_is_dropped(tmp_path):
    write(tmp_path / "a.h", "int f(void);\n")
    write(tmp_path / "b.h", "namespace x {}\n")
    items = read_all(tmp_path, frozenset({"c"}))
    assert [type(item) for item in items] == [Document, Drop]
    assert items[1] == Drop("other_language", tmp_path.name, "b.h")


def test_files_that_are_not_text_are_dropped_by_name(tmp_path):
    (tmp_path / "latin.py").write_bytes("# é".encode("latin-1"))
    (tmp_path / "nul.py").write_bytes(b"a\0b")
    (tmp_path / "crlf.py").write_bytes(b"a\r\nb")
    assert read_all(tmp_path) == [
        Document("a\r\nb", "python", tmp_path.name, "crlf.py"),
        Drop("not_utf8", tmp_path.name, "latin.py"),
        Drop("not_utf8", tmp_path.name, "nul.py"),
    ]


def test_a_huge_file_is_dropped_without_reading_it(tmp_path):
    with (tmp_path / "huge.c").open("wb") as file:
        file.truncate(1 << 40)
    assert read_all(tmp_path) == [Drop("too_large", tmp_path.name, "huge.c")]


def test_symbolic_links(tmp_path):
    write(tmp_path / "r" / "a.py")
    (tmp_path / "r" / "link.py").symlink_to("a.py")
    (tmp_path / "r" / "broken.py").symlink_to("nowhere.py")
    (tmp_path / "r" / "loop").symlink_to(tmp_path)
    (tmp_path / "r" / "self.py").symlink_to("self.py")
    *documents, circle = read_all(tmp_path)
    assert [item.path for item in documents] == ["r/a.py", "r/link.py"]
    assert circle == Drop("unreadable", f"{tmp_path.name}/r", "r/self.py")


def test_a_file_name_that_is_not_utf8(tmp_path):
    root = tmp_path / os.fsdecode(b"caf\xe9")
    write(root / os.fsdecode(b"caf\xe9.py"))
    (item,) = read_all(root)
    assert item == Document("x = 1\n", "python", "caf\ufffd", "caf\ufffd.py")


def test_unwanted_files_are_not_read(tmp_path):
    (tmp_path / "latin.py").write_bytes(b"\xff")
    assert read_all(tmp_path, wanted=lambda repo, path: False) == [Drop("not_sampled", tmp_path.name, "latin.py")]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("local:/no/such/place", "--source local:/no/such/place: no such folder"),
        (f"local:{__file__}", "cannot be read as a folder: Not a directory"),
        ("locale:/tmp", "unknown kind 'locale'; did you mean 'local'"),
        ("/tmp", "write KIND:PATH; unknown kind"),
        ("local:", "nothing behind the colon"),
    ],
)
def test_bad_sources_are_named(spec, message):
    with pytest.raises(UserError, match=message):
        open_source(spec, ALL)


def test_default_sources_are_this_python_s_own():
    sources = default_sources()
    assert f"local:{Path(sysconfig.get_path('stdlib')).resolve()}" in sources
    assert len(set(sources)) == len(sources) >= 2


ISC = """Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby
granted, provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE.
"""


def test_the_licence_is_that_of_the_repository_s_top(tmp_path):
    root = tmp_path / "shelf"
    write(root / "one" / "COPYING", ISC)
    write(root / "one" / "src" / "a.py")
    write(root / "one" / "src" / "LICENSE", "Ask us.")
    write(root / "two" / "package.json", '{"license": "mit"}')
    write(root / "two" / "b.py")
    write(root / "three" / "c.py")
    write(root / "three" / "checkout" / ".git" / "config")
    write(root / "three" / "checkout" / "d.py")
    licences = {item.path: item.licence for item in read_all(root)}
    assert licences == {"one/src/a.py": "ISC", "two/b.py": "MIT", "three/c.py": None, "three/checkout/d.py": None}
    write(root / "pyproject.toml", '[project]\nlicense = "MPL-2.0"\n')
    licences = {item.path: item.licence for item in read_all(root)}
    assert licences["three/c.py"] == "MPL-2.0" and licences["one/src/a.py"] == "ISC"
    assert licences["three/checkout/d.py"] is None


def test_parts_hold_names_and_sizes_and_are_equal_wherever_the_files_lie(tmp_path):
    for place in ("here", "there"):
        write(tmp_path / place / "root" / "r" / "a.py")
        write(tmp_path / place / "root" / "r" / "LICENSE", ISC)
    parts = [list(open_source(f"local:{tmp_path / place / 'root'}", ALL).parts()) for place in ("here", "there")]
    assert repr(parts[0]) == repr(parts[1])
    assert pickle.loads(pickle.dumps(parts[0])) == parts[0]
    assert repr(parts[0][0]).count("LICENSE") == 1 and str(tmp_path) not in repr(parts)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"a\r\nb\n", "a\r\nb\n"),
        (b"\xef\xbb\xbfa\n", "a\n"),
        ("a\u00e9\u4e2d\n".encode("utf-16"), "a\u00e9\u4e2d\n"),
        (b"\xfe\xff" + "a\u4e2d".encode("utf-16-be"), "a\u4e2d"),
        ("a\u4e2d".encode("utf-32"), "a\u4e2d"),
        (b"\0\0\xfe\xff" + "a".encode("utf-32-be"), "a"),
        ("a".encode("utf-16-le"), None),
        (b"\xff\xfea\0b", None),
        (b"\xff\xfe\0\0a", None),
        (b"\xef\xbb\xbfa\0", None),
        (b"caf\xe9", None),
        (b"\xed\xa0\x80", None),
        (b"", ""),
    ],
)
def test_bytes_are_text_in_utf_8_or_with_a_mark_or_not_at_all(raw, text):
    assert decode(raw) == text


@given(text=st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=("Cs",))))
@settings(max_examples=60, deadline=None)
def test_what_was_encoded_is_decoded(text):
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert decode(text.encode(encoding)) == text


@given(raw=st.binary(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_text_or_not(raw):
    text = decode(raw)
    assert text is None or ("\0" not in text and text.encode("utf-8") is not None)


def test_repository_rules_refuse_what_cannot_be():
    assert RepositoryRules() == RepositoryRules(min_stars=1, pile_min_stars=100, max_bytes=10_000_000)
    with pytest.raises(UserError, match="repositories.min_stars=-1: must be at least 0"):
        RepositoryRules(min_stars=-1)


def manifest(folder: Path, *rows: object) -> str:
    raw = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    (folder / "repositories.jsonl").write_text(raw)
    return f"github:{folder / 'repositories.jsonl'}"


def github_items(spec: str, rules: RepositoryRules = RepositoryRules()) -> list[Document | Drop]:  # noqa: B008
    source = pickle.loads(pickle.dumps(open_source(spec, ALL, rules)))
    return [item for part in source.parts() for item in source.read(part, lambda repo, path: True)]


def row(name: str, stars: int = 5, size: int = 1000, **more: object) -> dict[str, object]:
    return {"name": name, "stars": stars, "size": size, **more}


def test_a_manifest_s_repositories_are_read_or_dropped_as_a_whole(tmp_path):
    write(tmp_path / "trees" / "one" / "a.py")
    write(tmp_path / "trees" / "one" / "sub" / ".git" / "config")
    write(tmp_path / "trees" / "one" / "sub" / "b.py")
    with zipfile.ZipFile(tmp_path / "two-main.zip", "w") as archive:
        archive.writestr("two-main/c.py", "x = 1\n")
        archive.writestr("two-main/package.json", '{"license": "isc"}')
    spec = manifest(
        tmp_path,
        row("o/one", path="trees/one", licence="apache-2.0"),
        row("o/two", archive="two-main.zip", licence=None),
        row("o/none", stars=0, path="trees/one"),
        row("o/large", size=10_000_000, path="trees/one"),
        row("o/gone", archive="gone.zip"),
        row("o/away", path="away"),
        row("o/there", archive=f"file://{tmp_path}/two-main.zip", licence="MIT"),
    )
    assert github_items(spec) == [
        Document("x = 1\n", "python", "o/one", "a.py", "Apache-2.0", 5),
        Document("x = 1\n", "python", "o/one", "sub/b.py", "Apache-2.0", 5),
        Document("x = 1\n", "python", "o/two", "c.py", "ISC", 5),
        Drop("few_stars", "o/none", "", "0 stars"),
        Drop("large_repository", "o/large", "", "10000000 bytes"),
        Drop("unreadable", "o/gone", "", "gone.zip: no such file"),
        Drop("unreadable", "o/away", "", "away: no such folder"),
        Document("x = 1\n", "python", "o/there", "c.py", "MIT", 5),
    ]
    parts = list(open_source(spec, ALL).parts())
    assert [part.num_bytes for part in parts[:4]] == [1000, 1000, 1000, 10_000_000]
    assert str(tmp_path) not in repr(parts[:6])
    lenient = github_items(spec, RepositoryRules(min_stars=0, max_bytes=10_000_001))
    assert {item.repo for item in lenient if isinstance(item, Document)} == {
        "o/one",
        "o/two",
        "o/none",
        "o/large",
        "o/there",
    }


def test_a_manifest_and_its_archives_may_lie_behind_a_url(tmp_path):
    write(tmp_path / "p" / "a.py")
    memory = fsspec.filesystem("memory")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("p/a.py", "x = 1\n")
    memory.pipe("/listed/zips/p.zip", (tmp_path / "p.zip").read_bytes())
    memory.pipe("/listed/all.jsonl", json.dumps(row("o/p", archive="zips/p.zip")).encode())
    assert github_items("github:memory://listed/all.jsonl") == [Document("x = 1\n", "python", "o/p", "a.py", None, 5)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json}\n", "line 2: not JSON: .*write one JSON object a line"),
        ("[1]\n", "line 2: list, not an object"),
        ({"name": "a", "stars": 1, "path": "x"}, "line 2: key 'size' is missing"),
        (row("a", stars=True, path="x"), "line 2: key 'stars' is true, expected a whole number"),
        (row("a", stars=-1, path="x"), "line 2: key 'stars' is -1"),
        (row("", path="x"), "line 2: key 'name' is ''"),
        (row("a", path="x", license="MIT"), "line 2: unknown key 'license'; did you mean 'licence'"),
        (row("a", path="x", licence="MTI"), "line 2: key 'licence' is 'MTI', no SPDX expression; did you mean 'MIT'"),
        (row("a", path="x", licence=7), "line 2: key 'licence' is 7, expected text or null"),
        (row("a", path="x", archive="y"), "line 2: needs exactly one of the keys 'archive' and 'path', has 2"),
        (row("a"), "line 2: needs exactly one of the keys 'archive' and 'path', has 0"),
    ],
)
def test_a_bad_line_of_a_manifest_is_told_with_its_place(tmp_path, line, message):
    spec = manifest(tmp_path, row("fine", path="x"), line)
    with pytest.raises(UserError, match=f"repositories.jsonl, {message}"):
        github_items(spec)


def test_a_manifest_that_is_cut_off_is_told_at_once(tmp_path):
    whole = gzip.compress(json.dumps(row("a", path="x")).encode() * 9)
    (tmp_path / "all.jsonl.gz").write_bytes(whole[:-9])
    with pytest.raises(UserError, match=f"--source github:{tmp_path}: all.jsonl.gz cannot be read: "):
        github_items(f"github:{tmp_path}")
