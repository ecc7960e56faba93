"""What an earlier corpus holds never comes again, and repositories belong to the source that has them first."""

import dataclasses
import json
import os
import random
import resource
from pathlib import Path

import pytest

from mindgeex.common.errors import UserError
from mindgeex.data.analysis import AnalysisRules
from mindgeex.data.config import BuildConfig, RowsConfig, TokenizerConfig
from mindgeex.data.dedup import DedupRules, jaccard, shingles
from mindgeex.data.engines import Engine
from mindgeex.data.mindrecord import Corpus
from mindgeex.data.pipeline import build

WORDS = [f"{a}{b}" for a in ("read", "write", "parse", "render", "open") for b in ("er", "ing", "able", "ed", "s")]


def config(*folders: Path, **options: object) -> BuildConfig:
    return BuildConfig(
        sources=tuple(f"local:{folder}" for folder in folders), seq_length=32, heldout_share=0.0,
        analysis=AnalysisRules(enabled=False), tokenizer=TokenizerConfig(vocab_size=300),
        rows=RowsConfig(rows_per_shard=100),
    ) if not options else dataclasses.replace(config(*folders), **options)  # type: ignore[arg-type]  # fmt: skip


def text(seed: int, words: int = 1000) -> list[str]:
    rng = random.Random(seed)
    return [f"{rng.choice(WORDS)}_{rng.randrange(100)}" for _ in range(words)]


def changed(words: list[str], start: int, count: int) -> list[str]:
    return [*words[:start], *(f"other_{word}" for word in words[start : start + count]), *words[start + count :]]


def write(folder: Path, **files: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, words in files.items():
        lines = [" ".join(words[start : start + 8]) for start in range(0, len(words), 8)]
        (folder / f"{name}.py").write_text("\n".join(lines) + "\n")
    return folder


def kept(folder: Path) -> set[str]:
    return {Path(d.path).stem for split in ("train", "heldout") for d in Corpus.open(folder).documents(split)}


def test_documents_of_an_earlier_corpus_never_come_again(tmp_path):
    """Also those that are like one of its documents that is itself like another one of it."""
    x = text(1)
    near, far = changed(x, 0, 70), changed(x, 0, 140)
    sets = [shingles(" ".join(words)) for words in (x, near, far)]
    assert jaccard(sets[0], sets[1]) > 0.85 > jaccard(sets[0], sets[2]) and jaccard(sets[1], sets[2]) > 0.85
    before = write(tmp_path / "before", x=x, near=near, other=text(2))
    build(config(before, dedup=DedupRules(near=False)), tmp_path / "earlier")
    assert kept(tmp_path / "earlier") == {"x", "near", "other"}
    now = write(tmp_path / "now", again=x, far=far, same=text(2), new=text(3), new_too=changed(text(3), 0, 30))
    built = build(config(now, earlier=(str(tmp_path / "earlier"),)), tmp_path / "later")
    assert kept(tmp_path / "later") == {"new"}
    assert built.manifest["documents"]["dropped"] == {"in_earlier_corpus": 3, "near_duplicate": 1}
    assert built.manifest["documents"]["in"] == 5


def test_an_earlier_corpus_counts_even_if_copies_may_stay_and_languages_differ(tmp_path):
    before = write(tmp_path / "before", x=text(1), other=text(2))
    build(config(before), tmp_path / "earlier")
    now = write(tmp_path / "now", again=text(1), new=text(3), copy=text(3))
    (now / "more.c").write_text((now / "again.py").read_text())
    (now / "some.c").write_text("\n".join(" ".join(text(9)[n : n + 8]) for n in range(0, 1000, 8)))
    rules = DedupRules(exact=False, near=False)
    options = {"earlier": (str(tmp_path / "earlier"),), "dedup": rules}
    built = build(config(now, **options), tmp_path / "later")
    assert kept(tmp_path / "later") == {"new", "copy", "some"}
    assert built.manifest["documents"]["dropped"] == {"in_earlier_corpus": 2}
    build(config(now, **options, languages=("c",)), tmp_path / "c")
    assert kept(tmp_path / "c") == {"some"}


def test_a_corpus_as_a_source_gives_the_same_documents(tmp_path, built):
    again = build(
        dataclasses.replace(config(), sources=(f"corpus:{built.folder}",), analysis=AnalysisRules()), tmp_path / "again"
    )
    documents = [
        sorted((d for split in ("train", "heldout") for d in Corpus.open(folder).documents(split)), key=repr)
        for folder in (built.folder, again.folder)
    ]
    assert documents[0] == documents[1] and again.manifest["documents"]["dropped"] == {}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), r"earlier=.*/earlier/manifest.json: no such file"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "lists no document shards"),
        (lambda folder: next((folder / "documents").iterdir()).unlink(), r"documents/train-00000.jsonl.zst: missing"),
        (lambda folder: next((folder / "documents").iterdir()).write_bytes(b"x"), "not as its corpus wrote it"),
    ],
)
def test_a_spoilt_earlier_corpus_is_one_clear_error(tmp_path, spoil, message):
    before = write(tmp_path / "before", x=text(1))
    build(config(before), tmp_path / "earlier")
    spoil(tmp_path / "earlier")
    with pytest.raises(UserError, match=message):
        build(config(before, earlier=(str(tmp_path / "earlier"),)), tmp_path / "later")
    assert not (tmp_path / "later").exists()


