"""`mindgeex quantize` and `generate --int8`: the report, the saved checkpoint, and what is refused."""

import json
from pathlib import Path

import pytest

from mindgeex.cli.main import main
from tests.cli.test_generate import PROMPT, checkpoint, generate  # noqa: F401


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.py"
    file.write_text(PROMPT * 40, encoding="utf-8")
    return file


def refusal(capsys, *words):
    assert main(["quantize", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_the_report_and_a_checkpoint_that_generates_the_same(checkpoint, text, capsys, tmp_path):  # noqa: F811
    out = tmp_path / "int8"
    assert main(["quantize", str(checkpoint), "--text", str(text), "--rows", "2", "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bytes_after"] < report["bytes_before"]
    assert report["tokens"] == 128
    assert 0 < report["mean_logit_error"] < report["largest_logit_error"]
    assert report["perplexity_after"] == pytest.approx(report["perplexity_before"], rel=0.05)
    rounded_now = generate(capsys, checkpoint, "--prompt", PROMPT, "--int8")
    assert generate(capsys, out, "--prompt", PROMPT, "--int8") == rounded_now
    assert generate(capsys, out, "--prompt", PROMPT) == rounded_now
    assert "rounded already" in refusal(capsys, out)


def test_without_text_only_the_size_is_shown(checkpoint, capsys):  # noqa: F811
    assert main(["quantize", str(checkpoint)]) == 0
    shown = capsys.readouterr().out
    assert "bytes before" in shown
    assert "perplexity" not in shown


def test_held_out_rows_of_a_corpus_are_compared(checkpoint, capsys, tmp_path):  # noqa: F811
    import sysconfig

    from mindgeex.data.config import BuildConfig, TokenizerConfig
    from mindgeex.data.pipeline import build

    library = Path(sysconfig.get_path("stdlib"))
    sources = tuple(f"local:{library / package}" for package in ("json", "logging", "importlib"))
    for vocab_size in (300, 400):
        tokenizer = TokenizerConfig(vocab_size=vocab_size)
        config = BuildConfig(sources=sources, seq_length=48, tokenizer=tokenizer, heldout_share=0.4)
        build(config, tmp_path / str(vocab_size))
    capsys.readouterr()
    assert main(["quantize", str(checkpoint), "--data", str(tmp_path / "300"), "--rows", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == 3 * 48
    assert "window is 64 and its vocabulary 304" in refusal(capsys, checkpoint, "--data", tmp_path / "400")


def test_what_is_refused(checkpoint, text, capsys, tmp_path):  # noqa: F811
    assert "no such folder" in refusal(capsys, tmp_path / "none")
    assert "not both" in refusal(capsys, checkpoint, "--data", tmp_path, "--text", text)
    assert "at least 1" in refusal(capsys, checkpoint, "--rows", "0")
    assert "exists already" in refusal(capsys, checkpoint, "--out", tmp_path)
    assert "cannot be read" in refusal(capsys, checkpoint, "--text", tmp_path / "none.txt")
    assert "no complete corpus" in refusal(capsys, checkpoint, "--data", tmp_path)
    text.write_text("")
    assert "at least 2" in refusal(capsys, checkpoint, "--text", text)
    text.write_bytes(b"\xff")
    assert "not UTF-8" in refusal(capsys, checkpoint, "--text", text)
