"""What decides a corpus: a recipe (YAML) of data/recipes, or one of the user's own, with overrides."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mindgeex.common import config
from mindgeex.common.config import as_tree
from mindgeex.common.errors import UserError
from mindgeex.data.analysis import AnalysisRules
from mindgeex.data.decontaminate import DecontaminationRules
from mindgeex.data.dedup import DedupRules
from mindgeex.data.filters import Rules
from mindgeex.data.fim import FimRules
from mindgeex.data.languages import DEFAULT_LANGUAGES
from mindgeex.data.licences import LicenceRules
from mindgeex.data.mixture import Mixture
from mindgeex.data.redact import RedactRules
from mindgeex.data.sources import RepositoryRules

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class TokenizerConfig:
    """Which tokenizer: one that is there, or one that is trained on the train split."""

    path: str | None = None
    """Folder of a tokenizer; None trains one."""

    kind: Literal["bpe", "sentencepiece"] = "bpe"
    """Of the one to train."""

    vocab_size: int = 4096
    """Of the one to train, with all special tokens."""

    sample_bytes: int = 16_000_000
    """Train on about so many bytes of the train split, sampled as `max_bytes` is."""

    def __post_init__(self) -> None:
        if self.sample_bytes < 1:
            raise UserError(f"tokenizer.sample_bytes={self.sample_bytes}: must be at least 1")


@dataclass(frozen=True)
class RowsConfig:
    """How tokens become rows of seq_length + 1."""

    packing: Literal["packed", "windows"] = "packed"
    """`packed`: documents joined by EOD; `windows`: one document a row, padded, as CodeGeeX was trained."""

    window_stride: int = 200
    """Tokens from one window to the next; 200 as published."""

    pad_id: int | None = None
    """Fills what a window leaves of its row; None: EOD, as published."""

    rows_per_shard: int = 1 << 16
    """Rows in every MindRecord shard but the last of a split."""

    def __post_init__(self) -> None:
        for name in ("window_stride", "rows_per_shard"):
            if getattr(self, name) < 1:
                raise UserError(f"rows.{name}={getattr(self, name)}: must be at least 1")
        if self.pad_id is not None and self.pad_id < 0:
            raise UserError(f"rows.pad_id={self.pad_id}: must be at least 0")


@dataclass(frozen=True)
class BuildConfig:
    """All that decides a corpus."""

    sources: tuple[str, ...] = ()
    """`kind:ARG` each, such as `local:/usr/include`; earlier sources win over later duplicates."""

    earlier: tuple[str, ...] = ()
    """Folders of corpora that were built before: their documents are not taken again."""

    seq_length: int = 256
    """Tokens of input a row; a row has one more. CodeGeeX: 2048."""

    languages: tuple[str, ...] = DEFAULT_LANGUAGES
    """Files in other languages are passed over."""

    repositories: RepositoryRules = field(default_factory=RepositoryRules)
    """Which repositories of a manifest are taken."""

    rules: Rules = field(default_factory=Rules)
    """Thresholds of the filters; the defaults are CodeGeeX's."""

    licences: LicenceRules = field(default_factory=LicenceRules)
    redact: RedactRules = field(default_factory=RedactRules)
    analysis: AnalysisRules = field(default_factory=AnalysisRules)
    dedup: DedupRules = field(default_factory=DedupRules)
    decontamination: DecontaminationRules = field(default_factory=DecontaminationRules)
    mixture: Mixture = field(default_factory=Mixture)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    fim: FimRules = field(default_factory=FimRules)
    rows: RowsConfig = field(default_factory=RowsConfig)

    heldout_share: float = 0.05
    """Share of the repositories that are held out, 0 to below 1."""

    max_bytes: int | None = None
    """Read about so many bytes: a sample of the files by a hash of repository and path. None reads all."""

    seed: int = 1
    """Of the split, the sample, the mixture and fill-in-the-middle."""

    document_shard_bytes: int = 4 << 20
    """Bytes of text, before compression, in a shard of documents."""

    def __post_init__(self) -> None:
        for name in ("seq_length", "document_shard_bytes"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.rows.packing == "windows" and self.rows.window_stride > self.seq_length:
            raise UserError(
                f"rows.window_stride={self.rows.window_stride} is more than seq_length={self.seq_length}: tokens "
                "between two windows would be lost"
            )
        if not 0 <= self.heldout_share < 1:
            raise UserError(f"heldout_share={self.heldout_share}: must be at least 0 and below 1")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise UserError(f"max_bytes={self.max_bytes}: must be at least 1; leave it out to read all")
        if not self.languages:
            raise UserError("languages is empty: name at least one, or leave it out for the usual ones")

    def identity(self) -> dict[str, Any]:
        """The configuration as the manifest keeps it."""
        return as_tree(self)


def recipe_names() -> list[str]:
    """The recipes that ship with the project."""
    return config.recipe_names(RECIPES)


def load_recipe(name: str, overrides: Sequence[str] = ()) -> BuildConfig:
    """A corpus's configuration from a shipped recipe's name or a YAML file, with `key.inner=value` overrides.

    Raises:
        UserError: no such recipe, an unknown key (the nearest is suggested), a wrong type, a value out of range.
    """
    return config.load_recipe(BuildConfig, RECIPES, name, overrides)