def github(folder: Path, **repositories: int) -> str:
    """A manifest of the folder's repositories with their stars."""
    lines = [
        json.dumps({"name": name, "stars": stars, "size": 1000, "licence": "MIT", "path": name})
        for name, stars in repositories.items()
    ]
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    return f"github:{folder}/manifest.jsonl"


def test_repositories_of_an_earlier_source_are_not_taken_again_and_stars_decide(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    write(one / "owner-a", x=text(1), y=text(2))
    write(one / "owner-b", z=text(3))
    write(two / "owner-a", newer=text(4))
    write(two / "owner-c", z_starred=changed(text(3), 0, 40), y_starred=text(2))
    sources = (github(one, **{"owner-a": 50, "owner-b": 5}), github(two, **{"owner-a": 50, "owner-c": 70}))
    built = build(config(sources=sources), tmp_path / "corpus")
    assert kept(tmp_path / "corpus") == {"x", "z_starred", "y_starred"}
    dropped = {"in_earlier_source": 1, "duplicate": 1, "near_duplicate": 1}
    assert built.manifest["documents"]["dropped"] == dropped


def test_a_pool_of_many_parts_is_compared_with_few_open_files(tmp_path):
    """One part a repository; every document is a candidate, since all begin alike."""
    from mindgeex.data.sources import open_source
    from mindgeex.data.stages.deduplicate import deduplicate
    from mindgeex.data.stages.pool import load_pool
    from mindgeex.data.stages.read import ReadTask, read_part

    names = [f"owner-{number}" for number in range(80)]
    for number, name in enumerate(names):
        write(tmp_path / "code" / name, file=[*text(0, 900), *text(1 + number % 40, 600)])
    spec = github(tmp_path / "code", **dict.fromkeys(names, 9))
    settings = config(sources=(spec,))
    source = open_source(spec, frozenset({"python"}), settings.repositories)
    tasks = [
        ReadTask(tmp_path / f"{number:08d}", source, part, settings, ("python",), 1.0, None)
        for number, part in enumerate(source.parts())
    ]
    for task in tasks:
        read_part(task)
    pool = load_pool([task.out for task in tasks], [0] * len(tasks))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    try:
        deduplicate(
            pool, dataclasses.replace(settings, dedup=DedupRules(exact=False)), Engine(None), tmp_path / "near", 0, {0}
        )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (pool.fate == 3).sum() == 40 and pool.twin[40:].tolist() == list(range(40))
