"""The recipes that ship: each loads, holds what its comments say, and builds a corpus of real code."""

import re
import shutil
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import yaml

from mindgeex.data.config import RECIPES, BuildConfig, load_recipe, recipe_names
from mindgeex.data.document import read_shard
from mindgeex.data.fim import FimRules
from mindgeex.data.languages import DEFAULT_LANGUAGES, PROSE, PUBLISHED_MIX, TAGS, canonical
from mindgeex.data.licences import canonical_licence
from mindgeex.data.mindrecord import Corpus, verify
from mindgeex.data.pipeline import build
from tests.data.licence_texts import MIT

PACKAGES = ("json", "email", "logging", "html", "urllib")
"""Of this Python's standard library; each becomes a repository."""

SMALLER = ("seq_length=64", "tokenizer.vocab_size=400", "tokenizer.sample_bytes=200000", "heldout_share=0.2")
"""What every recipe is built with here; all else is the recipe's own."""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of the standard library; two have a licence, and one of these a copy of a file of the other."""
    folder = tmp_path_factory.mktemp("recipes") / "code"
    for name in PACKAGES:
        package = Path(sysconfig.get_path("stdlib")) / name
        shutil.copytree(package, folder / name, ignore=shutil.ignore_patterns("__pycache__", "test*"))
    for name in ("json", "email"):
        (folder / name / "LICENSE").write_text(MIT)
    shutil.copyfile(folder / "json" / "decoder.py", folder / "email" / "copied.py")
    (folder / "html" / "notes.txt").write_text(
        "The parser of this package reads what people write, and people do not close every tag that they open. " * 20
    )
    return folder


def built(code: Path, out: Path, recipe: str, *overrides: str) -> Corpus:
    config = load_recipe(recipe, (f"sources=[local:{code}]", *SMALLER, *overrides))
    build(config, out)
    return Corpus.open(out)


def dropped(corpus: Corpus) -> dict[str, int]:
    found: dict[str, int] = corpus.manifest["documents"]["dropped"]
    return found


def languages_kept(corpus: Corpus) -> set[str]:
    return {language for split in corpus.manifest["splits"].values() for language in split["languages"]}


@pytest.fixture(scope="module")
def corpora(code: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Corpus]:
    """Every recipe's corpus of the same code."""
    root = tmp_path_factory.mktemp("corpora")
    more = {"codegeex": ("rows.window_stride=50",)}
    return {name: built(code, root / name, name, *more.get(name, ())) for name in recipe_names()}


def test_four_recipes_ship() -> None:
    assert recipe_names() == ["codefuse", "codegeex", "permissive", "small"]


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_holds_only_what_differs_from_the_defaults(name: str) -> None:
    said = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    tree, defaults = load_recipe(name).identity(), BuildConfig().identity()
    assert said and set(said) <= set(defaults)
    if name == "small":
        assert tree == defaults, "its comment says that the defaults are its values"
    else:
        assert tree != defaults


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_says_what_it_is_for(name: str) -> None:
    first = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert re.match(r"# [A-Z].{30}", first)


def test_codegeex_has_the_published_bounds() -> None:
    config = load_recipe("codegeex")
    rules, repositories = config.rules, config.repositories
    assert (rules.min_bytes, rules.max_bytes) == (1024, 102400)
    assert (rules.max_average_line_chars, rules.min_alphabetic_share, rules.drop_generated) == (100, 0.4, True)
    assert (repositories.min_stars, repositories.pile_min_stars, repositories.max_bytes) == (1, 100, 10_000_000)
    assert (config.seq_length, config.rows.packing, config.rows.window_stride) == (2048, "windows", 200)
    assert config.rows.pad_id is None
    assert config.languages == DEFAULT_LANGUAGES
    assert len({canonical(key) for key in config.languages}) == 23


def test_codegeex_does_nothing_that_was_not_published() -> None:
    config = load_recipe("codegeex")
    assert not (config.dedup.exact or config.dedup.near or config.redact.secrets or config.redact.emails)
    assert not config.analysis.enabled
    assert not config.decontamination.benchmarks
    assert config.licences.filters() == []
    assert config.fim.rate == 0
    assert config.mixture.weights == {}


def test_codefuse_has_every_language_with_a_tag_and_both_of_prose() -> None:
    keys = [canonical(key) for key in load_recipe("codefuse").languages]
    assert len(set(keys)) == len(keys), "none is named twice"
    assert {*map(canonical, TAGS), *PROSE} == set(keys)
    assert {TAGS[key] for key in keys if key in TAGS} == set(TAGS.values())


