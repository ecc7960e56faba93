"""The fine-tuning feed: one order for any number of workers that goes on anywhere, counted tasks, held-out rows."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.config import build_config
from mindgeex.common.errors import UserError
from mindgeex.data.tokenizers import train_tokenizer
from mindgeex.train.finetune_feed import FinetuneConfig, TaskConfig, open_finetune_feed, parse_tasks


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two tasks, one in Chinese and a third the size, and a tokenizer."""
    folder = tmp_path_factory.mktemp("finetune")
    write(folder / "sums.jsonl", [{"instruction": f"{i}+{i}?", "output": str(2 * i)} for i in range(150)])
    write(folder / "chinese.jsonl", [{"instruction": f"{i}加{i}？", "output": f"答案{2 * i}"} for i in range(50)])
    train_tokenizer([(folder / f"{name}.jsonl").read_text() for name in ("sums", "chinese")], 320, folder / "tokenizer")
    return folder


def config_of(folder: Path, **settings) -> FinetuneConfig:
    tasks = parse_tasks([f"{name}={folder / name}.jsonl" for name in ("sums", "chinese")])
    return FinetuneConfig(tasks=tasks, **settings)


@pytest.fixture(scope="module")
def feed(folder):
    return open_finetune_feed(config_of(folder), folder / "tokenizer", 48, seed=7)


def take(feed, steps: int, **arguments) -> list:
    return list(islice(feed.batches(**arguments), steps))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 40))
def test_workers_share_one_order_that_goes_on_anywhere(feed, rows, world, start) -> None:
    parts = [take(feed, 3, rows=rows, start_row=start, rank=rank, world=world) for rank in range(world)]
    (whole,) = take(feed, 1, rows=3 * rows * world, start_row=start)
    shared = [parts[rank][step] for step in range(3) for rank in range(world)]
    for name in ("rows_BS1", "weights_BS", "slots_B", "tasks_B"):
        assert np.array_equal(np.concatenate([getattr(batch, name) for batch in shared]), getattr(whole, name))
    for step in range(3):
        counts = np.zeros(2)
        for rank in range(world):
            batch = parts[rank][step]
            np.add.at(counts, batch.tasks_B, batch.weights_BS.sum(axis=1))
        assert all(parts[rank][step].tokens_T.tolist() == counts.tolist() for rank in range(world))


def test_an_epoch_holds_every_sample_once_and_the_next_one_in_another_order(feed, folder) -> None:
    first, second = take(feed, 2, rows=feed.num_rows, start_row=0)
    assert not np.array_equal(first.rows_BS1, second.rows_BS1)
    assert sorted(map(bytes, first.rows_BS1)) == sorted(map(bytes, second.rows_BS1))
    told = feed.tokenizer.decode(first.rows_BS1.ravel())
    held = feed.tokenizer.decode(np.concatenate([task.rows_RS1.ravel() for task in feed.heldout.values()]))
    for question, answer in [(f"{i}加{i}？\n", f"答案{2 * i}<|endoftext|>") for i in range(50)]:
        assert told.count(f"<|endoftext|>{question}{answer}") + told.startswith(question) <= 2
        assert (f"{question}{answer}" in told) != (f"{question}{answer}" in held)
    assert first.tokens_T.tolist() == second.tokens_T.tolist()
    assert first.weights_BS.sum() == first.tokens_T.sum()


def test_balanced_weights_make_a_small_task_count_as_much_as_a_large_one(feed) -> None:
    balance = feed.balance()
    for batch in take(feed, 6, rows=6, start_row=0):
        weights = balance.weights(batch.weights_BS, batch.tasks_B, batch.tokens_T)
        shares = [weights[batch.tasks_B == task].sum() for task in range(2) if batch.tokens_T[task]]
        assert shares == pytest.approx([shares[0]] * len(shares), rel=1e-5)
        assert ((weights > 0) == (batch.weights_BS > 0)).all()


def test_held_out_rows_are_scored_on_answers_and_spell_them(feed) -> None:
    assert list(feed.heldout) == ["sums", "chinese"]
    heldout = feed.heldout["chinese"]
    assert heldout.text.decode().startswith("答案")
    assert heldout.scored_RS.shape == (len(heldout.rows_RS1), 48)
    ends = (heldout.rows_RS1[:, 1:][heldout.scored_RS] == feed.eod_id).sum()
    assert ends == feed.tasks["chinese"].heldout_samples


def test_the_fingerprint_tells_contents_templates_and_settings_apart_but_not_places(folder, feed, tmp_path) -> None:
    def opened(config, seq_length=48, seed=7):
        return open_finetune_feed(config, folder / "tokenizer", seq_length, seed)

    for name in ("sums", "chinese"):
        (tmp_path / f"{name}.jsonl").write_bytes((folder / f"{name}.jsonl").read_bytes())
    assert opened(config_of(tmp_path), seed=8).fingerprint == feed.fingerprint
    prints = {
        feed.fingerprint,
        opened(config_of(folder), seq_length=47).fingerprint,
        opened(config_of(folder, balance="tokens")).fingerprint,
        opened(FinetuneConfig(tasks=config_of(folder).tasks[::-1])).fingerprint,
        opened(FinetuneConfig(parse_tasks([f"sums:codefuse={folder}/sums.jsonl"]))).fingerprint,
        opened(FinetuneConfig(parse_tasks([f"sums={folder}/sums.jsonl"]))).fingerprint,
    }
    write(tmp_path / "sums.jsonl", [{"instruction": "a", "output": "b"}])
    prints.add(opened(config_of(tmp_path)).fingerprint)
    assert len(prints) == 7


def test_what_became_of_the_samples_is_said(folder, tmp_path, caplog) -> None:
    write(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "x" * n} for n in (1, 1, 200)])
    config = FinetuneConfig(parse_tasks([f"a={tmp_path}/a.jsonl"]))
    with caplog.at_level("INFO"):
        open_finetune_feed(config, folder / "tokenizer", 48, 0)
    assert "a: 2 samples in 1 rows (4 tokens learnt" in caplog.text
    assert "template plain v1; dropped: 1 answer too long" in caplog.text


def test_mistakes_are_named(folder, tmp_path) -> None:
    with pytest.raises(UserError, match="'chat' is not of the form NAME=PATH"):
        parse_tasks(["chat"])
    assert parse_tasks(["chat:codefuse=a=b.jsonl"]) == (TaskConfig("chat", "a=b.jsonl", "codefuse"),)
    with pytest.raises(UserError, match="the name 'a' twice"):
        FinetuneConfig(parse_tasks(["a=x", "a=y"]))
    with pytest.raises(UserError, match="tasks is empty"):
        FinetuneConfig(())
    with pytest.raises(UserError, match="did you mean 'tasks.0..template'|unknown key"):
        build_config(FinetuneConfig, {"tasks": [{"name": "a", "path": "b", "templat": "plain"}]}, "recipe")
    with pytest.raises(UserError, match="needs held-out losses"):
        build_config(
            FinetuneConfig,
            {"tasks": [{"name": "a", "path": "b"}], "balance": "coba", "rows": {"heldout_share": 0}},
            "recipe",
        )
    write(tmp_path / "one.jsonl", [{"prompt": "a", "completion": "b"}])
    config = FinetuneConfig(parse_tasks([f"one={tmp_path}/one.jsonl"]), balance="coba")
    with pytest.raises(UserError, match="task one has no held-out sample"):
        open_finetune_feed(config, folder / "tokenizer", 48, 0)
