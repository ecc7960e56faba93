"""What a corpus holds, in numbers from its manifest, and as the lines that the commands print.

Covers: the manifests of builds and merges, and old ones that lack a key. Does not cover: pages (report.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mindgeex.data.languages import PUBLISHED_MIX

if TYPE_CHECKING:
    from rich.table import Table

PUBLISHED_OTHERS = 3.10
"""Percent of CodeGeeX's mix in all languages that PUBLISHED_MIX does not name."""

OTHERS = "others"
"""The row of all languages that PUBLISHED_MIX does not name."""


@dataclass(frozen=True)
class Amount:
    """How much of a language, or of several, a corpus or a split holds."""

    documents: int = 0
    bytes: int = 0
    tokens: int = 0
    tokens_in_rows: int = 0
    """A mixture takes some documents twice and some never."""

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.documents + other.documents,
            self.bytes + other.bytes,
            self.tokens + other.tokens,
            self.tokens_in_rows + other.tokens_in_rows,
        )

    @property
    def bytes_per_token(self) -> float | None:
        """None without tokens."""
        return self.bytes / self.tokens if self.tokens else None


def amounts(manifest: dict[str, Any], *splits: str) -> dict[str, Amount]:
    """Language -> how much of it there is, most tokens in rows first.

    Args:
        manifest: as in manifest.json.
        splits: which to add up; none: all.
    """
    found: dict[str, Amount] = {}
    for split, about in manifest.get("splits", {}).items():
        for language, counts in about.get("languages", {}).items() if not splits or split in splits else ():
            tokens = counts.get("tokens", 0)
            amount = Amount(
                counts.get("documents", 0), counts.get("bytes", 0), tokens, counts.get("tokens_in_rows", tokens)
            )
            found[language] = found.get(language, Amount()) + amount
    return dict(sorted(found.items(), key=lambda item: (-item[1].tokens_in_rows, -item[1].bytes, item[0])))


def total(found: Iterable[Amount]) -> Amount:
    """All of them together."""
    return sum(found, Amount())


def shares(found: dict[str, Amount]) -> dict[str, float]:
    """Language -> percent of all tokens in rows."""
    everything = total(found.values()).tokens_in_rows
    return {name: 100 * amount.tokens_in_rows / everything if everything else 0.0 for name, amount in found.items()}


def mix(found: dict[str, Amount]) -> dict[str, tuple[float, float]]:
    """Each language of CodeGeeX's published mix, and OTHERS last -> percent here, percent published."""
    ours = shares(found)
    names = sorted(PUBLISHED_MIX, key=lambda name: (-ours.get(name, 0.0), -PUBLISHED_MIX[name]))
    others = sum(share for name, share in ours.items() if name not in PUBLISHED_MIX)
    return {name: (ours.get(name, 0.0), PUBLISHED_MIX[name]) for name in names} | {OTHERS: (others, PUBLISHED_OTHERS)}


def render(manifest: dict[str, Any]) -> list[Any]:
    """What `mindgeex data build` and `data stats` print, one item after the other, with rich.

    Args:
        manifest: as in manifest.json.
    """
    from rich.text import Text

    items: list[Any] = [_languages_table(manifest), *map(Text, lines(manifest))]
    if groups := manifest.get("mixture", {}).get("groups"):
        items.append(_mixture_table(groups))
    return items


def lines(manifest: dict[str, Any]) -> list[str]:
    """What the tables leave unsaid, a sentence a fact; facts that did not occur are left out."""
    facts = (_files, _rows, heldout, scarce, _licences, _copies, _redacted, _hits)
    return [line for fact in facts for line in fact(manifest)]


