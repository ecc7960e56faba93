"""`mindgeex generate`: what it prints, and what it refuses before it loads anything."""

import io
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import pytest

from mindgeex.cli.generate import FillingTokenizer, Language
from mindgeex.cli.main import main
from mindgeex.data.fim import FimRules, cut, encode_document
from mindgeex.data.tokenizers import train_tokenizer
from mindgeex.model_zoo.decoding.stops import FUNCTION_ENDS
from mindgeex.train.checkpointing import Progress
from tests.cli.test_main import mindgeex

PROMPT = "# language: Python\ndef "


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights with a tokenizer of its own."""
    import mindspore as ms

    from mindgeex.data.tokenizers import train_tokenizer
    from mindgeex.model_zoo.checkpoints.native import named_parameters, save_model
    from mindgeex.model_zoo.config import ModelConfig
    from mindgeex.model_zoo.families import build_model

    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = train_tokenizer([PROMPT * 20, "größer 你好\n"], 300, folder / "tokenizer")
    sizes = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 64, "seq_length": 64}
    config = ModelConfig("codegeex", **sizes, vocab_size=304, dropout_rate=0.0, init_std=0.3, eod_id=tokenizer.eod_id)
    ms.set_seed(3)
    ms.set_context(mode=ms.GRAPH_MODE)
    save_model(folder, config, named_parameters(build_model(config)))
    return folder


def generate(capsys: pytest.CaptureFixture[str], checkpoint: Path, *options: str) -> str:
    """Standard output of the command."""
    code = main(["generate", "--checkpoint", str(checkpoint), "--max-new-tokens", "12", *options])
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    return captured.out


def test_a_stream_prints_what_is_printed_without_it(checkpoint, capsys):
    whole = generate(capsys, checkpoint, "--prompt", PROMPT)
    assert whole.startswith(PROMPT)
    assert whole.endswith("\n")
    assert len(whole) > len(PROMPT) + 3
    assert generate(capsys, checkpoint, "--prompt", PROMPT, "--stream") == whole


def test_the_prompt_comes_from_a_file_or_standard_input(checkpoint, capsys, tmp_path, monkeypatch):
    file = tmp_path / "prompt.txt"
    file.write_text(PROMPT, encoding="utf-8")
    from_file = generate(capsys, checkpoint, "--prompt-file", str(file))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PROMPT.encode())))
    assert generate(capsys, checkpoint, "--prompt-file", "-") == from_file
    assert from_file.startswith(PROMPT)


def test_json_has_a_line_for_every_sample(checkpoint, capsys):
    lines = generate(capsys, checkpoint, "--prompt", PROMPT, "--num-samples", "3", "--max-rows", "2", "--json")
    rows = [json.loads(line) for line in lines.splitlines()]
    assert [row["sample"] for row in rows] == [0, 1, 2]
    assert {row["prompt"] for row in rows} == {PROMPT}
    assert len({row["text"] for row in rows}) == 3
    assert all(row["tokens"] <= 12 and row["ended_by"] in ("eod", "length") for row in rows)


def test_beams_come_with_scores_the_best_first_and_end_before_a_stop(checkpoint, capsys):
    beams = ("--prompt", PROMPT, "--json", "--num-beams", "3", "--num-samples", "2")
    free = [json.loads(line) for line in generate(capsys, checkpoint, *beams).splitlines()]
    assert free[0]["score"] >= free[1]["score"]
    stop = free[0]["text"][2:4]
    assert len(stop) == 2
    typed = stop.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    stopped = [json.loads(line) for line in generate(capsys, checkpoint, *beams, "--stop", typed).splitlines()]
    assert all(stop not in row["text"] for row in stopped)


def test_a_prompt_beyond_the_window_is_refused_or_cut(checkpoint, capsys):
    long = "x = 1\n" * 200
    assert main(["generate", "--checkpoint", str(checkpoint), "--prompt", long]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "fewer than the model's window of 64" in captured.err
    cut = ("--prompt", long, "--long-prompts", "truncate", "--stop-language", "python", "--temperature", "0")
    assert generate(capsys, checkpoint, *cut).startswith(long)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--num-samples", "0"), "--num-samples 0: at least 1"),
        (("--num-beams", "0"), "--num-beams 0: at least 1"),
        (("--max-rows", "0"), "--max-rows 0: at least 1"),
        (("--seed", "-1"), "--seed -1: at least 0"),
        (("--top-p", "0"), "top-p is 0.0: it must be greater than 0 and at most 1"),
        (("--temperature", "nan"), "temperature is nan"),
        (("--repetition-penalty", "0"), "repetition-penalty is 0.0"),
        (("--num-beams", "2", "--num-samples", "3"), "--num-samples 3: at most --num-beams, which is 2"),
        (("--num-beams", "2", "--length-penalty", "nan"), "length-penalty is nan"),
        (("--stream", "--num-samples", "2"), "--stream prints one text as it grows: leave out --num-samples"),
        (("--stop", ""), "a stop string is empty"),
        (("--stop", "\\d"), "--stop '\\\\d': '\\d' is none of \\n \\t \\r \\\\: write a backslash as \\\\"),
        (("--prompt-file", "x"), "give either --prompt TEXT or --prompt-file FILE"),
        ((), "no such folder: give a run or a checkpoint"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, capsys, options, message):
    code = main(["generate", "--checkpoint", str(tmp_path / "none"), "--prompt", "x", *options])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b"", "the prompt is empty"), (b"ab\xff", "not UTF-8 (byte 2)")],
)
def test_a_prompt_file_that_is_none_is_named(tmp_path, capsys, content, message):
    file = tmp_path / "prompt.txt"
    if content is not None:
        file.write_bytes(content)
    assert main(["generate", "--checkpoint", str(tmp_path), "--prompt-file", str(file)]) == 2
    assert f"{file}: {message}" in capsys.readouterr().err


def test_the_middle_is_asked_for_in_the_order_of_training_with_the_tag_in_front(tmp_path):
    names = ("<a>", "<b>", "<c>")
    tokenizer = train_tokenizer([PROMPT * 20, "变量\n"], 300, tmp_path / "tokenizer", special=names)
    rules = FimRules(rate=1.0, spm_rate=0.0, tokens=names)
    text, key = "x = 变量\ny = 2\n", ("key",)
    prefix, middle, suffix = cut(text, key)
    told = encode_document(text, "# language: Python", tokenizer, rules, key).tolist()
    asked = FillingTokenizer(tokenizer, suffix, names).encode(f"# language: Python\n{prefix}")
    assert told == asked + tokenizer.encode(middle)
    untagged = encode_document(text, "", tokenizer, rules, key).tolist()
    assert untagged == FillingTokenizer(tokenizer, suffix, names).encode(prefix) + tokenizer.encode(middle)


def test_a_suffix_needs_a_tokenizer_with_the_three_tokens(checkpoint, capsys):
    assert main(["generate", "--checkpoint", str(checkpoint), "--prompt", "a", "--suffix", "b"]) == 2
    assert "no special token <|fim_prefix|>" in capsys.readouterr().err


def test_a_checkpoint_whose_weights_were_altered_is_refused_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    state = {"progress": asdict(Progress()), "sha256": {"model.safetensors": "0" * 64}}
    (tmp_path / "state.json").write_text(json.dumps(state))
    ran = mindgeex("generate", "--checkpoint", tmp_path, "--prompt", "x")
    assert ran.returncode == 2 and ran.stdout == ""
    assert ran.stderr.startswith(f"mindgeex: {tmp_path}/model.safetensors: truncated or altered since it was written")


def test_every_language_with_a_stop_rule_can_be_named() -> None:
    assert get_args(Language) == tuple(FUNCTION_ENDS)
