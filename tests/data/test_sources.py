import os
import sysconfig
from pathlib import Path

import pytest

from mindgeex.common.errors import UserError
from mindgeex.data.document import Document, Drop
from mindgeex.data.sources import local as local_module
from mindgeex.data.sources import open_source
from mindgeex.data.sources.local import default_sources

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
        ("/tmp", "write local:PATH"),
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