def _table(first: str, headings: Sequence[str]) -> "Table":
    """Names on the left, numbers on the right; narrow, since 80 columns have to do."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", overflow="fold")
    return table


def _languages_table(manifest: dict[str, Any]) -> "Table":
    headings = (
        "train\nfiles", "train\nMB", "held-out\nfiles", "held-out\nMB", "tokens\nin rows", "share\n%", "CodeGeeX\n%",
    )  # fmt: skip
    table = _table("language", headings)
    found = amounts(manifest)
    train, heldout = amounts(manifest, "train"), amounts(manifest, "heldout")
    ours = shares(found)
    for name, amount in found.items():
        published = f"{PUBLISHED_MIX[name]:.2f}" if name in PUBLISHED_MIX else ""
        table.add_row(*_cells(name, train.get(name), heldout.get(name), amount), f"{ours[name]:.2f}", published)
    if len(found) > 1:
        table.add_section()
        table.add_row(*_cells("all", *(total(some.values()) for some in (train, heldout, found))), "100.00", "")
    return table


def _cells(name: str, train: Amount | None, heldout: Amount | None, both: Amount) -> list[str]:
    cells = [name]
    for amount in (train or Amount(), heldout or Amount()):
        megabytes = amount.bytes / 1e6
        cells += [short(amount.documents), f"{megabytes:,.2f}" if megabytes < 1000 else short(round(megabytes))]
    return [*cells, short(both.tokens_in_rows)]


def short(count: int) -> str:
    """Up to six digits as they are, then `1.23 M` and `158.70 B`: a narrow terminal must not cut numbers."""
    if count < 10**6:
        return f"{count:,}"
    return f"{count / 1e6:.2f} M" if count < 10**9 else f"{count / 1e9:,.2f} B"


def _mixture_table(groups: dict[str, dict[str, Any]]) -> "Table":
    from rich.text import Text

    table = _table("mixture", ("wanted %", "reached %", "tokens available", "tokens taken", "epochs"))
    for name, wanted, reached, group in mixture_rows(groups):
        taken = (short(group.get(key, 0)) for key in ("available_tokens", "tokens"))
        table.add_row(Text(name), f"{wanted:.2f}", f"{reached:.2f}", *taken, f"{group.get('epochs', 0):.2f}")
    return table


def mixture_rows(groups: dict[str, dict[str, Any]]) -> Iterator[tuple[str, float, float, dict[str, Any]]]:
    """Name, percent wanted, percent reached, and all that is known of each group, largest wanted share first."""
    taken = sum(group.get("tokens", 0) for group in groups.values())
    for name, group in sorted(groups.items(), key=lambda item: (-item[1].get("share", 0.0), item[0])):
        yield name, 100 * group.get("share", 0.0), 100 * group.get("tokens", 0) / max(1, taken), group


def counted(counts: dict[str, int]) -> str:
    """`too_small 12, duplicate 3`."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 file`, `2 files`."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def _files(manifest: dict[str, Any]) -> Iterator[str]:
    documents = manifest.get("documents", {})
    drops = counted(documents.get("dropped", {}))
    yield f"{documents.get('in', 0):,} files in, {documents.get('kept', 0):,} kept, dropped: {drops or 'none'}"


def _rows(manifest: dict[str, Any]) -> Iterator[str]:
    splits, tokenizer = manifest.get("splits", {}), manifest.get("tokenizer", {})
    train, heldout = (splits.get(split, {}).get("rows", 0) for split in ("train", "heldout"))
    length = (manifest.get("config") or {}).get("seq_length", "?")
    yield (
        f"{train:,} train rows, {heldout:,} held-out rows of {length} tokens; "
        f"{tokenizer.get('vocab_size', 0):,} ids, {tokenizer.get('bytes_per_token', 0.0):.2f} bytes a token"
    )


def heldout(manifest: dict[str, Any]) -> Iterator[str]:
    """The share that is held out beside the one that was asked for."""
    asked = (manifest.get("config") or {}).get("heldout_share")
    train, held = (manifest.get("splits", {}).get(split, {}).get("bytes", 0) for split in ("train", "heldout"))
    if asked and not held:
        yield f"nothing is held out, {asked:.2%} of the bytes were asked for: there is only one repository"
    elif asked and held:
        yield f"held out: {held / (train + held):.2%} of the bytes, {asked:.2%} asked for; repositories are not divided"


def scarce(manifest: dict[str, Any]) -> Iterator[str]:
    """The group that keeps a mixture without a target small."""
    settings = (manifest.get("config") or {}).get("mixture") or {}
    groups = {name: group for name, group in manifest.get("mixture", {}).get("groups", {}).items() if group["share"]}
    if settings.get("target_tokens") is not None or not groups:
        return
    taken, available = (sum(group[key] for group in groups.values()) for key in ("tokens", "available_tokens"))
    if taken < available:
        least = min(groups, key=lambda name: groups[name]["available_tokens"] / groups[name]["share"])
        yield (
            f"{least} has least for its share, so {short(taken)} of {short(available)} tokens are taken: "
            "set mixture.target_tokens for more of the others, or lower its weight"
        )


def _licences(manifest: dict[str, Any]) -> Iterator[str]:
    found = manifest.get("licences", {})
    if set(found) - {"unknown"}:
        most = counted(dict(list(found.items())[:5]))
        yield f"licences: {most}" + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def _copies(manifest: dict[str, Any]) -> Iterator[str]:
    duplicates = manifest.get("duplicates", {})
    if count := duplicates.get("copies"):
        largest = next(iter(duplicates.get("largest", ())), None)
        most = f"; most often {largest['kept']}, {largest['copies']:,}" if largest else ""
        yield f"{plural(count, 'copy', 'copies')} of {plural(duplicates.get('groups', 0), 'file')} left out{most}"


def _redacted(manifest: dict[str, Any]) -> Iterator[str]:
    kinds = redacted_kinds(manifest)
    if kinds:
        yield f"redacted in {plural(manifest['redacted'].get('documents', 0), 'file')}: {counted(kinds)}"


def redacted_kinds(manifest: dict[str, Any]) -> dict[str, int]:
    """Kind of secret or personal data -> how many were replaced."""
    return {kind: count for kind, count in manifest.get("redacted", {}).items() if kind != "documents" and count}


def _hits(manifest: dict[str, Any]) -> Iterator[str]:
    about = manifest.get("decontamination", {})
    if about.get("hits"):
        place = about.get("list", {}).get("file", "decontamination.jsonl")
        yield f"hits of benchmark problems in files, which are left out: {counted(about['by_benchmark'])} ({place})"
