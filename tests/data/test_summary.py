"""What the commands print about a corpus, and the numbers that the report is made of."""

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from mindgeex.data.languages import PUBLISHED_MIX, TAGS
from mindgeex.data.summary import OTHERS, PUBLISHED_OTHERS, Amount, amounts, lines, mix, render, shares, total

LONG = "deep/folder/with/many/levels/that/go/on/and/on/src/main/java/org/example/project/internal/Reader.java"


def counts(documents: int, num_bytes: int, tokens: int, in_rows: int | None = None) -> dict[str, int]:
    found = {"documents": documents, "bytes": num_bytes, "tokens": tokens}
    return found if in_rows is None else found | {"tokens_in_rows": in_rows}


def make_split(languages: dict[str, dict[str, int]], rows: int, repositories: list[str]) -> dict[str, Any]:
    keys = ("documents", "bytes", "tokens", "tokens_in_rows")
    sums = {key: sum(language[key] for language in languages.values()) for key in keys}
    return {"rows": rows, **sums, "languages": languages, "repositories": repositories}


def make_manifest(**changes: Any) -> dict[str, Any]:
    """A manifest with every kind of fact, as a build with everything on writes it; `changes` replace whole keys."""
    train = {
        "c": counts(30, 300_000, 100_000, 100_000),
        "lua": counts(5, 20_000, 10_000, 20_000),
        "python": counts(50, 600_000, 150_000, 60_000),
    }
    heldout = {"python": counts(4, 40_000, 10_000, 10_000), "rust": counts(1, 9_000, 10_000, 10_000)}
    example = {"repo": "repo0", "path": LONG, "detail": "312 bytes"}
    manifest = {
        "format": 3,
        "config": {"seq_length": 2048, "analysis": {"min_syntax": 0.9, "min_cleanliness": 0.35}},
        "sources": [
            {"source": "corpus:before", "earlier": True, "parts": 2, "bytes": 9_000_000, "in": 0, "kept": 0},
            {"source": "local:code", "earlier": False, "parts": 7, "bytes": 1_500_000, "in": 120, "kept": 60},
            {"source": "archives:sdists", "earlier": False, "parts": 40, "bytes": 900_000, "in": 30, "kept": 30},
        ],
        "documents": {
            "in": 150,
            "kept": 90,
            "dropped": {"not_sampled": 30, "duplicate": 13, "too_small": 10, "syntax_errors": 4, "contaminated": 3},
            "examples": {
                "too_small": [example, {"repo": "repo1", "path": "a.py", "detail": ""}],
                "duplicate": [{"repo": "repo2", "path": "b.c", "detail": f"of repo0: {LONG}"}],
                "contaminated": [{"repo": "repo3", "path": "<b>&.py", "detail": "span of Python/3"}],
            },
        },
        "splits": {
            "train": make_split(train, 88, ["repo0", "repo1"]),
            "heldout": make_split(heldout, 9, ["repo9"]),
        },
        "licences": {"MIT": 60, "unknown": 20, "Apache-2.0": 10},
        "redacted": {"documents": 3, "email": 4, "aws_key": 1},
        "analysis": {
            "c": {"syntax": [0] * 18 + [4, 26], "cleanliness": [1] * 10 + [2] * 10},
            "python": {"syntax": [3] + [0] * 18 + [54], "cleanliness": [0] * 7 + [9] + [4] * 12},
        },
        "sample": [
            {"repo": "repo0", "path": LONG, "language": "python", "licence": None, "stars": None, "syntax": 1.0}
            | {"cleanliness": 0.62},
            {"repo": "repo1", "path": "low.c", "language": "c", "licence": "MIT", "stars": 12_345, "syntax": 0.91}
            | {"cleanliness": 0.41},
            {"repo": "repo1", "path": "none.lua", "language": "lua", "licence": "MIT", "stars": 5, "syntax": None}
            | {"cleanliness": None},
        ],
        "duplicates": {
            "groups": 2,
            "copies": 13,
            "largest": [
                {"kept": f"repo0: {LONG}", "copies": 12, "examples": ["repo2: b.c", "repo3: c.c", "repo4: d.c"]},
                {"kept": "repo5: e.py", "copies": 1, "examples": ["repo6: e.py"]},
            ],
        },
        "decontamination": {
            "benchmarks": {"humaneval-x": 820, "mbpp": 500},
            "hits": 4,
            "by_benchmark": {"humaneval-x": 4},
            "list": {"file": "decontamination.jsonl", "bytes": 900, "sha256": "0" * 64},
        },
        "mixture": {
            "target_tokens": 200_000,
            "tokens": 180_000,
            "short": ["lua"],
            "groups": {
                "c": {"share": 0.5, "available_tokens": 100_000, "wanted_tokens": 100_000, "tokens": 100_000}
                | {"epochs": 1.0},
                "python": {"share": 0.3, "available_tokens": 150_000, "wanted_tokens": 60_000, "tokens": 60_000}
                | {"epochs": 0.4},
                "lua": {"share": 0.2, "available_tokens": 10_000, "wanted_tokens": 40_000, "tokens": 20_000}
                | {"epochs": 2.0},
            },
        },
        "tokenizer": {
            "fingerprint": "5eed" * 16,
            "vocab_size": 4096,
            "eod_id": 0,
            "trained_here": True,
            "bytes_per_token": 3.4607,
            "files": [],
        },
        "shards": [],
        "document_shards": [],
    }
    return manifest | changes


