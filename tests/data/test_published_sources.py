"""The sources of CodeGeeX in their order: The Pile, CodeParrot, fetched repositories of GitHub; and prose."""

import gzip
import json
import sysconfig
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from mindgeex.data.config import BuildConfig, TokenizerConfig
from mindgeex.data.engines import EngineConfig
from mindgeex.data.languages import DEFAULT_LANGUAGES
from mindgeex.data.mindrecord import Corpus
from mindgeex.data.pipeline import Built, build

STDLIB = Path(sysconfig.get_path("stdlib"))
NAMES = (
    "argparse.py", "ast.py", "bdb.py", "calendar.py", "cmd.py", "configparser.py", "contextlib.py", "csv.py", "dis.py",
    "fractions.py", "ftplib.py", "getopt.py",
)  # fmt: skip
CHINESE = (
    "这里讲的是怎样用一种语言写程序，先把问题分成几部分，再把每一部分写成一个函数。第{}段还要说明函数的名字和参数。\n"
)


def text(number: int) -> str:
    return (STDLIB / NAMES[number]).read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    folder = tmp_path_factory.mktemp("published")
    pile = [{"text": text(n), "meta": {"pile_set_name": "Github"}} for n in range(3)]
    pile.append({"text": text(3), "meta": {"pile_set_name": "StackExchange"}})
    with (folder / "00.jsonl.zst").open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as packed:
        packed.write("".join(json.dumps(row) + "\n" for row in pile).encode() + b"not JSON\n")
    rows = [
        {
            "repo_name": f"team/repo{n}",
            "path": NAMES[n],
            "content": text(n),
            "license": "mit",
            "size": str(len(text(n))),
        }
        for n in (2, 4, 5, 6)
    ]
    (folder / "parrot").mkdir()
    with gzip.open(folder / "parrot" / "file-0.json.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows[:2])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows[2:]), folder / "parrot" / "file-1.parquet")
    manifest = []
    for number, (name, stars, size) in enumerate((("team/repo4", 90, 10), ("one/alone", 5, 10), ("no/stars", 0, 10))):
        with tarfile.open(folder / f"{number}.tar.gz", "w:gz") as tar:
            for member in (7 + number, 4):
                tar.add(STDLIB / NAMES[member], f"top/{NAMES[member]}")
        entry = {"name": name, "stars": stars, "size": size, "licence": "MIT", "archive": f"{number}.tar.gz"}
        manifest.append(json.dumps(entry))
    manifest.append(
        json.dumps({"name": "big/one", "stars": 9, "size": 10_000_001, "licence": None, "archive": "0.tar.gz"})
    )
    (folder / "github.jsonl").write_text("\n".join(manifest) + "\n")
    with (folder / "prose.jsonl").open("w") as prose:
        prose.write(json.dumps({"text": "".join(CHINESE.format(n) for n in range(20))}, ensure_ascii=False) + "\n")
    config = BuildConfig(
        sources=(
            f"pile:{folder}/*.jsonl.zst", f"codeparrot:{folder}/parrot", f"github:{folder}/github.jsonl",
            f"jsonl:{folder}/prose.jsonl",
        ),
        languages=(*DEFAULT_LANGUAGES, "chinese"), seq_length=64, heldout_share=0.0,
        tokenizer=TokenizerConfig(vocab_size=600),
    )  # fmt: skip
    return build(config, folder / "corpus", EngineConfig(workers=1))


def test_every_row_of_every_source_is_kept_or_named(built):
    documents = built.manifest["documents"]
    assert documents["dropped"] == {
        "in_earlier_source": 2, "duplicate": 2, "other_set": 1, "bad_row": 1, "few_stars": 1, "large_repository": 1
    }  # fmt: skip
    assert documents["in"] == documents["kept"] + 8 == 5 + 4 + 6 + 1
    assert [source["kept"] for source in built.manifest["sources"]] == [3, 2, 2, 1]


def test_a_copy_with_stars_stays_before_one_whose_stars_nobody_knows(built):
    kept = {(d.repo, d.path): d for d in Corpus.open(built.folder).documents("train")}
    assert ("one/alone", "cmd.py") in kept and ("team/repo4", "cmd.py") not in kept
    assert kept["one/alone", "cmd.py"].stars == 5 and kept["one/alone", "cmd.py"].licence == "MIT"
    bdb = [document for document in kept.values() if document.text == text(2)]
    assert len(bdb) == 1 and bdb[0].repo.startswith("pile/") and bdb[0].language == "python"


def test_prose_has_no_tag_and_is_read_back(built):
    corpus = Corpus.open(built.folder)
    tokenizer = corpus.tokenizer()
    told = "".join(
        tokenizer.decode(batch.ravel().tolist()) for batch in corpus.batches("train", 8, 0, shuffle=False, epochs=1)
    )
    whole = "".join(CHINESE.format(n) for n in range(20))
    assert [d.text for d in corpus.documents("train") if d.language == "chinese"] == [whole]
    assert whole[:12] in told and "language: chinese" not in told.lower()
    assert built.manifest["splits"]["train"]["languages"]["chinese"]["documents"] == 1
