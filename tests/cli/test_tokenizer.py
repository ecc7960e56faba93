"""`mindgeex tokenizer`: trained on plain files and on shards, refused with a remedy, compared by language."""

import json
import sysconfig
from pathlib import Path

import pytest

from mindgeex.cli.main import main
from mindgeex.data.document import Document, to_line, write_shard
from mindgeex.data.tokenizers import load_tokenizer
from mindgeex.data.tokenizers.compare import compare, is_chinese
from mindgeex.data.tokenizers.texts import open_texts, sample

STDLIB = Path(sysconfig.get_path("stdlib"))
CHINESE = "这是一个用来训练分词器的文本文件,里面主要是汉字。\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source files, Chinese prose, and what is no text."""
    root = tmp_path_factory.mktemp("texts") / "code"
    (root / "src" / "__pycache__").mkdir(parents=True)
    (root / ".git").mkdir()
    for name in ("argparse.py", "ast.py", "pydoc.py"):
        (root / "src" / name).write_bytes((STDLIB / name).read_bytes())
    (root / "notes.txt").write_text(CHINESE * 200, encoding="utf-8")
    (root / "readme.md").write_text("# Title\n\nSome words of prose.\n" * 20, encoding="utf-8")
    (root / "latin.txt").write_bytes("é".encode("latin-1") * 50)
    (root / "zero.txt").write_bytes(b"a\0b")
    (root / "src" / "image.png").write_bytes(b"png")
    (root / "src" / "__pycache__" / "x.py").write_text("no\n")
    (root / ".git" / "x.py").write_text("no\n")
    return root


@pytest.fixture(scope="module")
def shards(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same documents, as shards."""
    target = tmp_path_factory.mktemp("shards")
    documents = list(open_texts(folder).read())
    write_shard(target / "train-00000.jsonl.zst", map(to_line, documents[:3]))
    write_shard(target / "train-00001.jsonl.zst", map(to_line, documents[3:]))
    return target


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each kind."""
    root = tmp_path_factory.mktemp("trained")
    for kind in ("bpe", "sentencepiece"):
        out = ["--out", str(root / kind), "--kind", kind, "--vocab-size", "900"]
        assert main(["tokenizer", "train", str(folder), *out, "--special", "<|a|>", "<|b|>"]) == 0
    return {kind: root / kind for kind in ("bpe", "sentencepiece")}


def train(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = main(["tokenizer", "train", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_plain_folder_gives_its_source_and_text_files_in_order(folder):
    documents = list(open_texts(folder).read())
    assert [(document.path, document.language) for document in documents] == [
        ("notes.txt", "chinese"), ("readme.md", "markdown"),
        ("src/argparse.py", "python"), ("src/ast.py", "python"), ("src/pydoc.py", "python"),
    ]  # fmt: skip
    assert documents[3].text == (STDLIB / "ast.py").read_text(encoding="utf-8")


def test_shards_give_the_same_documents_and_tokenizer(folder, shards, trained, tmp_path, capsys):
    assert list(open_texts(shards).read()) == list(open_texts(folder).read())
    assert open_texts(shards).num_bytes == sum(len(document.text.encode()) for document in open_texts(folder).read())
    code, out, _ = train(capsys, shards, "--out", tmp_path / "t", "--vocab-size", "900", "--special", "<|a|>", "<|b|>")
    assert code == 0 and "900" in out
    assert load_tokenizer(tmp_path / "t").fingerprint == load_tokenizer(trained["bpe"]).fingerprint


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece"])
def test_each_kind_has_its_size_and_special_tokens_and_keeps_texts(trained, kind):
    tokenizer = load_tokenizer(trained[kind])
    assert tokenizer.vocab_size == 900
    assert None not in (tokenizer.special_id("<|a|>"), tokenizer.special_id("<|b|>"))
    assert tokenizer.decode(tokenizer.encode(CHINESE)) == CHINESE
    assert {path.name for path in trained[kind].iterdir()} == set(tokenizer.files())


def test_the_size_reached_is_told_if_it_is_smaller(folder, tmp_path, capsys):
    (tmp_path / "poor").mkdir()
    (tmp_path / "poor" / "a.txt").write_text("abab " * 9)
    code, out, _ = train(capsys, tmp_path / "poor", "--out", tmp_path / "t", "--vocab-size", "5000")
    assert code == 0 and "(no more pairs)" in out


def test_a_sample_is_about_as_large_as_asked_for_and_never_empty(folder):
    documents = [Document("x", "c", "repo", f"{number}.c") for number in range(2000)]
    assert len(list(sample(documents, 0.3, 1))) == pytest.approx(600, rel=0.15)
    assert list(sample(documents, 0.3, 1)) != list(sample(documents, 0.3, 2))
    assert list(sample(documents, 1e-9, 1)) == documents[:1]
    assert list(sample(documents, 1.0, 1)) == documents


def test_mistakes_are_one_line_with_a_remedy(folder, trained, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jsonl.zst").write_bytes(b"not zstandard")
    out = tmp_path / "t"
    for words, message in [
        ((tmp_path / "absent", "--out", out), "absent: no such folder"),
        ((tmp_path / "empty", "--out", out), "empty: no text in it"),
        ((tmp_path / "bad", "--out", out), "x.jsonl.zst: no documents as"),
        ((folder, "--out", tmp_path / "full"), "holds thesis.txt, which is not a tokenizer's"),
        ((folder, "--out", out, "--max-bytes", "0"), "--max-bytes 0: must be at least 1"),
        ((folder, "--out", out, "--vocab-size", "100"), "vocab_size=100 is too small"),
        ((folder, "--out", out, "--special", "<|endoftext|>"), "choose another name"),
    ]:
        code, _, error = train(capsys, *words)
        assert code == 2 and message in error and error.count("\n") == 1, error
    assert not out.exists()


def test_a_comparison_counts_every_tokenizer_on_the_same_documents(folder, trained, tmp_path, capsys):
    paths = [str(trained["bpe"]), str(trained["sentencepiece"])]
    options = ["--data", str(folder), "--json", str(tmp_path / "c.json")]
    assert main(["tokenizer", "compare", *paths, *options]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("python", "chinese", "markdown", "all", "MB/s", "sentencepiece"))
    written = json.loads((tmp_path / "c.json").read_text())
    assert [each["vocab_size"] for each in written["tokenizers"]] == [900, 900]
    assert list(written["languages"]) == ["python", "chinese", "markdown"]
    texts = {document.path: document.text for document in open_texts(folder).read()}
    python = written["languages"]["python"]
    for number, path in enumerate(paths):
        tokenizer = load_tokenizer(Path(path))
        tokens = sum(len(tokenizer.encode(text, eod_in_text=False)) for name, text in texts.items() if ".py" in name)
        size = sum(len(text.encode()) for name, text in texts.items() if ".py" in name)
        assert python["tokens"][number] == tokens and python["bytes"] == size
        assert python["bytes_per_token"][number] == round(size / tokens, 4)
    assert written["total"]["documents"] == 5
    assert written["total"]["bytes"] == sum(count["bytes"] for count in written["languages"].values())


def test_comparing_nothing_says_what_is_missing(folder, tmp_path, capsys):
    assert main(["tokenizer", "compare", str(tmp_path), "--data", str(folder)]) == 2
    assert "a tokenizer is a folder with" in capsys.readouterr().err
    assert compare([], []).total.documents == 0


def test_a_document_is_chinese_from_a_fifth_on():
    assert is_chinese("变" + "a" * 4) and not is_chinese("变" + "a" * 5) and not is_chinese("é" * 9)