def first_version() -> dict[str, Any]:
    """A manifest as the first version of the project wrote them."""
    language = {"python": counts(3, 9_000, 3_000)}
    split = {"documents": 3, "rows": 11, "bytes": 9_000, "tokens": 3_000}
    return {
        "format": 1,
        "sources": ["local:code"],
        "config": {"seq_length": 256},
        "documents": {"in": 4, "kept": 3, "dropped": {"too_small": 1}, "examples": {"too_small": ["code: a.py"]}},
        "splits": {
            "train": {**split, "languages": language, "repositories": ["code"]},
            "heldout": {"documents": 0, "rows": 0, "bytes": 0, "tokens": 0, "languages": {}, "repositories": []},
        },
        "tokenizer": {"vocab_size": 400, "eod_id": 0, "bytes_per_token": 3.0, "fingerprint": "f"},
    }


def printed(manifest: dict[str, Any], width: int = 120) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    for item in render(manifest):
        console.print(item, highlight=False)
    return console.export_text()


def test_a_language_counts_in_both_splits_by_its_tokens_in_rows():
    found = amounts(make_manifest())
    assert list(found) == ["c", "python", "lua", "rust"]
    assert found["python"] == Amount(54, 640_000, 160_000, 70_000)
    assert amounts(make_manifest(), "heldout")["python"].documents == 4
    assert shares(found)["python"] == pytest.approx(35.0)
    assert found["rust"].bytes_per_token == 0.9 and Amount().bytes_per_token is None
    assert total(found.values()).tokens_in_rows == 200_000


def test_tokens_stand_in_for_tokens_in_rows_where_a_manifest_lacks_them():
    assert amounts(first_version())["python"].tokens_in_rows == 3_000


def test_others_are_all_that_the_published_mix_does_not_name():
    compared = mix(amounts(make_manifest()))
    assert list(compared) == ["c", "python", "cpp", "java", "javascript", "go", "html", "shell", "php", "css", OTHERS]
    assert compared["c"] == (50.0, PUBLISHED_MIX["c"])
    assert compared[OTHERS] == (pytest.approx(15.0), PUBLISHED_OTHERS)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(TAGS)), st.integers(0, 10**12), min_size=1))
def test_shares_add_up_to_a_hundred_or_to_nothing(tokens):
    found = {name: Amount(1, 1, count, count) for name, count in tokens.items()}
    whole = 100.0 if any(tokens.values()) else 0.0
    assert sum(shares(found).values()) == pytest.approx(whole)
    assert sum(ours for ours, _ in mix(found).values()) == pytest.approx(whole)
    assert sum(theirs for _, theirs in mix(found).values()) == pytest.approx(100, abs=0.05)


def test_what_is_printed_tells_every_fact_that_occurred():
    text = printed(make_manifest())
    for words in (
        "150 files in, 90 kept, dropped: not_sampled 30, duplicate 13, too_small 10, syntax_errors 4, contaminated 3",
        "88 train rows, 9 held-out rows of 2048 tokens; 4,096 ids, 3.46 bytes a token",
        "13 copies of 2 files left out; most often repo0:",
        "redacted in 3 files: email 4, aws_key 1",
        "humaneval-x 4 (decontamination.jsonl)",
        "licences: MIT 60, unknown 20, Apache-2.0 10",
    ):
        assert words in text
    table = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert table["rust"] == ["0", "0.00", "1", "0.01", "10,000", "5.00"]
    assert table["all"] == ["85", "0.92", "5", "0.05", "200,000", "100.00"]
    assert text.index("mixture") > text.index("files in")


