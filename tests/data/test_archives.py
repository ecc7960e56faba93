import bz2
import gzip
import http.server
import io
import lzma
import pickle
import tarfile
import threading
import zipfile
from collections.abc import Iterable
from pathlib import Path

import fsspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.data.document import Document, Drop
from mindgeex.data.languages import possible_languages
from mindgeex.data.sources import archives, containers, open_source
from mindgeex.data.sources.archives import repository_name
from mindgeex.data.sources.text import READ_LIMIT_BYTES, decode
from tests.data.licence_texts import MIT

ALL = frozenset({"python", "c", "cpp", "javascript"})
FILES = {"pkg-1.0/setup.py": b"x = 1\r\n", "pkg-1.0/src/a.c": b"int a;\n", "pkg-1.0/README": b"no code"}
PACKERS = {
    "tar": lambda raw: raw,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
    "tar.zst": lambda raw: zstandard.ZstdCompressor().compress(raw),
}


def tar(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def read(place: object, languages: frozenset[str] = ALL, wanted=lambda repo, path: True) -> list[Document | Drop]:
    source = pickle.loads(pickle.dumps(open_source(f"archives:{place}", languages)))
    return [item for part in source.parts() for item in source.read(pickle.loads(pickle.dumps(part)), wanted)]


def read_bytes(folder: Path, name: str, raw: bytes) -> list[Document | Drop]:
    (folder / name).write_bytes(raw)
    return read(folder / name)


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_kind_of_tar_gives_the_same_documents(tmp_path, ending, form):
    items = read_bytes(tmp_path, f"pkg-1.0.{ending}", PACKERS[ending](tar(FILES, form)))
    assert items == [
        Document("x = 1\r\n", "python", "pkg", "setup.py"),
        Document("int a;\n", "c", "pkg", "src/a.c"),
    ]


def test_a_zip_gives_the_same_documents_as_a_tar(tmp_path):
    assert read_bytes(tmp_path, "pkg-1.0.zip", zipped(FILES)) == read_bytes(tmp_path, "pkg-1.0.tar", tar(FILES))


def test_what_an_archive_is_is_told_by_its_bytes_not_by_its_name(tmp_path):
    assert len(read_bytes(tmp_path, "pkg-1.0.tar.gz", zipped(FILES))) == 2
    assert len(read_bytes(tmp_path, "pkg-1.1.zip", lzma.compress(tar(FILES)))) == 2


def test_a_stream_of_several_members_or_frames_is_read_to_its_end(tmp_path):
    raw = tar(FILES)
    for ending in ("tar.gz", "tar.bz2", "tar.xz", "tar.zst"):
        pack = PACKERS[ending]
        assert len(read_bytes(tmp_path, f"pkg.{ending}", pack(raw[:700]) + pack(raw[700:]))) == 2
    skipped = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    assert len(read_bytes(tmp_path, "pkg.tar.zst", skipped + PACKERS["tar.zst"](raw))) == 2


def test_a_folder_of_archives_is_read_in_sorted_order_and_other_files_are_left_alone(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b-2.0.tgz").write_bytes(gzip.compress(tar({"b-2.0/b.py": b"b = 1\n"})))
    (tmp_path / "a-1.0.crate").write_bytes(gzip.compress(tar({"a-1.0/a.py": b"a = 1\n"})))
    (tmp_path / "notes.gz").write_bytes(b"not an archive")
    assert [(item.repo, item.path) for item in read(tmp_path)] == [("a", "a.py"), ("b", "b.py")]
    assert [item.path for item in read(f"{tmp_path}/**/*.tgz")] == ["b.py"]


def test_parts_are_names_and_sizes_alone(tmp_path):
    reprs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a-1.0.zip").write_bytes(zipped(FILES))
        reprs.append([repr(part) for part in open_source(f"archives:{tmp_path / name}", ALL).parts()])
    assert reprs[0] == reprs[1] and "a-1.0.zip" in reprs[0][0] and str(tmp_path) not in reprs[0][0]


@pytest.mark.parametrize(
    ("file_name", "repo"),
    [
        ("requests-2.31.0.tar.gz", "requests"),
        ("pypi/requests-2.32.0b1.zip", "requests"),
        ("requests-2.31.0-py3-none-any.whl", "requests"),
        ("My.Pack_age-1.0rc1.tar.gz", "my-pack-age"),
        ("my_pack_age-1.0.post1-cp311-cp311-linux_x86_64.whl", "my-pack-age"),
        ("core-7.29.13.tgz", "core"),
        ("@babel/core/-/core-7.29.13-rc.1.tgz", "@babel/core"),
        ("serde_json-1.0.99.crate", "serde-json"),
        ("sha-1-0.10.0.crate", "sha-1"),
        ("boost1.74_1.74.0+ds1.orig.tar.xz", "boost1-74"),
        ("docker.io_20.10.24+dfsg1.orig-cli.tar.xz", "docker-io"),
        ("cargo_0.66.0+ds1-1.debian.tar.xz", "cargo"),
        ("linux-main.zip", "linux"),
        ("linux-0123456789abcdef0123456789abcdef01234567.zip", "linux"),
        ("torvalds-linux-a1b2c3d.tar.gz", "torvalds-linux"),
        ("tool-20240131.tar.bz2", "tool"),
        ("flask/v2.3.1.tar.gz", "flask"),
        ("7zip-23.01.tar.xz", "7zip"),
        ("python3.tar", "python3"),
        ("x.tar.gz?token=1", "x"),
    ],
)
def test_the_repository_is_the_package_without_its_version(file_name, repo):
    assert repository_name(file_name) == repo


def test_the_folder_that_holds_everything_is_left_out_of_paths_and_no_other(tmp_path):
    both = {"requests/api.py": b"a = 1\n", "requests-2.0.dist-info/x.py": b"b = 1\n"}
    assert [item.path for item in read_bytes(tmp_path, "requests-2.0-py3-none-any.whl", zipped(both))] == list(both)
    assert [item.path for item in read_bytes(tmp_path, "p-1.0.tgz", tar({"./package/./lib/a.js": b"a;\n"}))] == [
        "lib/a.js"
    ]
    assert [item.path for item in read_bytes(tmp_path, "q-1.0.tgz", tar({"a.py": b"a\n", "q/b.py": b"b\n"}))] == [
        "a.py",
        "q/b.py",
    ]


def test_the_licence_is_found_wherever_packages_state_it(tmp_path):
    code = {"p-1/a.py": b"a = 1\n"}

    def licence(files: dict[str, bytes]) -> str | None:
        (item,) = read_bytes(tmp_path, "p-1.tar", tar(code | files))
        return item.licence

    assert licence({}) is None
    assert licence({"p-1/LICENSE.txt": MIT.encode()}) == "MIT"
    assert licence({"p-1/vendored/LICENSE": MIT.encode()}) is None
    assert licence({"p-1/package.json": b'{"license": "isc"}'}) == "ISC"
    assert licence({"p-1/Cargo.toml": b'[package]\nlicense = "MIT/Apache-2.0"\n'}) == "MIT OR Apache-2.0"
    assert (
        licence({"p-1/PKG-INFO": b"Metadata-Version: 2.4\nLicense-Expression: BSD-3-Clause\n\nText"}) == "BSD-3-Clause"
    )
    wheel = {"p/a.py": b"a\n", "p-1.dist-info/licenses/LICENSE": MIT.encode()}
    assert read_bytes(tmp_path, "p-1-py3-none-any.whl", zipped(wheel))[0].licence == "MIT"


def test_what_is_no_plain_file_of_the_archive_is_dropped_by_name(tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind in (("p/a.py", tarfile.SYMTYPE), ("p/b", tarfile.LNKTYPE), ("p/c", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("p/folder.py")
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
        for name in ("/abs.py", "p/../../up.py", "p/ok.py", "C:\\x.py"):
            info = tarfile.TarInfo(name)
            info.size = 2
            archive.addfile(info, io.BytesIO(b"a\n"))
    assert read_bytes(tmp_path, "p-1.tar", out.getvalue()) == [
        Drop("not_a_file", "p", "a.py"),
        Drop("not_a_file", "p", "b"),
        Drop("not_a_file", "p", "c"),
        Drop("unsafe_name", "p", "/abs.py"),
        Drop("unsafe_name", "p", "p/../../up.py"),
        Document("a\n", "python", "p", "ok.py"),
        Drop("unsafe_name", "p", "C:\\x.py"),
    ]
    link = zipfile.ZipInfo("p/l.py")
    link.external_attr = 0o120777 << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(link, "a.py")
        archive.writestr("p\\b.py", "b\n")
        archive.writestr("..\\c.py", "c\n")
    assert [(getattr(i, "reason", ""), i.path) for i in read_bytes(tmp_path, "p.zip", out.getvalue())] == [
        ("not_a_file", "l.py"),
        ("", "b.py"),
        ("unsafe_name", "../c.py"),
    ]


def test_an_encrypted_member_and_a_damaged_one_cost_no_other(tmp_path):
    raw = bytearray(zipped({"a.py": b"a = 1\n", "b.py": b"b = 22\n" * 9, "c.py": b"c = 3\n"}))
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        offset = archive.getinfo("b.py").header_offset
    raw[offset + 14] ^= 1  # its checksum, here and in the directory
    raw[raw.index(b"b.py", raw.index(b"PK\x01\x02")) - 46 + 16] ^= 1
    directory = raw.index(b"PK\x01\x02")
    raw[directory + 8] |= 1
    reasons = [(getattr(item, "reason", None), item.path) for item in read_bytes(tmp_path, "p.zip", bytes(raw))]
    assert reasons == [("encrypted", "a.py"), ("corrupt_archive", "b.py"), (None, "c.py")]


def test_a_member_beyond_the_limit_is_not_read(tmp_path):
    large = {"p/a.py": b"a\n" * (READ_LIMIT_BYTES // 2 + 1), "p/b.py": b"b\n"}
    for name, raw in (("p.tar.gz", gzip.compress(tar(large))), ("p.zip", zipped(large))):
        first, second = read_bytes(tmp_path, name, raw)
        assert (first.reason, first.path, second.path) == ("too_large", "a.py", "b.py")


def test_a_bomb_is_left_after_what_came_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "BOMB_BYTES", 1 << 20)
    monkeypatch.setattr(containers, "BOMB_RATIO", 20)
    files = {"p/a.py": b"a = 1\n", "p/zeros.bin": bytes(30 << 20), "p/b.py": b"b\n"}
    for ending in ("tar.gz", "tar.xz", "tar.zst"):
        first, last = read_bytes(tmp_path, f"p-1.{ending}", PACKERS[ending](tar(files)))
        assert (first.path, last.reason, last.path) == ("a.py", "decompression_bomb", f"p-1.{ending}")
    many = {f"p/{number}.py": bytes(8 << 20) for number in range(5)}
    assert read_bytes(tmp_path, "p-1.zip", zipped(many))[-1].reason == "decompression_bomb"


def test_archives_in_archives_are_not_entered(tmp_path):
    assert read_bytes(tmp_path, "p-1.tar", tar({"p/inner.tar": tar(FILES), "p/inner.zip": zipped(FILES)})) == []


def test_the_sample_is_asked_before_a_member_is_read(tmp_path):
    (tmp_path / "p-1.tar").write_bytes(tar({"p/a.py": b"\xff", "p/b.py": b"b\n"}))
    items = read(tmp_path / "p-1.tar", wanted=lambda repo, path: (repo, path) == ("p", "b.py"))
    assert items == [Drop("not_sampled", "p", "a.py"), Document("b\n", "python", "p", "b.py")]


def test_urls_give_what_files_give(tmp_path):
    raw = gzip.compress(tar(FILES))
    (tmp_path / "pkg-1.0.tar.gz").write_bytes(raw)
    memory = fsspec.filesystem("memory")
    memory.pipe("/shelf/deep/pkg-1.0.tar.gz", raw)
    memory.pipe("/shelf/pkg-1.0.zip", zipped(FILES))
    here = read(tmp_path)
    assert read(f"file://{tmp_path}") == read(f"file://{tmp_path}/pkg-1.0.tar.gz") == here
    assert read("memory://shelf") == here * 2
    assert read("memory://shelf/*.zip") == read("memory://shelf/deep/pkg-1.0.tar.gz") == here
    names = [part.name for part in open_source("archives:memory://shelf", ALL).parts()]
    assert names == ["deep/pkg-1.0.tar.gz", "pkg-1.0.zip"]


def test_a_web_server_gives_what_files_give_though_it_has_no_pieces(tmp_path, monkeypatch):
    (tmp_path / "pkg-1.0.tar.gz").write_bytes(gzip.compress(tar(FILES)))
    (tmp_path / "pkg-1.1.zip").write_bytes(zipped(FILES))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_address[1]}"
        sizes = [part.num_bytes for part in open_source(f"archives:{place}/", ALL).parts()]
        assert sizes == [part.num_bytes for part in open_source(f"archives:{tmp_path}", ALL).parts()]
        assert read(f"{place}/") == read(tmp_path)
        assert read(f"{place}/pkg-1.0.tar.gz?token=a") == read(tmp_path / "pkg-1.0.tar.gz")
        monkeypatch.setattr(archives, "HELD_BYTES", 0)
        assert read(f"{place}/pkg-1.0.tar.gz") == read(tmp_path / "pkg-1.0.tar.gz")
        server.shutdown()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("/no/such/place", "--source archives:/no/such/place: no such file or folder"),
        ("/no/such/*.zip", r"--source archives:/no/such/\*\.zip: matches no file"),
        ("gopher://x/y.zip", "--source archives:gopher://x/y.zip: cannot be opened: .*gopher"),
        ("memory://no/such.zip", "--source archives:memory://no/such.zip: no such file or folder"),
        ("memory://no/*.zip", "matches no file"),
        ("http://127.0.0.1:9/x.zip", "--source archives:http://127.0.0.1:9/x.zip: "),
    ],
)
def test_places_that_are_not_there_are_named(place, message):
    with pytest.raises(UserError, match=message):
        read(place)


def test_a_folder_without_archives_is_named_with_what_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"holds no file named .*\*\.whl"):
        read(tmp_path)


LETTERS = st.characters(exclude_characters="\0/\\\\", exclude_categories=("Cs",))
ODD = [
    "a.py",
    "p/b.c",
    "../c.py",
    "/d.py",
    "p/x/../e.js",
    "p/./f.py",
    "p//g.h",
    "p/" + "n" * 120 + ".py",
    "i/node_modules/a.js",
]
NAMES = st.sampled_from(ODD) | st.builds(
    "{}{}".format, st.text(LETTERS, max_size=20), st.sampled_from(["", ".py", "/x.c"])
)
CONTENTS = st.binary(max_size=300) | st.text(max_size=200).map(str.encode)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(NAMES, CONTENTS, max_size=6), ending=st.sampled_from([*PACKERS, "zip"]))
def test_every_file_of_any_archive_is_accounted_for(tmp_path, files, ending):
    files.pop("", None)  # a name that cannot be written
    items = read_bytes(tmp_path, f"any.{ending}", zipped(files) if ending == "zip" else PACKERS[ending](tar(files)))
    assert {item.reason for item in items if isinstance(item, Drop)} <= {"unsafe_name", "not_utf8"}
    unsafe = [
        name
        for name in files
        if name.startswith("/") or not {".", ".."}.isdisjoint(name.split("/")[:1]) or ".." in name.split("/")
    ]
    unsafe = [name for name in unsafe if not name.startswith("./")]
    wanted = [
        name
        for name in files
        if name not in unsafe and ALL.intersection(possible_languages(name)) and "node_modules" not in name
    ]

    def last(names: Iterable[str]) -> list[str]:
        return sorted(name.rpartition("/")[2] for name in names)

    assert last(item.path for item in items if not (isinstance(item, Drop) and item.reason == "unsafe_name")) == last(
        wanted
    )
    texts = {decode(files[name]) for name in wanted}
    assert {item.text for item in items if isinstance(item, Document)} == texts - {None}
    assert sum(isinstance(item, Drop) and item.reason == "unsafe_name" for item in items) == len(unsafe)


@pytest.mark.parametrize("ending", [*PACKERS, "zip"])
def test_an_archive_cut_anywhere_gives_its_whole_files_and_says_that_it_is_cut(tmp_path, ending):
    files = {f"p/{number}.py": f"x = {number}\n".encode() * 90 for number in range(4)}
    raw = zipped(files) if ending == "zip" else PACKERS[ending](tar(files))
    whole = read_bytes(tmp_path, f"p.{ending}", raw)
    assert len(whole) == 4
    for cut in range(0, len(raw), max(1, len(raw) // 80)):
        *items, last = read_bytes(tmp_path, f"p.{ending}", raw[:cut])
        assert items == whole[: len(items)], cut
        assert last == whole[len(items)] if isinstance(last, Document) else last.reason == "corrupt_archive", cut
        assert isinstance(last, Drop) or len(items) == 3, cut


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_never_raises(tmp_path, data):
    ending = data.draw(st.sampled_from([*PACKERS, "zip"]))
    raw = bytearray(zipped(FILES) if ending == "zip" else PACKERS[ending](tar(FILES)))
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=4)):
        raw[at] = data.draw(st.integers(0, 255))
    assert all(isinstance(item, (Document, Drop)) for item in read_bytes(tmp_path, f"p.{ending}", bytes(raw)))


def test_headers_that_lie_about_their_size_cost_no_memory(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    (item,) = read_bytes(tmp_path, "p.tar", info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    assert (item.reason, item.detail) == ("corrupt_archive", f"a header of {1 << 33} bytes")


def test_a_member_of_a_kind_nobody_knows_is_passed_with_its_bytes(tmp_path):
    odd = tarfile.TarInfo("p/dump")
    odd.type, odd.size = b"D", 600
    raw = odd.tobuf(tarfile.GNU_FORMAT) + bytes(1024) + tar({"p/a.py": b"a = 1\n"})
    assert [item.path for item in read_bytes(tmp_path, "p-1.tar", raw)] == ["dump", "a.py"]


def test_a_tar_without_an_end_gives_all_its_files_and_says_so(tmp_path):
    raw = tar({"p/a.py": b"a = 1\n"})[:1024]
    document, drop = read_bytes(tmp_path, "p-1.tar", raw)
    assert document.path == "a.py" and (drop.reason, drop.detail) == ("corrupt_archive", "ends without an end mark")