def test_codefuse_has_the_published_vocabulary_and_length() -> None:
    config = load_recipe("codefuse")
    assert (config.tokenizer.vocab_size, config.seq_length) == (100_864, 4096)
    assert config.analysis.enabled
    assert config.dedup.exact
    assert config.dedup.near


def test_permissive_names_licences_that_exist_and_no_copyleft() -> None:
    rules = load_recipe("permissive").licences
    assert rules.allow and not rules.allow_unknown
    assert [canonical_licence(name) for name in rules.allow] == list(rules.allow)
    assert not [name for name in rules.allow if re.search("GPL|MPL|EPL|CC-BY|SSPL", name)]


def test_permissive_has_the_published_mix() -> None:
    mixture = load_recipe("permissive").mixture
    assert mixture.weights == {**PUBLISHED_MIX, "*": 3.10}
    assert sum(mixture.weights.values()) == pytest.approx(100, abs=0.02)


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_builds_a_corpus_that_is_as_it_was_written(name: str, corpora: dict[str, Corpus]) -> None:
    corpus = corpora[name]
    assert list(verify(corpus.folder)) == []
    assert corpus.num_rows("train") > 0
    counts = corpus.manifest["documents"]
    assert counts["in"] == counts["kept"] + sum(counts["dropped"].values())
    assert (corpus.folder / "report.html").stat().st_size > 10_000


def test_codegeex_keeps_copies_and_the_others_do_not(corpora: dict[str, Corpus]) -> None:
    assert "duplicate" not in dropped(corpora["codegeex"])
    assert dropped(corpora["small"])["duplicate"] == 1
    assert dropped(corpora["codefuse"])["duplicate"] == 1


def test_a_row_of_codegeex_is_one_document_and_then_padding(corpora: dict[str, Corpus]) -> None:
    corpus = corpora["codegeex"]
    tag = corpus.tokenizer().encode("# language: Python\n")
    starts = 0
    for (row,) in corpus.batches("train", 1, seed=1, shuffle=False, epochs=1):
        (ends,) = np.nonzero(row == corpus.eod_id)
        assert not len(ends) or (row[ends[0] :] == corpus.eod_id).all(), "nothing stands behind a document's end"
        starts += row[: len(tag)].tolist() == tag
    splits = corpus.manifest["splits"]
    assert starts == splits["train"]["documents"]
    assert splits["train"]["rows"] * (corpus.seq_length + 1) > splits["train"]["tokens"]


def test_codefuse_takes_prose_and_scores_code(corpora: dict[str, Corpus]) -> None:
    assert {"python", "english"} <= languages_kept(corpora["codefuse"])
    assert set(corpora["codefuse"].manifest["analysis"]) == {"python"}
    assert "english" not in languages_kept(corpora["small"])


def test_permissive_keeps_only_what_has_a_licence_it_allows(corpora: dict[str, Corpus]) -> None:
    corpus = corpora["permissive"]
    assert corpus.manifest["licences"] == {"MIT": corpus.manifest["documents"]["kept"]}
    assert dropped(corpus)["no_licence"] > 0
    repositories = {d.repo for path in (corpus.folder / "documents").iterdir() for d in read_shard(path)}
    assert repositories <= {"code/json", "code/email"}


def test_permissive_tells_about_half_of_the_documents_with_their_middle_last(corpora: dict[str, Corpus]) -> None:
    corpus = corpora["permissive"]
    prefix = corpus.tokenizer().special_id(FimRules().tokens[0])
    rows = np.concatenate([row for (row,) in corpus.batches("train", 1, seed=1, shuffle=False, epochs=1)])
    documents = int((rows == corpus.eod_id).sum())
    assert 0 < int((rows == prefix).sum()) < documents


def test_a_recipe_is_changed_by_what_the_user_sets(code: Path, tmp_path: Path) -> None:
    corpus = built(code, tmp_path / "out", "small", "rules.max_bytes=6000", "rules.min_bytes=2000")
    sizes = [len(d.text.encode()) for path in (corpus.folder / "documents").iterdir() for d in read_shard(path)]
    assert sizes and min(sizes) >= 2000 and max(sizes) <= 6000


def test_a_printed_recipe_is_a_recipe_with_the_same_settings(tmp_path, capsys):
    from mindgeex.cli.main import main

    for name in recipe_names():
        assert main(["data", "recipe", name, "--set", "seq_length=960"]) == 0
        path = tmp_path / f"{name}.yaml"
        path.write_text(capsys.readouterr().out)
        assert load_recipe(str(path)) == load_recipe(name, ["seq_length=960"])
