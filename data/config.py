"""What decides a corpus, with the defaults of `mindgeex data build`."""

from dataclasses import dataclass, field
from typing import Any, Literal

from mindgeex.common.config import as_tree
from mindgeex.common.errors import UserError
from mindgeex.data.filters import Rules
from mindgeex.data.languages import DEFAULT_LANGUAGES


@dataclass(frozen=True)
class BuildConfig:
    """All that decides a corpus, and the number of workers, which does not."""

    sources: tuple[str, ...]
    """`kind:ARG` each, such as `local:/usr/include`; earlier sources win over later duplicates."""

    seq_length: int = 256
    """Tokens of input a row; a row has one more. CodeGeeX: 2048."""

    tokenizer: str | None = None
    """Folder with vocab.json and merges.txt; without one, a tokenizer is trained on the train split."""

    vocab_size: int = 4096
    """Of the tokenizer to train, with all special tokens."""

    tokenizer_bytes: int = 16_000_000
    """Train the tokenizer on about so many bytes of the train split, sampled as `max_bytes` is."""

    languages: tuple[str, ...] = DEFAULT_LANGUAGES
    """Files in other languages are passed over."""

    rules: Rules = field(default_factory=Rules)
    """Thresholds of the filters; the defaults are CodeGeeX's."""

    heldout_share: float = 0.05
    """Share of the repositories that are held out, 0 to below 1."""

    packing: Literal["packed", "windows"] = "packed"
    """`packed`: documents one behind the other; `windows`: one a row, padded, as CodeGeeX was trained."""

    window_stride: int = 200
    """Tokens from one window to the next; 200 as published."""

    max_bytes: int | None = None
    """Read about so many bytes: a sample of the files by a hash of repository and path. None reads all."""

    seed: int = 1
    """Of the split and the sample."""

    workers: int = 1
    """Processes that read, filter and tokenize. The corpus does not depend on it."""

    rows_per_shard: int = 1 << 16
    """Rows in every MindRecord shard but the last of a split."""

    document_shard_bytes: int = 4 << 20
    """Bytes of JSON, before compression, in a shard of documents."""

    def __post_init__(self) -> None:
        for name in (
            "seq_length",
            "window_stride",
            "workers",
            "tokenizer_bytes",
            "rows_per_shard",
            "document_shard_bytes",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: must be at least 1")
        if not 0 <= self.heldout_share < 1:
            raise UserError(f"heldout_share={self.heldout_share}: must be at least 0 and below 1")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise UserError(f"max_bytes={self.max_bytes}: must be at least 1; leave it out to read all")
        if not self.sources:
            raise UserError("no source: give at least one --source local:PATH")
        if not self.languages:
            raise UserError("languages is empty: name at least one, or leave it out for the usual ones")

    def identity(self) -> dict[str, Any]:
        """The configuration as the manifest keeps it: all but `workers`."""
        tree = as_tree(self)
        del tree["workers"]
        return tree
