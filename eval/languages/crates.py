"""The crates that HumanEval-X's Rust problems use: compiled once from Debian's sources, and one of ours.

Covers: regex and md5 as Debian 12 packages them, and `rand` with the interface of version 0.4 (rust_rand/rand.rs),
which no package has any more. They are compiled as `cargo test` compiles them (not optimized), as shared
libraries, so that programs are linked quickly. Beside each lies, for programs that import it and do nothing with it,
one that holds nothing but the name that HumanEval-X imports.
Does not cover: versions of regex that need further crates (from 1.9 on).
"""

from dataclasses import dataclass
from pathlib import Path

from mindgeex.common.prepared import build, prepared

REGISTRY = Path("/usr/share/cargo/registry")
"""Where Debian's librust-*-dev packages put their sources."""
RAND = Path(__file__).parent / "rust_rand" / "rand.rs"
OPTIONS = ("--cap-lints", "allow", "-C", "debuginfo=0", "-C", "prefer-dynamic", "-L", ".", "--out-dir", ".")
UNUSED = "unused"
"""The folder, within that of the crates, with those that are only imported."""
TABLES = ("age", "bool", "case", "gencat", "perl", "script", "segment")
UNICODE = ("unicode", *(f"unicode-{table}" for table in TABLES))


@dataclass(frozen=True)
class Crate:
    """One crate."""

    name: str
    folder: str
    """Of its sources, with a star for the version."""
    package: str
    """The Debian package that brings it; empty for ours."""
    edition: str = "2018"
    features: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    """Other crates."""
    imported: str = ""
    """The source of the one that holds nothing but the imported name."""

    def source(self) -> Path | None:
        """Its main file, or None if it is not installed."""
        if not self.package:
            return RAND
        return next(iter(sorted(REGISTRY.glob(f"{self.folder}/src/lib.rs"))), None)


CRATES = (
    Crate("regex_syntax", "regex-syntax-0.6.*", "librust-regex-dev", features=UNICODE),
    Crate(
        "regex",
        "regex-1.[0-8].*",
        "librust-regex-dev",
        features=("std", "perf-cache", "perf-dfa", "perf-inline", *UNICODE),
        needs=("regex_syntax",),
        imported="pub struct Regex;",
    ),
    Crate("md5", "md5-0.*", "librust-md5-dev", edition="2015", features=("std",)),
    Crate("rand", "", "", edition="2021", imported="pub trait Rng {}"),
)
"""In the order in which they are compiled."""


def usable() -> list[Crate]:
    """Those whose sources are installed, and all that they need."""
    found: list[Crate] = []
    for crate in CRATES:
        if crate.source() and set(crate.needs) <= {other.name for other in found}:
            found.append(crate)
    return found


def compiled(rustc: str, version: str) -> Path:
    """The folder with the compiled crates, all that can be had."""
    crates = usable()

    def make(folder: Path) -> None:
        for crate in crates:
            command = [rustc, "--edition", crate.edition, "--crate-type", "dylib,rlib", "--crate-name", crate.name]
            command += OPTIONS
            for feature in crate.features:
                command += ["--cfg", f'feature="{feature}"']
            for other in crate.needs:
                command += ["--extern", other]
            build([*command, str(crate.source())], folder)
        unused = folder / UNUSED
        unused.mkdir(mode=0o755)
        for crate in crates:
            (unused / f"{crate.name}.rs").write_text(crate.imported)
            build([rustc, "--crate-type", "rlib", *OPTIONS, f"{crate.name}.rs"], unused)

    return prepared(
        "crates",
        [rustc, version, *OPTIONS, RAND.read_text(encoding="utf-8"), *crates, *(crate.source() for crate in crates)],
        make,
    )
