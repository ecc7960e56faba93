"""`mindgeex generate`: what it refuses before it loads anything."""

import json
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


def test_a_checkpoint_whose_weights_were_altered_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    (tmp_path / "state.json").write_text(json.dumps({"step": 1, "sha256": {"model.safetensors": "0" * 64}}))
    ran = mindgeex("generate", "--checkpoint", tmp_path, "--prompt", "x")
    assert ran.returncode == 2 and ran.stdout == ""
    assert ran.stderr.startswith(f"mindgeex: {tmp_path}/model.safetensors: truncated or altered since it was written")
