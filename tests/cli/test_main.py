"""The command line itself: help, misspelt commands, and errors without a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mindgeex.cli import main as cli

MINDGEEX = Path(sys.executable).with_name("mindgeex")


def mindgeex(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MINDGEEX, *words], capture_output=True, text=True)


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_lists_every_command(words: tuple[str, ...]) -> None:
    ran = mindgeex(*words)
    assert ran.returncode == 0 and ran.stderr == ""
    for name, (_, _, line) in cli.COMMANDS.items():
        assert f"mindgeex {name} " in ran.stdout and line in ran.stdout


def test_a_group_lists_its_commands_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["hccl"]) == 0
    printed = capsys.readouterr().out
    assert "mindgeex hccl make" in printed and "mindgeex hccl check" in printed and "doctor" not in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["docter"], "mindgeex: unknown command 'mindgeex docter'; did you mean 'doctor'?\n"),
        (["hccl", "chek", "x"], "mindgeex: unknown command 'mindgeex hccl chek'; did you mean 'hccl check'?\n"),
        (["--version"], "mindgeex: unknown command 'mindgeex --version'; known: data build,"),
        (["zzz", "--x"], "mindgeex: unknown command 'mindgeex zzz'; known: data build,"),
    ],
)
def test_a_misspelt_command_is_one_line_and_exit_code_2(words: list[str], message: str) -> None:
    ran = mindgeex(*words)
    assert ran.returncode == 2 and ran.stdout == ""
    assert ran.stderr.startswith(message) and ran.stderr.count("\n") == 1


def test_a_users_mistake_has_no_traceback_and_ours_keeps_it(tmp_path: Path) -> None:
    ran = mindgeex("hccl", "check", tmp_path / "absent.json")
    assert ran.returncode == 2 and ran.stderr == f"mindgeex: {tmp_path}/absent.json: no such file\n"
    with pytest.raises(AttributeError):
        cli.COMMANDS["broken"] = ("hccl", "no_such_function", "")
        try:
            cli.main(["broken"])
        finally:
            del cli.COMMANDS["broken"]


def test_a_reader_who_has_enough_is_no_error(tmp_path: Path) -> None:
    device = {"device_id": "0", "device_ip": "", "rank_id": "0"}
    (tmp_path / "table.json").write_text(json.dumps({"server_list": [{"server_id": "a", "device": [device] * 5000}]}))
    command = [MINDGEEX, "hccl", "check", tmp_path / "table.json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ran:
        assert ran.stdout is not None and ran.stderr is not None
        assert "version is None" in ran.stdout.readline()
        ran.stdout.close()
        assert ran.stderr.read() == "" and ran.wait() == 1


CLOSED_TO_US = """
import os, sys
from mindgeex.cli.main import main
build = ["data", "build", "--out", sys.argv[1], "--source"]
assert main([*build, "local:/no/such/place"]) == 2  # loads all that is needed, which may be closed to others
if os.geteuid() == 0:  # whom no folder is closed to
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.exit(main([*build, "local:/"]))
"""


def test_a_closed_folder_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    command = [sys.executable, "-c", CLOSED_TO_US, tmp_path / "closed/corpus"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 2
    _, line = ran.stderr.splitlines()
    assert line == f"mindgeex: {tmp_path}/closed/corpus: cannot be written (Permission denied): choose another folder"


def test_a_misspelt_option_is_refused() -> None:
    ran = mindgeex("hccl", "make", "--host", "x", "--out", "y")
    assert ran.returncode == 2 and "--hosts" in ran.stderr and "Traceback" not in ran.stderr
