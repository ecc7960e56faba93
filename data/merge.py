"""Several corpora into one: files hard-linked where the disk allows, counts added, rows of one behind those of another.

What must be the same is compared and a difference refused by name: rows of different lengths, tokenizers or packing do
not mix. Shards cannot be renamed, since MindSpore finds each by the name in its index, so those of the first corpus go
to `shards/0000`, of the second to `shards/0001`, and so on; documents likewise.

Covers: any number of corpora, also merged ones; a kill leaves no corpus.
Does not cover: documents that are in several of them, or held out in one and trained on in another: build with
`earlier` to leave such documents out; mixtures over all of them.
"""

import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindgeex.common.errors import UserError
from mindgeex.common.files import atomic_folder, write_json
from mindgeex.common.html import write_page
from mindgeex.common.progress import progress
from mindgeex.data.document import file_entry
from mindgeex.data.mindrecord import Corpus, fingerprint
from mindgeex.data.report import sections
from mindgeex.data.shards import check_file

SAME = (
    "format", "layout", "config.seq_length", "config.rows.packing", "config.rows.window_stride", "config.rows.pad_id",
    "tokenizer.fingerprint", "tokenizer.vocab_size", "tokenizer.eod_id",
)  # fmt: skip
"""Keys of the manifest in which all corpora must agree."""

AGREED = ("format", "layout", "config", "fingerprints", "versions", "tokenizer")
"""Keys of which a merged manifest keeps what all corpora say alike; the others are added."""

OF_EACH = ("config", "fingerprints", "versions", "sources", "mixture", "merged_from")
"""Keys that `merged_from` keeps of each corpus."""


def merge(corpora: Sequence[Path], out: Path) -> dict[str, Any]:
    """Makes one corpus of several.

    Args:
        corpora: their folders, in the order of their rows.
        out: the new corpus's folder; must not be there, or be empty.

    Returns:
        Its manifest.

    Raises:
        UserError: fewer than two corpora, one named twice, one that is altered, a key in which they differ, a folder in
            the way, or a full disk.
    """
    folders, out = [Path(folder) for folder in corpora], Path(out)
    _check_places(folders, out)
    opened = [Corpus.open(folder, check="sizes") for folder in folders]
    manifests = [corpus.manifest for corpus in opened]
    for key in SAME:
        first = _value(manifests[0], key)
        for folder, manifest in zip(folders, manifests, strict=True):
            if (value := _value(manifest, key)) != first:
                raise UserError(
                    f"{folder}: {key}={value}, but {folders[0]} has {key}={first}: merge corpora that agree in it, or "
                    "build one of them again"
                )
    with atomic_folder(out) as partial:
        for entry in manifests[0]["tokenizer"]["files"]:
            _link(folders[0] / entry["file"], partial / entry["file"])
        merged = _merged(manifests)
        merged["merged_from"] = [_provenance(corpus) for corpus in opened]
        total = sum(len(manifest["shards"]) + len(manifest["document_shards"]) for manifest in manifests)
        with progress("merge, shards", total) as bar:
            for number, corpus in enumerate(opened):
                for key in ("shards", "document_shards"):
                    for entry in corpus.manifest[key]:
                        merged[key].append(_linked(corpus.folder, partial, entry, number))
                        bar.advance()
        if lists := [corpus for corpus in opened if corpus.manifest.get("decontamination")]:
            merged["decontamination"]["list"] = _joined_hits(lists, partial)
        write_page(partial / "report.html", "Corpus", sections(merged))
        write_json(partial / "manifest.json", merged)
    return merged


def _check_places(folders: list[Path], out: Path) -> None:
    if len(folders) < 2:
        raise UserError(f"{len(folders)} corpora to merge: name at least two")
    real = [folder.resolve() for folder in folders]
    for number, folder in enumerate(real):
        if folder in real[:number]:
            raise UserError(f"{folders[number]}: named twice: name each corpus once")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there already: choose another folder for --out")


def _value(manifest: dict[str, Any], key: str) -> Any:
    value: Any = manifest
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _provenance(corpus: Corpus) -> dict[str, Any]:
    rows = {split: counts["rows"] for split, counts in corpus.manifest["splits"].items()}
    return {
        "name": corpus.folder.resolve().name,
        "fingerprint": fingerprint(corpus.manifest["shards"]),
        "rows": rows,
        **{key: corpus.manifest[key] for key in OF_EACH if key in corpus.manifest},
    }


