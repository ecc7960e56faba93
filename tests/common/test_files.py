"""Files are whole or absent: after an error, after kill -9, and on a disk that is really full."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mindgeex.common.errors import UserError
from mindgeex.common.files import atomic_file, atomic_folder, disk_errors, read_json, sha256_file, write_json


def in_folder(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep/er/a.txt"
    with atomic_file(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new" and in_folder(path.parent) == ["a.txt"]


def test_an_error_in_the_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="ours"), atomic_file(path) as partial:
        partial.write_text("half")
        raise ValueError("ours")
    assert path.read_text() == "old" and in_folder(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    (path / "old").write_text("old")
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial/left_by_a_crash").write_text("x")
    with atomic_folder(path) as partial:
        (partial / "sub").mkdir()
        (partial / "sub/new").write_text("new")
        assert in_folder(path) == ["old"]
    assert in_folder(path) == ["sub"] and in_folder(tmp_path) == ["run"]


def test_an_error_in_the_block_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as partial:
        (partial / "half").write_text("half")
        raise KeyboardInterrupt
    assert in_folder(path) == ["old"] and in_folder(tmp_path) == ["run"]


def test_a_folder_that_was_moved_away_for_one_that_never_came_is_put_back(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_folder(path) as partial:
        partial.rename(tmp_path / "elsewhere")
    assert in_folder(path) == ["old"] and in_folder(tmp_path) == ["elsewhere", "run"]

    path.rename(tmp_path / "run.replaced.partial")  # as kill -9 between the two renames leaves it
    with pytest.raises(ValueError, match="ours"), atomic_folder(path):
        raise ValueError("ours")
    assert in_folder(path) == ["old"] and in_folder(tmp_path) == ["elsewhere", "run"]


WRITE_UNTIL_KILLED = """
import sys
from pathlib import Path
from mindgeex.common.files import atomic_file, atomic_folder
root, size = Path(sys.argv[1]), 1 << 20
for turn in range(10**6):
    with atomic_file(root / "file") as partial, partial.open("wb") as file:
        for _ in range(8):
            file.write(bytes([turn % 256]) * (size // 8))
            file.flush()
    with atomic_folder(root / "folder") as partial:
        (partial / "first").write_bytes(bytes([turn % 256]) * size)
        (partial / "second").write_bytes(bytes([turn % 256]) * size)
    print(turn, flush=True)
"""


def test_kill_9_at_any_moment_leaves_whole_or_nothing(tmp_path: Path) -> None:
    for attempt in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITE_UNTIL_KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(3):
            writer.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(timeout=0.0031 * attempt)
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
        writer.stdout.close()

        content = (tmp_path / "file").read_bytes()
        assert len(content) == 1 << 20 and len(set(content)) == 1
        folder = tmp_path / "folder"
        if folder.exists():
            first, second = ((folder / name).read_bytes() for name in ("first", "second"))
            assert first == second and len(first) == 1 << 20


FILL_THE_DISK = """
import sys
from pathlib import Path
from mindgeex.common.errors import UserError
from mindgeex.common.files import atomic_file, atomic_folder, write_json
root = Path(sys.argv[1])
write_json(root / "small.json", {"a": 1})
def file():
    with atomic_file(root / "big") as partial: partial.write_bytes(b"x" * (4 << 20))
def folder():
    with atomic_folder(root / "run") as partial:
        for i in range(100): (partial / str(i)).write_bytes(b"x" * 65536)
def replacing():
    with atomic_file(root / "small.json") as partial: partial.write_bytes(b"x" * (4 << 20))
for write in (file, folder, replacing):
    try:
        write()
    except UserError as error:
        print(error)
print(sorted(path.name for path in root.rglob("*")), (root / "small.json").read_text().split())
"""


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path: Path, private_mount: list[str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=1m none "$0" && exec "$1" -c "$2" "$0"'
    ran = subprocess.run([*private_mount, script, disk, sys.executable, FILL_THE_DISK], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    *errors, remains = ran.stdout.splitlines()
    for error, name in zip(errors, ["big", "run", "small.json"], strict=True):
        assert error.startswith(
            f"{disk / name}: the disk is full (0 MB free): free some space or choose another folder"
        )
    assert remains == "['small.json'] ['{', '\"a\":', '1', '}']"


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file/a.json", tmp_path / "file/deep/a.json"):
        with pytest.raises(UserError, match=r"a\.json: cannot be written .*: choose another folder"):
            write_json(path, 1)
        with pytest.raises(UserError, match="cannot be written"), atomic_folder(path):
            pass


def test_what_a_symbolic_link_points_to_is_replaced(tmp_path: Path) -> None:
    for name in ("file", "folder"):
        (tmp_path / name).symlink_to(f"elsewhere/{name}")
    for turn in ("first", "second"):
        with atomic_file(tmp_path / "file") as partial:
            partial.write_text(turn)
        with atomic_folder(tmp_path / "folder") as partial:
            (partial / turn).touch()
        assert (tmp_path / "elsewhere/file").read_text() == turn and in_folder(tmp_path / "elsewhere/folder") == [turn]
        assert in_folder(tmp_path) == ["elsewhere", "file", "folder"]
        assert in_folder(tmp_path / "elsewhere") == ["file", "folder"]


def test_a_path_that_cannot_be_renamed_to_is_refused(tmp_path: Path) -> None:
    for path in (Path("."), Path("/"), tmp_path / ".."):
        with pytest.raises(UserError, match="give it a name, such as"), atomic_folder(path):
            pass
        with pytest.raises(UserError, match="give it a name, such as"), atomic_file(path):
            pass
    for write in (atomic_file, atomic_folder):
        with pytest.raises(UserError, match="cannot be written .File name too long"), write(tmp_path / ("a" * 300)):
            pass


def test_refusals_of_the_system_become_user_errors_and_others_stay(tmp_path: Path) -> None:
    for code in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EFBIG):
        with pytest.raises(UserError, match="cannot be written"), disk_errors(tmp_path / "a"):
            raise OSError(code, os.strerror(code))
    for code in (errno.ENOSPC, errno.EDQUOT):
        with pytest.raises(UserError, match="the disk is full"), disk_errors(tmp_path / "not/there/yet"):
            raise OSError(code, os.strerror(code))
    with pytest.raises(OSError, match="Input/output"), disk_errors(tmp_path / "a"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_json_is_readable_and_comes_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"é": [1, None]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "é": [\n    1,\n    null\n  ]\n}\n'
    assert read_json(tmp_path / "a.json") == {"é": [1, None]}


def test_half_a_character_in_a_name_is_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.py")
    write_json(tmp_path / "a.json", [name])
    assert read_json(tmp_path / "a.json") == [name]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{\n "a": }', r"line 2, column 7: not valid JSON"),
        (b"", "line 1, column 1"),
        (b'"\xff"', "cannot be read"),
        pytest.param(b"9" * 5000, "not JSON that can be read", id="digits"),
        pytest.param(b"[" * 100_000, "not JSON that can be read", id="lists"),
    ],
)
def test_what_is_not_json_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "absent.json")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * (1 << 19))
    printed = subprocess.run(["sha256sum", tmp_path / "a"], capture_output=True, text=True, check=True).stdout
    assert sha256_file(tmp_path / "a") == printed.split()[0]
