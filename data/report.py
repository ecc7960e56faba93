"""Pages about a corpus, from its manifest: what went in, what was dropped and why, and what the rows are made of.

Covers: everything the manifest says, in figures and tables; a fact that is absent is named in a sentence; the same
manifest gives the same bytes. Does not cover: single documents' texts, comparing two corpora.
"""

from typing import TYPE_CHECKING, Any

from mindgeex.common.html import Section
from mindgeex.data.languages import PUBLISHED_MIX
from mindgeex.data.reasons import DROP_TEXT, STEPS
from mindgeex.data.summary import (
    OTHERS,
    PUBLISHED_OTHERS,
    Amount,
    amounts,
    heldout,
    mix,
    mixture_rows,
    plural,
    redacted_kinds,
    scarce,
    shares,
    total,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN_LANGUAGES = 12
SHOWN_LICENCES = 20
SHOWN_SAMPLE = 30
WORD_CHARS = 36
TEXT_CHARS = 400
"""Tables show no longer words and texts; they are whole in the lists below."""


def sections(manifest: dict[str, Any]) -> list[Section]:
    """The report's sections on the corpus.

    Args:
        manifest: as in manifest.json.
    """
    make = (
        _overview, _composition, _dropped, _scores, _sample, _duplicates, _licences, _redacted, _decontamination,
        _mixture, _tokenizer, _split,
    )  # fmt: skip
    return [section(manifest) for section in make]


def _overview(manifest: dict[str, Any]) -> Section:
    documents = manifest.get("documents", {})
    everything = total(amounts(manifest).values())
    section = Section("Corpus: overview").text(
        f"{documents.get('in', 0):,} files in, {documents.get('kept', 0):,} kept: {everything.bytes / 1e6:,.1f} MB, "
        f"{everything.tokens:,} tokens; {everything.tokens_in_rows:,} tokens in rows of "
        f"{(manifest.get('config') or {}).get('seq_length', '?')}, train and held-out together."
    )
    if merged := manifest.get("merged_from"):
        section.text(f"Merged from {', '.join(str(corpus.get('name', '?')) for corpus in merged)}.")
    rows: list[list[Any]] = []
    for source in manifest.get("sources", ()):
        if not isinstance(source, dict):  # a manifest of the first version: names alone
            rows.append([str(source), "", "", "", "", ""])
        elif source.get("earlier"):  # compared with, but no part of this corpus
            rows.append([f"{source['source']} (earlier corpus)", source["parts"], source["bytes"], "", "", ""])
        else:
            percent = _percent(source["kept"], source["in"])
            rows.append([*(source[key] for key in ("source", "parts", "bytes", "in", "kept")), percent])
    if rows:
        section.table(["source", "parts", "bytes", "files in", "kept", "percent kept"], rows)
    if documents.get("dropped"):
        section.text("How many files are left behind each step, in the order of the steps:").figure(_funnel(documents))
    return section


def _funnel(documents: dict[str, Any]) -> "Figure":
    left, labels, counts = documents["in"], ["files in"], [documents["in"]]
    dropped = documents["dropped"]
    for step, reasons in STEPS.items():
        gone = sum(dropped.get(reason, 0) for reason in reasons)
        if gone:
            left -= gone
            labels.append(step)
            counts.append(left)
    if left != documents["kept"]:  # reasons this version does not know
        labels.append("kept")
        counts.append(documents["kept"])
    texts = [f"{count:,}  ({_percent(count, counts[0]):.4g} %)" for count in counts]
    figure, axes = _bars_figure(len(counts))
    bars = axes.barh(range(len(counts)), counts, 0.6)
    axes.bar_label(bars, labels=texts, padding=3)
    axes.set_yticks(range(len(counts)), labels)
    axes.set_xlim(0, 1.2 * max(1, *counts))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    return figure


def _composition(manifest: dict[str, Any]) -> Section:
    found = amounts(manifest)
    ours, everything, published = shares(found), total(found.values()), mix(found)
    rows: list[list[Any]] = []
    for name, amount in found.items():
        compared = published.get(name, (0.0, None))[1]
        difference = "" if compared is None else round(ours[name] - compared, 2)
        rows.append([name, *_amount(amount), round(ours[name], 2), _or_blank(compared), difference])
    others = [amount for name, amount in found.items() if name not in PUBLISHED_MIX]
    share = published[OTHERS][0]
    rows.append(
        [f"{OTHERS}, together", *_amount(total(others)), round(share, 2), PUBLISHED_OTHERS]
        + [round(share - PUBLISHED_OTHERS, 2)]
    )
    rows.append(["all", *_amount(everything), 100.0 if everything.tokens_in_rows else 0.0, "", ""])
    header = ["language", "bytes", "tokens", "tokens in rows", "bytes a token", "percent", "CodeGeeX", "difference"]
    tokenizer = manifest.get("tokenizer", {})
    return (
        Section("Corpus: composition")
        .text(
            f"{plural(everything.documents, 'file')}, {everything.bytes / 1e6:,.1f} MB, "
            f"{tokenizer.get('bytes_per_token', 0.0):.2f} bytes a token (tags and ends of documents counted) with a "
            f"vocabulary of {tokenizer.get('vocab_size', 0):,}. Percent are of the tokens in rows, train and held-out; "
            f"beside them CodeGeeX's published mix, which names ten languages; {OTHERS} are all that it does not name."
        )
        .figure(_mix_figure(published))
        .table(header, rows)
    )


def _amount(amount: Amount) -> list[Any]:
    per_token = amount.bytes_per_token
    return [amount.bytes, amount.tokens, amount.tokens_in_rows, "" if per_token is None else round(per_token, 3)]


def _mix_figure(published: dict[str, tuple[float, float]]) -> "Figure":
    figure, axes = _bars_figure(len(published))
    places = range(len(published))
    ours, theirs = zip(*published.values(), strict=True)
    axes.barh([place - 0.2 for place in places], ours, 0.4)
    axes.barh([place + 0.2 for place in places], theirs, 0.4, color="0.75")
    axes.set_yticks(places, list(published))
    axes.set_xlabel("percent")
    axes.legend(["this corpus, of tokens in rows", "CodeGeeX's training mix, as published"], frameon=False)
    return figure


def _dropped(manifest: dict[str, Any]) -> Section:
    documents = manifest.get("documents", {})
    num_in, dropped = documents.get("in", 0), documents.get("dropped", {})
    section = Section("Corpus: what each filter dropped").text(
        f"{num_in:,} files in = {documents.get('kept', 0):,} kept + {sum(dropped.values()):,} dropped. "
        "A file is counted under the first rule that drops it."
    )
    if not dropped:
        return section
    rows: list[list[Any]] = []
    folded = []
    for reason, count in dropped.items():
        names = [_example(example) for example in documents.get("examples", {}).get(reason, ())]
        meaning = f"{reason}: {DROP_TEXT[reason]}" if reason in DROP_TEXT else reason
        rows.append([meaning, count, _percent(count, num_in), _cut(next(iter(names), ""))])
        folded += [f"{reason:20} {name}" for name in names]
    section.figure(_drops_figure(documents)).table(["reason", "files", "percent", "such as"], rows)
    return section.details("More examples, with their whole names", "\n".join(folded)) if folded else section


def _example(example: Any) -> str:
    """A dropped file in one line; manifests of the first version hold lines."""
    if not isinstance(example, dict):
        return str(example)
    name = ": ".join(part for part in (example.get("repo", ""), example.get("path", "")) if part)
    return " ".join(part for part in (name, f"({example['detail']})" if example.get("detail") else "") if part)


def _drops_figure(documents: dict[str, Any]) -> "Figure":
    """What became of the files that were read: kept, or dropped by which rule; logarithmic, with the counts."""
    counts = {"kept": documents.get("kept", 0), **documents["dropped"]}
    counts.pop("not_sampled", None)
    figure, axes = _bars_figure(len(counts))
    bars = axes.barh(list(counts), list(counts.values()), 0.6, color=["C0", *["C1"] * (len(counts) - 1)])
    axes.bar_label(bars, labels=[f"{count:,}" for count in counts.values()], padding=3)
    axes.set_xscale("log")
    axes.set_xlim(0.5, 3 * max(1, *counts.values()))
    axes.set_xlabel("files (of those that were read)")
    return figure


def _scores(manifest: dict[str, Any]) -> Section:
    section = Section("Corpus: syntax and cleanliness")
    histograms = manifest.get("analysis", {})
    if not histograms:
        return section.text("Files were not analysed (analysis.enabled), or none is in a language with a grammar.")
    sizes = {language: sum(scores.get("syntax", ())) for language, scores in histograms.items()}
    shown = sorted(sizes, key=lambda language: (-sizes[language], language))[:SHOWN_LANGUAGES]
    section.text(
        f"Scores of the {sum(sizes.values()):,} files that were analysed, before the thresholds; 1 is best. "
        + (f"The {len(shown)} languages with most files, of {len(sizes)}. " if len(sizes) > len(shown) else "")
        + "Counts are logarithmic."
    )
    rules = (manifest.get("config") or {}).get("analysis") or {}
    for score in ("syntax", "cleanliness"):
        counts = {language: histograms[language].get(score, []) for language in shown}
        section.figure(_histograms(counts, score, rules.get(f"min_{score}")))
    return section


def _histograms(counts: dict[str, list[int]], score: str, threshold: float | None) -> "Figure":
    """Small multiples, a language each, with the threshold as a line."""
    from matplotlib.figure import Figure

    columns = min(4, len(counts))
    rows = -(-len(counts) // columns)
    height = 1.4 * rows + 0.5
    figure = Figure(figsize=(2.3 * columns + 0.4, height))
    figure.subplots_adjust(hspace=0.45, wspace=0.12, bottom=0.5 / height, top=1 - 0.25 / height)
    highest = 2 * max(10, *(max(bins, default=0) for bins in counts.values()))
    for number, (language, bins) in enumerate(counts.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.stairs(bins, [place / max(1, len(bins)) for place in range(len(bins) + 1)], fill=True)
        axes.set_title(f"{language} ({sum(bins):,})", fontsize=9)
        if threshold is not None:
            axes.axvline(threshold, color="C3", linewidth=1, linestyle="--")
        axes.set_yscale("log")
        axes.set(xlim=(0, 1), ylim=(0.5, highest))
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.minorticks_off()
        axes.tick_params(labelsize=8, labelleft=number % columns == 0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(f"{score} (dashed: the threshold)", fontsize=9, y=0)
    return figure


def _sample(manifest: dict[str, Any]) -> Section:
    section = Section("Corpus: files with low scores")
    sample = manifest.get("sample", [])
    scored = [one for one in sample if one.get("syntax") is not None and one.get("cleanliness") is not None]
    if not scored:
        return section.text("No file of the sample has scores.")
    scored.sort(key=lambda one: (min(one["syntax"], one["cleanliness"]), one["repo"], one["path"]))
    shown = scored[:SHOWN_SAMPLE]
    section.text(
        f"The {len(shown)} lowest of {plural(len(scored), 'kept file')} drawn by hash that have scores: "
        "what the thresholds just let pass."
    )
    keys = ("language", "licence", "stars", "syntax", "cleanliness")
    rows = [[_cut(f"{one['repo']}: {one['path']}"), *(_or_blank(one.get(key)) for key in keys)] for one in shown]
    return section.table(["file", *keys], rows)


def _duplicates(manifest: dict[str, Any]) -> Section:
    section = Section("Corpus: copies")
    duplicates = manifest.get("duplicates", {})
    if not duplicates.get("copies"):
        return section.text("No copies were found, or none were looked for (dedup).")
    largest = duplicates.get("largest", [])
    section.text(
        f"{plural(duplicates['copies'], 'copy', 'copies')}, exact or near, of {plural(duplicates['groups'], 'file')}. "
        f"The largest {plural(len(largest), 'group')}:"
    )
    rows = [[_cut(group["kept"]), group["copies"], _cut(next(iter(group["examples"]), ""))] for group in largest]
    text = "\n".join(f"{group['kept']}\n" + "".join(f"    {name}\n" for name in group["examples"]) for group in largest)
    return section.table(["kept", "copies", "such as"], rows).details("More copies, with their whole names", text)


def _licences(manifest: dict[str, Any]) -> Section:
    section = Section("Corpus: licences")
    licences = manifest.get("licences", {})
    if not licences:
        return section.text("The manifest does not tell the licences.")
    every = sum(licences.values())
    rows = [[name, count, _percent(count, every)] for name, count in licences.items()]
    if len(rows) > SHOWN_LICENCES:
        rest = sum(row[1] for row in rows[SHOWN_LICENCES:])
        rows = [*rows[:SHOWN_LICENCES], [f"{len(licences) - SHOWN_LICENCES} others", rest, _percent(rest, every)]]
    section.text("Of the files kept: a file's own SPDX header, else its repository's licence.")
    return section.table(["licence", "files", "percent"], rows)


def _redacted(manifest: dict[str, Any]) -> Section:
    section = Section("Corpus: secrets and personal data")
    kinds = redacted_kinds(manifest)
    if not kinds:
        return section.text("Nothing was replaced: nothing was found, or nothing was looked for (redact).")
    section.text(f"Replaced in {plural(manifest['redacted'].get('documents', 0), 'file')}, which stay, by kind:")
    return section.table(["kind", "replaced"], list(kinds.items()))


def _decontamination(manifest: dict[str, Any]) -> Section:
    section = Section("Corpus: benchmarks")
    about = manifest.get("decontamination", {})
    if not about:
        return section.text("Files were compared with no benchmark (decontamination.benchmarks is empty).")
    hits = about.get("by_benchmark", {})
    place = about.get("list", {}).get("file", "decontamination.jsonl")
    section.text(
        f"{plural(about.get('hits', 0), 'problem')} found in files, which are dropped as `contaminated`; "
        f"{place} in the corpus's folder lists each with its file and evidence."
    )
    rows = [[name, problems, hits.get(name, 0)] for name, problems in about.get("benchmarks", {}).items()]
    return section.table(["benchmark", "problems", "hits"], rows)


def _mixture(manifest: dict[str, Any]) -> Section:
    section = Section("Corpus: mixture")
    about = manifest.get("mixture", {})
    if not about:
        return section.text("No mixture was asked for (mixture.weights): every training file is taken once.")
    section.text(
        f"{about.get('tokens', 0):,} tokens an epoch, of {about.get('target_tokens', 0):,} wanted. Epochs: how often "
        "what a group has is taken."
    )
    for line in scarce(manifest):
        section.warning(line)
    if short := about.get("short"):
        section.warning(f"Too little of {', '.join(short)}: the share stays below what was wanted.")
    rows = [
        [name, round(wanted, 2), round(reached, 2)]
        + [_or_blank(group.get(key)) for key in ("available_tokens", "wanted_tokens", "tokens", "epochs")]
        for name, wanted, reached, group in mixture_rows(about.get("groups", {}))
    ]
    header = ["group", "percent wanted", "reached", "tokens available", "tokens wanted", "tokens taken", "epochs"]
    return section.table(header, rows)


def _tokenizer(manifest: dict[str, Any]) -> Section:
    tokenizer = manifest.get("tokenizer", {})
    kind = ((manifest.get("config") or {}).get("tokenizer") or {}).get("kind", "")
    origin = f"{kind} trained on this corpus's train split".strip() if tokenizer.get("trained_here") else "given"
    rows = [
        ["vocabulary", tokenizer.get("vocab_size", 0)],
        ["bytes a token", tokenizer.get("bytes_per_token", 0.0)],
        ["end of document (EOD)", str(tokenizer.get("eod_id", ""))],
        ["origin", origin],
        ["fingerprint", tokenizer.get("fingerprint", "")],
    ]
    per_token = {name: each for name, amount in amounts(manifest).items() if (each := amount.bytes_per_token)}
    section = Section("Corpus: tokenizer").table(["fact", "value"], rows)
    if not per_token:
        return section
    figure, axes = _bars_figure(len(per_token))
    bars = axes.barh(list(per_token), list(per_token.values()), 0.6)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xlim(0, 1.1 * max(per_token.values()))
    axes.set_xlabel("bytes a token")
    return section.text("Bytes a token, the language with most tokens first:").figure(figure)


def _split(manifest: dict[str, Any]) -> Section:
    splits = manifest.get("splits", {})
    keys = ("documents", "bytes", "tokens", "tokens_in_rows", "rows")
    rows = [
        [name, *(_or_blank(split.get(key)) for key in keys), len(split.get("repositories", ()))]
        for name, split in splits.items()
    ]
    section = Section("Corpus: train and held-out").text("Whole repositories are held out, by a hash of their names.")
    if rows:
        section.table(["split", "files", "bytes", "tokens", "tokens in rows", "rows", "repositories"], rows)
    if not splits.get("heldout", {}).get("rows"):
        return section.warning("Nothing is held out: there is only one repository, or the share is 0.")
    for line in heldout(manifest):
        section.text(line)
    return section


def _bars_figure(count: int) -> "tuple[Figure, Axes]":
    """A figure for so many horizontal bars, the first on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1 + 0.35 * count))
    axes = figure.subplots()
    axes.set_ylim(count - 0.4, -0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _percent(count: int, of: int) -> float:
    percent = 100 * count / of if of else 0.0
    return round(percent, 2 if percent >= 0.01 else 4)


def _or_blank(value: Any) -> Any:
    return "" if value is None else value


def _cut(text: str) -> str:
    """The text, its long words (paths, as a rule) reduced to their last folders: `…/internal/Reader.java`."""
    words = []
    for word in text[:TEXT_CHARS].split(" "):
        if len(word) > WORD_CHARS:
            end = word[-WORD_CHARS:]
            word = f"…{end[end.find('/') :]}" if "/" in end[:-1] else f"…{end}"
        words.append(word)
    return " ".join(words) + "…" * (len(text) > TEXT_CHARS)
