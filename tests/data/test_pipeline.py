import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from mindgeex.common.config import as_tree
from mindgeex.common.errors import UserError
from mindgeex.common.html import write_page
from mindgeex.data.analysis import AnalysisRules
from mindgeex.data.config import BuildConfig, RowsConfig, TokenizerConfig
from mindgeex.data.engines import EngineConfig
from mindgeex.data.filters import Rules
from mindgeex.data.mindrecord import Corpus
from mindgeex.data.mixture import Mixture
from mindgeex.data.pipeline import build
from mindgeex.data.report import sections
from mindgeex.data.split import heldout_repositories

MINDGEEX = [sys.executable, "-m", "mindgeex.cli.main"]


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_counts_add_up_and_each_rule_dropped_what_it_should(built, tree):
    documents = built.manifest["documents"]
    assert documents["in"] == documents["kept"] + sum(documents["dropped"].values())
    assert documents["in"] == sum(path.suffix in (".py", ".c", ".h") and path.is_file() for path in files_of(tree))
    once = dict.fromkeys(("too_small", "too_large", "long_lines", "few_letters", "generated_header"), 1)
    assert documents["dropped"] == {"duplicate": 2, "not_utf8": 2, **once}
    assert [e["path"] for e in documents["examples"]["too_large"]] == ["repo0/bad/large.py"]
    # The first in source order stays: bad/ comes before src/ and core.c.
    assert documents["examples"]["duplicate"] == [
        {"repo": "code/repo0", "path": f"repo0/{name}", "detail": f"of code/repo0: repo0/bad/{twin}"}
        for name, twin in (("core.c", "copy.c"), ("src/module0.py", "again.py"))
    ]
    splits = built.manifest["splits"]
    assert sum(split["documents"] for split in splits.values()) == documents["kept"]
    corpus = Corpus.open(built.folder)
    for name, split in splits.items():
        kept = list(corpus.documents(name))
        assert len(kept) == split["documents"] == sum(c["documents"] for c in split["languages"].values())
        assert sum(len(document.text.encode()) for document in kept) == split["bytes"]
        assert {document.repo for document in kept} == set(split["repositories"])
        assert split["rows"] == corpus.num_rows(name) == -(-split["tokens"] // 33)
    assert set(splits["train"]["languages"]) == {"python", "c", "cpp"}
    assert not set(splits["train"]["repositories"]) & set(splits["heldout"]["repositories"])
    assert splits["heldout"]["rows"] > 0


def files_of(folder: Path) -> list[Path]:
    return [Path(top) / name for top, _, names in os.walk(folder) for name in names]


@pytest.mark.parametrize(
    "engine",
    [
        EngineConfig(workers=1),
        EngineConfig(workers=3),
        pytest.param("cluster", marks=pytest.mark.slow),
    ],
    indirect=True,
)
def test_every_engine_and_number_of_workers_gives_the_same_bytes(built, config, tmp_path, engine):
    assert digests(build(config, tmp_path / "corpus", engine).folder) == digests(built.folder)


def test_the_place_of_a_source_shows_only_in_its_name(built, config, tree, tmp_path):
    elsewhere = shutil.copytree(tree, tmp_path / "elsewhere" / "code", symlinks=True)
    again = build(dataclasses.replace(config, sources=(f"local:{elsewhere}",)), tmp_path / "corpus")
    here, there = digests(built.folder), digests(again.folder)
    for name in ("manifest.json", "report.html"):  # they name the source
        assert here.pop(name) != there.pop(name)
    assert here == there and len(here) > 10
    told = [json.dumps(b.manifest).replace(s, "SOURCE") for b, s in ((built, str(tree)), (again, str(elsewhere)))]
    assert told[0] == told[1]


def test_a_finished_corpus_is_recognised(built, config):
    before = digests(built.folder)
    again = build(config, built.folder, EngineConfig(workers=2))
    assert again.seconds == {} and again.note == ""
    with pytest.raises(UserError, match=r"built with seq_length=32 is there, wanted seq_length=64: .*--overwrite"):
        build(dataclasses.replace(config, seq_length=64), built.folder)
    assert digests(built.folder) == before


def test_a_corpus_inside_its_source_is_no_part_of_it(config, tree, tmp_path):
    code = Path(shutil.copytree(tree, tmp_path / "code", symlinks=True))
    config = dataclasses.replace(config, sources=(f"local:{code}",))
    first = build(config, code / "corpus").manifest
    (code / "other.partial").mkdir()
    (code / "other.partial" / "report.html").write_text("<p>several words of a report</p>\n" * 100)
    assert build(config, code / "corpus").note == ""
    assert build(config, code / "corpus", overwrite=True).manifest == first


def test_overwrite_replaces(built, config, tmp_path):
    folder = Path(shutil.copytree(built.folder, tmp_path / "corpus"))
    replaced = build(dataclasses.replace(config, seq_length=64, rules=Rules(min_bytes=1)), folder, overwrite=True)
    assert Corpus.open(folder).seq_length == 64
    assert "too_small" not in replaced.manifest["documents"]["dropped"]
    assert not list(tmp_path.glob("*.partial"))
    # Nothing of the first build is left in this process.
    build(config, folder, overwrite=True)
    assert digests(folder) == digests(built.folder)


def test_windows_are_as_published(config, tmp_path):
    built = build(
        dataclasses.replace(config, rows=RowsConfig(packing="windows", window_stride=16), seq_length=64),
        tmp_path / "corpus",
    )
    corpus = Corpus.open(built.folder)
    documents, rows = built.manifest["splits"]["train"]["documents"], corpus.num_rows("train")
    assert rows > documents
    starts = [row for batch in corpus.batches("train", 1, 0, shuffle=False, epochs=1) for row in batch.tolist()]
    tag = corpus.tokenizer().encode("# language: Python\n")
    languages = built.manifest["splits"]["train"]["languages"]
    assert sum(row[: len(tag)] == tag for row in starts) == languages["python"]["documents"]


def test_a_given_tokenizer_is_copied_and_used(built, config, tmp_path):
    given = str(built.folder / "tokenizer")
    wanted = dataclasses.replace(config, tokenizer=TokenizerConfig(path=given))
    other = build(wanted, tmp_path / "corpus")
    assert other.manifest["tokenizer"]["fingerprint"] == built.manifest["tokenizer"]["fingerprint"]
    assert not other.manifest["tokenizer"]["trained_here"]
    assert other.manifest["shards"] == built.manifest["shards"]
    assert build(wanted, tmp_path / "corpus").note == ""


def test_a_corpus_whose_tokenizer_or_source_changed_since_says_so(config, tree, built, tmp_path):
    code = shutil.copytree(tree, tmp_path / "code", symlinks=True)
    given = shutil.copytree(built.folder / "tokenizer", tmp_path / "given")
    config = dataclasses.replace(config, sources=(f"local:{code}",), tokenizer=TokenizerConfig(path=str(given)))
    build(config, tmp_path / "corpus")
    (given / "added_tokens.json").unlink()
    (code / "repo1" / "core.c").unlink()
    again = build(config, tmp_path / "corpus")
    assert again.seconds == {} and again.note == f"tokenizer, local:{code} changed since it was built"


def test_the_sample_is_not_the_first_files_and_grows_with_the_cap(config, tmp_path):
    def kept(max_bytes: int) -> set[tuple[str, str]]:
        folder = build(dataclasses.replace(config, max_bytes=max_bytes), tmp_path / str(max_bytes)).folder
        corpus = Corpus.open(folder)
        return {(d.repo, d.path) for split in ("train", "heldout") for d in corpus.documents(split)}

    total = sum(path.stat().st_size for path in files_of(Path(config.sources[0][6:])) if path.is_file())
    some, more = kept(total // 4), kept(total // 2)
    assert some < more
    assert len({repo for repo, _ in some}) > 3


def test_text_that_spells_end_of_document_does_not_end_it(tmp_path, config):
    for repo in ("one", "two"):
        (tmp_path / "code" / repo).mkdir(parents=True)
        (tmp_path / "code" / repo / "a.py").write_text(f"END = '<|endoftext|>'  # {repo}\n" * 60)
    config = dataclasses.replace(config, sources=(f"local:{tmp_path}/code",), analysis=AnalysisRules(enabled=False))
    built = build(config, tmp_path / "corpus")
    corpus = Corpus.open(built.folder)
    rows = [row for batch in corpus.batches("train", 1, 0, shuffle=False, epochs=1) for row in batch.tolist()]
    flat = [id for row in rows for id in row]
    assert flat.index(corpus.eod_id) == built.manifest["splits"]["train"]["tokens"] - 1


def test_one_repository_leaves_nothing_to_hold_out(tmp_path, config, tree):
    built = build(dataclasses.replace(config, sources=(f"local:{tree}/repo1/src",)), tmp_path / "corpus")
    assert built.manifest["splits"]["heldout"]["rows"] == 0
    with pytest.raises(UserError, match="split 'heldout' has no rows"):
        next(Corpus.open(built.folder).batches("heldout", 1, 0))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_the_split_is_deterministic_and_both_sides_get_one(share):
    names = [f"repo{number}" for number in range(200)]
    for count in (0, 1, 2, 3, 200):
        heldout = heldout_repositories(names[:count], 3, share)
        assert heldout == heldout_repositories(reversed(names[:count]), 3, share)
        assert (0 < len(heldout) < count) if count >= 2 and share else not heldout
    assert abs(len(heldout_repositories(names, 3, 0.5)) - 100) < 25
    assert heldout_repositories(names, 3, 0.5) != heldout_repositories(names, 4, 0.5)
    # A repository does not change sides when others come.
    assert heldout_repositories(names[:100], 3, 0.5) == heldout_repositories(names, 3, 0.5) & set(names[:100])


def test_an_empty_corpus_says_which_rule_dropped_most(tmp_path, config):
    folder = tmp_path / "code"
    folder.mkdir()
    for number in range(5):
        (folder / f"f{number}.py").write_text("x = 1\n")
    (folder / "latin.py").write_bytes(b"\xff" * 2000)
    with pytest.raises(
        UserError, match=r"nothing is left of 6 files: 'too_small' dropped most, 5, such as code: f0.py"
    ):
        build(dataclasses.replace(config, sources=(f"local:{folder}",)), tmp_path / "corpus")
    with pytest.raises(UserError, match=r"'not_sampled' dropped most, 6, such as .*: raise max_bytes"):
        build(dataclasses.replace(config, sources=(f"local:{folder}",), max_bytes=1), tmp_path / "corpus")
    with pytest.raises(UserError, match="no file in rust below"):
        build(dataclasses.replace(config, sources=(f"local:{folder}",), languages=("rust",)), tmp_path / "corpus")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": TokenizerConfig(path="/no/such/tokenizer")}, "/no/such/tokenizer: no "),
        ({"tokenizer": TokenizerConfig(vocab_size=100)}, "vocab_size=100 is too small"),
        ({"sources": ()}, "no source: name at least one"),
        ({"mixture": Mixture(weights={"pyhton": 1.0})}, "mixture.weights.pyhton: no such language"),
        ({"languages": ("pythn",)}, "unknown language 'pythn'; did you mean 'python'"),
        ({"sources": ("local:/no/such/place",)}, "no such folder"),
    ],
)
def test_bad_options_leave_nothing_behind(tmp_path, config, options, message):
    with pytest.raises(UserError, match=message):
        build(dataclasses.replace(config, **options), tmp_path / "corpus")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seq_length": 0}, "seq_length=0: must be at least 1"),
        ({"heldout_share": 1.0}, "heldout_share=1.0"),
        ({"max_bytes": 0}, "max_bytes=0"),
        ({"languages": ()}, "languages is empty"),
    ],
)
def test_bad_numbers_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        BuildConfig(**{"sources": ("local:.",), **options})


