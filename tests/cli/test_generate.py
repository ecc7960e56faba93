"""`mindgeex generate`: what it refuses before it loads anything."""

from pathlib import Path

import pytest

from tests.cli.test_main import mindgeex


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--num-samples", "0"), "--num-samples 0: at least 1"),
        (("--seed", "-1"), "--seed -1: at least 0"),
        ((), "no such folder: give a run or a checkpoint"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, option: tuple[str, ...], message: str) -> None:
    ran = mindgeex("generate", "--checkpoint", tmp_path / "none", "--prompt", "x", *option)
    assert ran.returncode == 2 and ran.stdout == ""
    assert message in ran.stderr and ran.stderr.count("\n") == 1
