"""Instruction data: every form becomes prompts and answers, nothing but answers is learnt, and mistakes are named."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.data.instructions.encoding import EncodingConfig, encode_task, pack
from mindgeex.data.instructions.records import read_records
from mindgeex.data.instructions.templates import Sample, template_named, translation_prompt
from mindgeex.data.tokenizers import Tokenizer, train_tokenizer

TEXTS = ["def add(first, second):\n    return first + second  # 变量 求和 🎉\n用中文回答问题：\n" * 9]
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "再加一？"},
    {"role": "assistant", "content": "3。"},
]
ROUNDS = [{**m, "role": {"user": "human", "assistant": "bot"}.get(m["role"], m["role"])} for m in CHAT]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train_tokenizer(TEXTS, 330, tmp_path_factory.mktemp("instructions") / "tokenizer")


def write(path: Path, rows: list[dict], encoding=lambda data: data) -> Path:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(encoding(lines.encode()))
    return path


def samples(path: Path, template: str) -> list[Sample]:
    known = template_named(template)
    return [sample for record in read_records(path) for sample in known.samples(record.content)]


def test_every_form_gives_its_prompt_and_answer(tmp_path) -> None:
    rows = [
        {"instruction": "Sort a list", "output": "sorted(x)", "id": 7},
        {"instruction": "翻译成英文", "input": "排序", "output": "sort"},
        {"prompt": "def f(", "completion": "x):"},
        {"messages": CHAT},
    ]
    plain = samples(write(tmp_path / "a.jsonl", rows), "plain")
    assert plain == [
        Sample("Sort a list\n", "sorted(x)"),
        Sample("翻译成英文\n排序\n", "sort"),
        Sample("def f(", "x):"),
        Sample("Be brief.\n1+1?\n", "2"),
        Sample("Be brief.\n1+1?\n2\n再加一？\n", "3。"),
    ]


def test_codefuse_has_a_marker_before_every_role_and_a_line_end_behind_every_content(tmp_path) -> None:
    rows = [{"chat_rounds": ROUNDS}, {"prompt": "def f(", "completion": "x):"}]
    assert samples(write(tmp_path / "a.jsonl", rows), "codefuse") == [
        Sample("<s>system\nBe brief.\n<s>human\n1+1?\n<s>bot\n", "2\n"),
        Sample("<s>system\nBe brief.\n<s>human\n1+1?\n<s>bot\n2\n<s>human\n再加一？\n<s>bot\n", "3。\n"),
        Sample("<s>human\ndef f(\n<s>bot\n", "x):\n"),
    ]
    same = samples(write(tmp_path / "b.jsonl", [{"messages": CHAT}]), "codefuse")
    assert same == samples(tmp_path / "a.jsonl", "codefuse")[:2]


def test_the_translation_prompt_is_the_published_one(tmp_path) -> None:
    rows = [{"source_language": "javascript", "target_language": "cpp", "source": "let a;\n\n", "target": "int a;\n"}]
    (sample,) = samples(write(tmp_path / "a.jsonl", rows), "codegeex_translation")
    assert sample == Sample("code translation\nJavaScript:\nlet a;\nC++:\n", "int a;\n")
    assert translation_prompt("Python", "Go", "x = 1\n") == "code translation\nPython:\nx = 1\nGo:\n"


@pytest.mark.parametrize("encoding", [gzip.compress, zstandard.ZstdCompressor().compress, lambda data: data])
def test_compressed_files_and_folders_of_them_are_read_alike(tmp_path, encoding) -> None:
    row = {"prompt": "a", "completion": "变量"}
    write(tmp_path / "b.jsonl", [row], encoding)
    write(tmp_path / "a.json.gz", [row, row], encoding)
    (tmp_path / "notes.txt").write_text("nothing")
    found = list(read_records(tmp_path))
    assert [record.content.completion for record in found] == ["变量"] * 3
    assert [Path(record.where.split(",")[0]).name for record in found] == ["a.json.gz", "a.json.gz", "b.jsonl"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"instruction": "a"}', "line 2: has the keys instruction, which is none of the forms"),
        ('{"instruction": "a", "output": 3}', "line 2: key output is 3: expected text"),
        ('{"prompt": null, "completion": "x"}', "line 2: key prompt is missing: expected text"),
        ('{"messages": []}', r"line 2: key messages is \[\]: expected a list"),
        ('{"messages": [{"role": "robot", "content": ""}]}', r"key messages\[0\].role is 'robot'"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "ends without an assistant's message"),
        ('{"chat_rounds": [{"role": "bot", "content": "a"}]}', r"chat_rounds\[0\].role is 'bot', expected user"),
        (
            '{"messages": [{"role": "user"}, {"role": "assistant", "content": "a"}]}',
            r"messages\[0\].content is missing",
        ),
        ('{"prompt": "\\ud800", "completion": "x"}', "key prompt has half a character"),
        ("not json", "line 2: not JSON"),
        ("[1]", "line 2: list, not an object"),
    ],
)
def test_a_malformed_line_is_named_with_its_key_and_a_remedy(tmp_path, line, words) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n' + line + "\n")
    with pytest.raises(UserError, match=words) as caught:
        list(read_records(path))
    assert str(caught.value).startswith(f"{path}, line 2")


def test_a_damaged_file_a_missing_one_and_an_empty_folder_are_named(tmp_path) -> None:
    path = write(tmp_path / "a.jsonl.gz", [{"prompt": "a", "completion": "b" * 999}], gzip.compress)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"a.jsonl.gz: damaged"):
        list(read_records(path))
    with pytest.raises(UserError, match="no such file"):
        list(read_records(tmp_path / "gone.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds neither JSON lines"):
        list(read_records(tmp_path / "empty"))


def test_a_record_that_a_template_has_no_words_for_is_named(tmp_path, tokenizer) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(UserError, match=r"a.jsonl, line 1: is no pair of programs: set template to plain"):
        encode_task(path, "codegeex_translation", tokenizer, 20, EncodingConfig())
    with pytest.raises(UserError, match="template is 'plan'; did you mean 'plain'"):
        encode_task(path, "plan", tokenizer, 20, EncodingConfig())


def learnt_texts(rows, tokenizer: Tokenizer, width: int) -> list[str]:
    """What is learnt, a run of labels at a time, read from the rows alone."""
    tokens, learnt = rows.read(range(len(rows)), width, tokenizer.eod_id)
    found = []
    for row, marks in zip(tokens[:, 1:], learnt, strict=True):
        runs = np.flatnonzero(np.diff(np.concatenate([[0], marks, [0]])))
        found += [row[begin:end].tolist() for begin, end in zip(runs[::2], runs[1::2], strict=True)]
    return [tokenizer.decode(ids) for ids in found]


@pytest.mark.parametrize("packing", [True, False])
def test_answers_and_their_ends_are_learnt_and_nothing_else_chinese_too(tmp_path, tokenizer, packing) -> None:
    rows = [{"instruction": f"变量{i}加{i}？", "output": f"答案 {2 * i}🎉"} for i in range(9)]
    path = write(tmp_path / "a.jsonl", rows)
    task = encode_task(path, None, tokenizer, 120, EncodingConfig(packing=packing, heldout_share=0))
    assert (len(task.train) < 9) == packing
    assert sorted(learnt_texts(task.train, tokenizer, 120)) == sorted(f"答案 {2 * i}🎉<|endoftext|>" for i in range(9))
    tokens, _ = task.train.read(range(len(task.train)), 120, tokenizer.eod_id)
    told = "".join(tokenizer.decode(row) for row in tokens)
    assert all(f"变量{i}加{i}？\n答案 {2 * i}🎉<|endoftext|>" in told for i in range(9))
    assert task.template.name == "plain"


def test_the_first_token_of_a_sample_without_a_prompt_is_not_learnt(tmp_path, tokenizer) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "", "completion": "xyz"}] * 2)
    task = encode_task(path, None, tokenizer, 30, EncodingConfig(heldout_share=0))
    assert learnt_texts(task.train, tokenizer, 30) == ["yz<|endoftext|>"] * 2


def test_long_answers_are_dropped_and_counted_and_prompts_cut_from_the_left_only_if_asked(tmp_path, tokenizer) -> None:
    rows = [
        {"prompt": "q" * 30, "completion": "z"},
        {"prompt": "q", "completion": "z" * 30},
        {"prompt": "q", "completion": ""},
        {"prompt": "q", "completion": "zz"},
    ]
    path = write(tmp_path / "a.jsonl", rows)
    task = encode_task(path, None, tokenizer, 20, EncodingConfig(heldout_share=0))
    assert task.dropped == {"answer_too_long": 1, "empty_answer": 1, "prompt_too_long": 1}
    assert learnt_texts(task.train, tokenizer, 20) == ["zz<|endoftext|>"]
    config = EncodingConfig(heldout_share=0, long_prompts="truncate", packing=False)
    task = encode_task(path, None, tokenizer, 20, config)
    assert task.dropped == {"answer_too_long": 1, "empty_answer": 1}
    (tokens, *_), learnt = task.train.read([0], 20, tokenizer.eod_id)
    assert tokenizer.decode(tokens) == "q" * 18 + "z<|endoftext|>"
    assert learnt.sum() == 2
    with pytest.raises(UserError, match="no sample is left to train on .dropped: 2 answer_too_long"):
        encode_task(write(tmp_path / "b.jsonl", rows[1:2] * 2), None, tokenizer, 20, config)


def test_special_tokens_in_the_data_are_ordinary_text(tmp_path, tokenizer) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "a<|endoftext|>b", "completion": "c<|endoftext|>d"}])
    task = encode_task(path, None, tokenizer, 60, EncodingConfig(heldout_share=0))
    assert (task.train.tokens == tokenizer.eod_id).sum() == 1


def test_questions_are_held_out_by_a_hash_and_never_on_both_sides(tmp_path, tokenizer) -> None:
    rows = [{"prompt": f"q{i % 50}:", "completion": f"{i}"} for i in range(200)]
    path = write(tmp_path / "a.jsonl", rows)
    config = EncodingConfig(packing=False, heldout_share=0.3)
    task = encode_task(path, None, tokenizer, 30, config)
    sides = []
    for part in (task.train, task.heldout):
        tokens, _ = part.read(range(len(part)), 30, tokenizer.eod_id)
        sides.append({tokenizer.decode(row).partition(":")[0] for row in tokens})
    assert sides[0] | sides[1] == {f"q{i}" for i in range(50)}
    assert not sides[0] & sides[1]
    assert 6 <= len(sides[1]) <= 24
    more = encode_task(write(tmp_path / "b.jsonl", rows[:120]), None, tokenizer, 30, config)
    assert more.heldout_samples < task.heldout_samples
    two = encode_task(write(tmp_path / "c.jsonl", rows[:2]), None, tokenizer, 30, EncodingConfig(heldout_share=0.0001))
    assert (two.samples, two.heldout_samples) == (1, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 32), min_size=1, max_size=80))
def test_packing_cuts_nothing_overfills_no_row_and_never_leaves_two_rows_that_fit_into_one(lengths) -> None:
    row_of = pack(np.array(lengths), 32)
    sums = np.bincount(row_of, lengths)
    assert sums.max() <= 32
    assert sums.min() > 0
    assert (np.sort(sums)[:2].sum() > 32) or len(sums) == 1
    first = [row_of.tolist().index(row) for row in range(len(sums))]
    assert first == sorted(first)