def test_a_folder_with_something_else_is_not_touched(tmp_path, config):
    (tmp_path / "thesis.tex").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="is there and is not a corpus"):
            build(config, tmp_path, overwrite=overwrite)
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(UserError, match="is there and is not a corpus"):
        build(config, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


MOMENTS = (
    "read/00000000.json",
    "documents/train-00000.jsonl.zst",
    "tokenizer/vocab.json",
    "work/train/",
    "shards/train-00001",
)
"""Names that show up one after the other below the unfinished corpus."""


def kill_at(moment: str, command: list[str], partial: Path, later_s: float = 0.0) -> None:
    """Starts a build and kills it a little after a file of this name is there."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if any(moment in os.path.join(root, name) for root, *names in os.walk(partial) for name in sum(names, [])):
            break  # os.walk passes over folders that are renamed meanwhile
    time.sleep(later_s)
    process.kill()
    process.wait()
    while group_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not group_alive(process.pid)  # the workers ended with their parent


def write_recipe(config: BuildConfig, path: Path) -> str:
    path.write_text(yaml.safe_dump(as_tree(config)))
    return str(path)


def test_a_build_that_is_killed_again_and_again_goes_on_and_gives_the_same_bytes(built, config, tmp_path):
    out, partial = tmp_path / "corpus", tmp_path / "corpus.partial"
    recipe = write_recipe(config, tmp_path / "recipe.yaml")
    command = [*MINDGEEX, "data", "build", recipe, "--workers", "2", "--out", str(out)]
    rng = random.Random(5)
    for moment in MOMENTS:
        kill_at(moment, command, partial, rng.random() * 0.05)
        assert not out.exists(), f"finished before {moment}"
        with pytest.raises(UserError, match="no manifest.json"):
            Corpus.open(partial)
    done = {path: path.stat().st_mtime_ns for path in (partial / "documents").glob("*.zst")}
    assert done
    finished = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert finished.returncode == 0, finished.stderr
    assert {out / path.relative_to(partial): time for path, time in done.items()}.items() <= {
        path: path.stat().st_mtime_ns for path in (out / "documents").glob("*.zst")
    }.items()  # what was done was not done again
    assert digests(out) == digests(built.folder)
    assert not partial.exists()


def test_a_build_whose_source_changed_while_it_was_dead_begins_anew_and_says_so(config, tree, tmp_path):
    code = Path(shutil.copytree(tree, tmp_path / "code", symlinks=True))
    config = dataclasses.replace(config, sources=(f"local:{code}",))
    out, recipe = tmp_path / "corpus", write_recipe(config, tmp_path / "recipe.yaml")
    command = [*MINDGEEX, "data", "build", recipe, "--workers", "1", "--out", str(out)]
    kill_at("documents/train-00000.jsonl.zst", command, tmp_path / "corpus.partial")
    (code / "repo1" / "more.py").write_text(
        (code / "repo1/src/module1.py").read_text() + "\n\nMORE = 'more words here'\n" * 9
    )
    finished = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    assert f"corpus.partial: begun with fingerprints.local:{code}=" in finished.stderr
    assert digests(out) == digests(build(config, tmp_path / "fresh").folder)


def test_a_corpus_finished_but_not_yet_in_place_is_put_there(built, config, tmp_path):
    shutil.copytree(built.folder, tmp_path / "corpus.partial")
    again = build(config, tmp_path / "corpus")
    assert again.manifest == built.manifest and again.seconds == {}
    assert digests(again.folder) == digests(built.folder)


def test_a_corpus_is_locked_until_it_is_in_place(config, tmp_path):
    out, partial = tmp_path / "corpus", tmp_path / "corpus.partial"
    recipe = write_recipe(config, tmp_path / "recipe.yaml")
    command = [*MINDGEEX, "data", "build", recipe, "--out", str(out), "--workers", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    refused = 0
    while process.poll() is None and not out.exists():
        time.sleep(0.0005)
        if (partial / "manifest.json").exists():
            try:
                with (partial / ".lock").open() as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                raise AssertionError("free before the corpus was in place")
            except BlockingIOError:
                refused += 1
            except FileNotFoundError:
                assert not partial.exists()
    assert process.wait() == 0 and refused
    assert not (out / ".lock").exists() and not partial.exists()
    (out / ".lock").touch()  # killed after its last step but one
    build(config, out)
    assert not (out / ".lock").exists()


def test_what_a_killed_clean_up_leaves_is_no_build(built, config, tmp_path, monkeypatch):
    partial = Path(shutil.copytree(built.folder, tmp_path / "corpus.partial"))
    (partial / "shards" / "train-00000.mindrecord").unlink()  # as far as it came

    def die(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", die)
        build(dataclasses.replace(config, seed=2), tmp_path / "corpus")
    assert digests(build(config, tmp_path / "corpus").folder) == digests(built.folder)


def test_out_may_be_a_link_or_relative(built, config, tmp_path, monkeypatch):
    (tmp_path / "disk" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to("disk/real")
    monkeypatch.chdir(tmp_path)
    assert build(config, Path("link")).folder == tmp_path / "disk" / "real"
    assert (tmp_path / "link").is_symlink() and digests(tmp_path / "link") == digests(built.folder)
    with pytest.raises(UserError, match="File name too long"):
        build(config, Path("a" * 300))


def group_alive(group: int) -> bool:
    with contextlib.suppress(ChildProcessError):  # this process may have been made the parent of orphans
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("size", ["16k", "64k", "1200k"])
def test_full_disk_is_one_line_and_leaves_nothing(tree, tmp_path, private_mount, size):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = " ".join(
        [
            *MINDGEEX,
            "data build --set seq_length=32 tokenizer.vocab_size=400",
            f"--source local:{tree} --out {disk}/corpus",
        ]
    )
    script = f"mount -t tmpfs -o size={size} tmpfs {disk} && {command}; code=$?; ls -A {disk}; exit $code"
    result = subprocess.run([*private_mount, script], capture_output=True, text=True, timeout=100)
    assert result.returncode == 2, result.stderr
    assert "the disk is full (" in result.stderr.splitlines()[-1] and "Traceback" not in result.stderr
    assert result.stdout in ("", "corpus.partial\n")  # what was done stays, and the same command goes on with it


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MINDGEEX, *arguments], capture_output=True, text=True, timeout=100)


def test_commands_from_code_to_tokenizer(tree, tmp_path):
    out, tokenizer = tmp_path / "corpus[/1]", tmp_path / "tokenizer"
    options = ["--source", f"local:{tree}/repo1", "--source", f"local:{tree}/repo2", "--workers", "1"]
    command = ["data", "build", *options, "--out", str(out), "--set", "seq_length=32", "tokenizer.vocab_size=300"]
    result = run(*command)
    assert result.returncode == 0, result.stderr
    assert "python" in result.stdout and "12 files in, 12 kept, dropped: none" in result.stdout
    assert "already built" in run(*command).stdout
    result = run(*command, "seed=2")
    assert result.returncode == 2 and "seed=1" in result.stderr and "Traceback" not in result.stderr
    result = run("tokenizer", "train", str(out), "--vocab-size", "350", "--out", str(tokenizer))
    assert result.returncode == 0, result.stderr
    assert "350" in result.stdout and (tokenizer / "added_tokens.json").is_file()
    result = run("tokenizer", "train", str(out), "--vocab-size", "300", "--out", str(tokenizer))
    assert result.returncode == 0 and digests(tokenizer) == digests(out / "tokenizer")
    (tokenizer / "weights.bin").write_text("precious")
    result = run("tokenizer", "train", str(out), "--out", str(tokenizer))
    assert result.returncode == 2 and "is there and holds weights.bin" in result.stderr
    (tokenizer / "weights.bin").unlink()
    (out / "shards" / "train-00000.mindrecord").unlink()
    result = run("tokenizer", "train", str(out), "--out", str(tokenizer))
    assert result.returncode == 2 and "train-00000.mindrecord: missing" in result.stderr


def test_command_reports_a_bad_source_in_one_line(tmp_path):
    result = run("data", "build", "--source", "local:/no/such/place", "--out", str(tmp_path / "corpus"))
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr == "mindgeex: --source local:/no/such/place: no such folder\n"


def test_report_shows_the_mix_the_drops_and_the_split(built, tmp_path):
    write_page(tmp_path / "page.html", "corpus", sections(built.manifest))
    page = (tmp_path / "page.html").read_text()
    for text in ("<svg", "few_letters", "repo0/bad/large.py", "heldout", "CodeGeeX"):
        assert text in page
    assert "Nothing is held out" not in page
