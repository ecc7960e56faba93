"""Pages about a corpus, from its manifest: what is in it, what was dropped and why, and the split."""

from typing import TYPE_CHECKING, Any

from mindgeex.common.html import Section
from mindgeex.data.languages import PUBLISHED_MIX

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DROP_TEXT = {
    "not_sampled": "left out by the cap on bytes, by a hash of the name",
    "too_small": "smaller than the size rule allows",
    "too_large": "larger than the size rule allows",
    "long_lines": "too many characters a line on average",
    "few_letters": "too small a share of letters",
    "generated": "says that a tool wrote it",
    "duplicate": "the same text was kept before",
    "not_utf8": "not UTF-8 text",
    "unreadable": "could not be read",
    "other_language": "its content is in a language not asked for",
}


def sections(manifest: dict[str, Any]) -> list[Section]:
    """The report's sections on the corpus.

    Args:
        manifest: as in manifest.json.
    """
    return [_composition(manifest), _dropped(manifest), _split(manifest)]


def _composition(manifest: dict[str, Any]) -> Section:
    from matplotlib.figure import Figure

    sizes: dict[str, int] = {}
    for split in manifest["splits"].values():
        for language, count in split["languages"].items():
            sizes[language] = sizes.get(language, 0) + count["bytes"]
    total = sum(sizes.values())
    names = sorted(
        {*sizes, *PUBLISHED_MIX}, key=lambda name: (-sizes.get(name, 0), -PUBLISHED_MIX.get(name, 0.0), name)
    )
    figure = Figure(figsize=(8, 1 + 0.35 * len(names)))
    axes = figure.subplots()
    places = range(len(names))
    axes.barh([place - 0.2 for place in places], [100 * sizes.get(name, 0) / total for name in names], 0.4)
    axes.barh([place + 0.2 for place in places], [PUBLISHED_MIX.get(name, 0.0) for name in names], 0.4, color="0.75")
    axes.set_yticks(list(places), names)
    axes.invert_yaxis()
    axes.set_xlabel("percent")
    axes.legend(["this corpus, of bytes", "CodeGeeX's training mix, as published"], frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    tokenizer = manifest["tokenizer"]
    return (
        Section("Corpus: composition")
        .text(
            f"{manifest['documents']['kept']:,} files, {total / 1e6:,.1f} MB, {tokenizer['bytes_per_token']:.2f} bytes "
            f"a token (tags and ends of documents counted) with a vocabulary of {tokenizer['vocab_size']:,}."
        )
        .figure(figure)
    )


def _dropped(manifest: dict[str, Any]) -> Section:
    documents = manifest["documents"]
    rows = [
        [
            reason,
            DROP_TEXT.get(reason, ""),
            count,
            100 * count / documents["in"],
            "; ".join(documents["examples"][reason]),
        ]
        for reason, count in documents["dropped"].items()
    ]
    section = Section("Corpus: what each filter dropped").text(
        f"{documents['in']:,} files in = {documents['kept']:,} kept + {sum(documents['dropped'].values()):,} dropped. "
        "A file is counted under the first rule that drops it."
    )
    if not rows:
        return section
    return section.figure(_drops_figure(documents)).table(["reason", "meaning", "files", "percent", "such as"], rows)


def _drops_figure(documents: dict[str, Any]) -> "Figure":
    """What became of the files that were read: kept, or dropped by which rule; logarithmic, with the counts."""
    from matplotlib.figure import Figure

    counts = {"kept": documents["kept"], **documents["dropped"]}
    counts.pop("not_sampled", None)
    figure = Figure(figsize=(8, 1 + 0.35 * len(counts)))
    axes = figure.subplots()
    bars = axes.barh(list(counts), list(counts.values()), 0.6, color=["C0", *["C1"] * (len(counts) - 1)])
    axes.bar_label(bars, labels=[f"{count:,}" for count in counts.values()], padding=3)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("files (of those that were read)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _split(manifest: dict[str, Any]) -> Section:
    rows = [
        [name, *(split[key] for key in ("documents", "bytes", "tokens", "rows")), len(split["repositories"])]
        for name, split in manifest["splits"].items()
    ]
    section = Section("Corpus: train and held-out").text("Whole repositories are held out, by a hash of their names.")
    section.table(["split", "files", "bytes", "tokens", "rows", "repositories"], rows)
    if not manifest["splits"]["heldout"]["rows"]:
        section.warning("Nothing is held out: there is only one repository, or the share is 0.")
    return section