def _merged(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """The merged manifest, its lists of files empty."""
    listed = ("shards", "document_shards", "merged_from")
    others = [{k: v for k, v in m.items() if k not in (*AGREED, *listed)} for m in manifests]
    merged = {key: agreed([manifest.get(key) for manifest in manifests]) for key in AGREED} | added(others)
    amounts = merged["splits"].values()
    num_bytes, tokens = (sum(split.get(key, 0) for split in amounts) for key in ("bytes", "tokens"))
    merged["tokenizer"]["bytes_per_token"] = round(num_bytes / tokens, 4) if tokens else 0.0
    merged["tokenizer"]["trained_here"] = False
    merged["mixture"] = _mixture([manifest.get("mixture") or {} for manifest in manifests])
    merged["sample"] = _in_turn([manifest.get("sample", []) for manifest in manifests])
    if "largest" in merged.get("duplicates", {}):
        merged["duplicates"]["largest"].sort(key=lambda group: -group["copies"])
    if benchmarks := [m["decontamination"]["benchmarks"] for m in manifests if m.get("decontamination")]:
        merged["decontamination"]["benchmarks"] = {name: count for each in benchmarks for name, count in each.items()}
    return {**merged, "shards": [], "document_shards": []}


def agreed(values: Sequence[Any]) -> Any:
    """What all values say alike: of mappings, the keys in which they agree; None where nothing is left."""
    first = values[0]
    if all(value == first for value in values):
        return first
    if not all(isinstance(value, dict) for value in values):
        return None
    common = {key: agreed([value[key] for value in values]) for key in first if all(key in value for value in values)}
    return {key: value for key, value in common.items() if value is not None}


def added(values: Sequence[Any]) -> Any:
    """Counts added: numbers, lists of as many numbers each (histograms), and mappings of these, key by key.

    Other lists are joined, words in them sorted and each kept once; of anything else stays what all agree in.
    """
    if all(isinstance(value, dict) for value in values):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: added([value[key] for value in values if key in value]) for key in keys}
    if all(_is_number(value) for value in values):
        return sum(values)
    if all(isinstance(value, list) for value in values):
        items = [item for value in values for item in value]
        if len({len(value) for value in values}) == 1 and all(map(_is_number, items)):
            return [sum(column) for column in zip(*values, strict=True)]
        return sorted(set(items)) if all(isinstance(item, str) for item in items) else items
    return agreed(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _mixture(mixtures: list[dict[str, Any]]) -> dict[str, Any]:
    """Tokens of each group over all corpora; empty if one of them was not mixed."""
    if not all(mixtures):
        return {}
    mixture: dict[str, Any] = added(mixtures)
    for group in mixture["groups"].values():
        group["share"] = round(group["wanted_tokens"] / max(1, mixture["target_tokens"]), 6)
        group["epochs"] = round(group["tokens"] / max(1, group["available_tokens"]), 4)
    return mixture


def _in_turn(lists: list[list[Any]]) -> list[Any]:
    """One of each list, again and again."""
    return [item for items in itertools.zip_longest(*lists) for item in items if item is not None]


def _linked(folder: Path, out: Path, entry: dict[str, Any], number: int) -> dict[str, Any]:
    """Links a file, and those its entry holds, to a folder with the corpus's number; the entry with its new place."""
    check_file(folder, entry, hashed=False)
    top, _, rest = entry["file"].partition("/")
    file = f"{top}/{number:04d}/{rest}"
    _link(folder / entry["file"], out / file)
    inner = {k: _linked(folder, out, v, number) for k, v in entry.items() if isinstance(v, dict) and "file" in v}
    return {**entry, **inner, "file": file}


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)


def _joined_hits(corpora: list[Corpus], out: Path) -> dict[str, Any]:
    path = out / "decontamination.jsonl"
    with path.open("wb") as file:
        for corpus in corpora:
            entry = corpus.manifest["decontamination"]["list"]
            check_file(corpus.folder, entry)
            file.write((corpus.folder / entry["file"]).read_bytes())
    return file_entry(path, out)
