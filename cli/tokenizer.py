"""`mindgeex tokenizer train` and `mindgeex tokenizer compare`."""

from pathlib import Path
from typing import Annotated, Literal

import tyro


def train(
    data: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path,
    kind: Literal["bpe", "sentencepiece"] = "bpe",
    vocab_size: int = 4096,
    max_bytes: int = 16_000_000,
    special: tuple[str, ...] = (),
    seed: int = 1,
) -> None:
    """Train a tokenizer: a byte-level BPE with CodeGeeX's whitespace tokens, or SentencePiece.

    Use it for a corpus with `mindgeex data build --set tokenizer.path=OUT`.

    Args:
        data: Corpora made by `mindgeex data build` (their train split), folders with .jsonl.zst shards of documents,
            or folders of source and text files.
        out: Folder to write; a tokenizer that is there is replaced.
        kind: bpe (vocab.json, merges.txt, added_tokens.json) or sentencepiece (tokenizer.model).
        vocab_size: All tokens, the special ones included.
        max_bytes: Learn from about so many bytes: a sample of the documents by a hash of their names. SentencePiece
            holds all of it in memory.
        special: Names of further special tokens, such as those of fill-in-the-middle.
        seed: Of the sample.
    """
    import itertools
    from collections.abc import Iterator

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mindgeex.common.errors import UserError
    from mindgeex.common.progress import progress
    from mindgeex.data.tokenizers import WRITTEN, check_vocab_size, train_tokenizer
    from mindgeex.data.tokenizers.texts import open_texts, sample

    if max_bytes < 1:
        raise UserError(f"--max-bytes {max_bytes}: must be at least 1")
    if not data:
        raise UserError("nothing to learn from: name at least one corpus or folder")
    check_vocab_size(vocab_size, kind, special)
    others = [path.name for path in out.iterdir() if path.name not in WRITTEN] if out.is_dir() else []
    if others or (out.exists() and not out.is_dir()):
        what = f"holds {others[0]}, which is not a tokenizer's" if others else "is no folder"
        raise UserError(f"{out}: is there and {what}: choose another folder for --out")
    places = [open_texts(folder) for folder in data]
    total = sum(place.num_bytes for place in places)
    learnt = 0
    with progress("train the tokenizer, MB of text", min(total, max_bytes) // 1_000_000) as bar:

        def texts() -> Iterator[str]:
            nonlocal learnt
            documents = itertools.chain.from_iterable(place.read() for place in places)
            for document in sample(documents, max_bytes / max(1, total), seed):
                yield document.text
                learnt += len(document.text.encode("utf-8", "replace"))
                bar.advance(learnt // 1_000_000 - bar.done)

        tokenizer = train_tokenizer(texts(), vocab_size, out, kind, special)
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("folder", escape(str(out)))
    table.add_row("learnt from", f"{learnt / 1e6:.1f} of {total / 1e6:.1f} MB")
    table.add_row(
        "tokens", f"{tokenizer.vocab_size:,}" + ("" if tokenizer.vocab_size == vocab_size else " (no more pairs)")
    )
    table.add_row("EOD", str(tokenizer.eod_id))
    for name in special:
        table.add_row(escape(name), str(tokenizer.special_id(name)))
    table.add_row("SHA-256", tokenizer.fingerprint)
    Console().print(table)


def compare(
    tokenizers: Annotated[tuple[Path, ...], tyro.conf.Positional],
    data: tuple[Path, ...],
    max_bytes: int = 16_000_000,
    seed: int = 1,
    json: Path | None = None,
) -> None:
    """Compare tokenizers on the same documents: bytes a token, tokens per 1,000 characters, and MB/s on one core.

    More bytes a token is better; the best is bold. Documents that are a fifth Chinese have a line of their own.

    Args:
        tokenizers: Their folders.
        data: Corpora (their held-out split, if they have one), folders with .jsonl.zst shards of documents, or folders
            of source and text files.
        max_bytes: Encode about so many bytes: a sample of the documents by a hash of their names.
        seed: Of the sample.
        json: File for the same, exactly, with fingerprints.
    """
    import itertools

    from rich.console import Console

    from mindgeex.common.errors import UserError
    from mindgeex.common.files import write_json
    from mindgeex.data.tokenizers import load_tokenizer
    from mindgeex.data.tokenizers.compare import compare as count
    from mindgeex.data.tokenizers.compare import table, tree
    from mindgeex.data.tokenizers.texts import open_texts, sample

    if max_bytes < 1:
        raise UserError(f"--max-bytes {max_bytes}: must be at least 1")
    if not tokenizers:
        raise UserError("nothing to compare: name at least one tokenizer's folder")
    loaded = [load_tokenizer(folder) for folder in tokenizers]
    places = [open_texts(folder, "heldout") for folder in data]
    share = max_bytes / max(1, sum(place.num_bytes for place in places))
    documents = itertools.chain.from_iterable(place.read() for place in places)
    comparison = count(loaded, sample(documents, share, seed))
    if json is not None:
        write_json(json, tree(loaded, comparison))
    Console().print(table(loaded, comparison))