def test_the_mixture_says_what_was_wanted_and_reached():
    rows = [line.split() for line in printed(make_manifest()).splitlines() if line.strip()]
    wanted = {row[0]: row[1:] for row in rows}  # the last table wins
    assert wanted["lua"] == ["20.00", "11.11", "10,000", "20,000", "2.00"]


def test_the_share_held_out_stands_beside_the_one_asked_for():
    config = {"seq_length": 2048, "heldout_share": 0.02}
    assert "held out: 5.06% of the bytes, 2.00% asked for; repositories are not divided" in lines(
        make_manifest(config=config)
    )
    alone = make_manifest(config=config)
    alone["splits"]["heldout"] = make_split({}, 0, [])
    assert "nothing is held out, 2.00% of the bytes were asked for: there is only one repository" in lines(alone)


def test_the_group_that_keeps_a_mixture_small_is_named_unless_a_target_was_set():
    groups = {
        "python": {"share": 0.9, "available_tokens": 9_000, "tokens": 900, "wanted_tokens": 900, "epochs": 0.1},
        "shell": {"share": 0.1, "available_tokens": 100, "tokens": 100, "wanted_tokens": 100, "epochs": 1.0},
    }
    mixture = {"groups": groups, "tokens": 1000, "target_tokens": 1000, "short": []}
    told = "shell has least for its share, so 1,000 of 9,100 tokens are taken: set mixture.target_tokens"
    for target, wanted in ((None, True), (5000, False)):
        config = {"seq_length": 2048, "mixture": {"target_tokens": target}}
        text = "\n".join(lines(make_manifest(config=config, mixture=mixture)))
        assert (told in text) == wanted


def test_nothing_is_printed_of_what_did_not_occur():
    empty = make_manifest(redacted={"documents": 0}, decontamination={}, mixture={}, duplicates={"copies": 0})
    assert len(lines(empty)) == 3 and len(render(empty)) == 4
    found = make_manifest()["decontamination"] | {"hits": 0, "by_benchmark": {}}
    assert lines(make_manifest(decontamination=found, redacted={}, duplicates={}, mixture={})) == lines(empty)
    nothing = make_manifest(documents={"in": 12, "kept": 12, "dropped": {}, "examples": {}})
    assert "12 files in, 12 kept, dropped: none" in lines(nothing)


def test_names_with_brackets_are_printed_as_they_are():
    groups = {"local:code[/bold]": {"share": 1.0, "tokens": 5, "available_tokens": 5, "epochs": 1.0}}
    largest = [{"kept": "repo[red]: a.py", "copies": 1, "examples": []}]
    text = printed(make_manifest(mixture={"groups": groups}, duplicates={"groups": 1, "copies": 1, "largest": largest}))
    assert "local:code[/bold]" in text and "1 copy of 1 file left out; most often repo[red]: a.py, 1" in text


def test_manifests_of_the_first_version_and_empty_ones_are_printed():
    text = printed(first_version())
    assert "4 files in, 3 kept, dropped: too_small 1" in text and "11 train rows" in text
    assert "0 files in" in printed({})


def test_a_narrow_terminal_loses_no_number_and_breaks_no_heading():
    language = {"typescript": counts(1_234_567, 123_456_789_012, 45_678_901_234, 45_678_901_234)}
    splits = {name: make_split(language, 9, ["repo"]) for name in ("train", "heldout")}
    text = printed(make_manifest(splits=splits), width=80)
    row = next(line for line in text.splitlines() if line.startswith("typescript"))
    assert row.split("  ")[0].strip() == "typescript" and "1.23 M" in row and "91.36 B" in row
    assert "…" not in text and {"held-out", "CodeGeeX", "tokens"} <= set(text.split())


def test_a_manifest_read_from_disk_is_printed_the_same():
    manifest = make_manifest()
    assert printed(json.loads(json.dumps(manifest))) == printed(manifest)


def test_a_built_corpus_is_summed_up_by_its_own_counts(built):
    manifest = built.manifest
    train = manifest["splits"]["train"]
    assert sum(amount.bytes for amount in amounts(manifest, "train").values()) == train["bytes"]
    assert f"{manifest['documents']['kept']:,} kept" in printed(manifest)
