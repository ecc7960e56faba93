"""`mindgeex tokenizer train`: a byte-level BPE on a corpus's documents."""

from collections.abc import Iterator
from pathlib import Path


def train(data: Path, out: Path, vocab_size: int = 4096, max_bytes: int = 16_000_000, seed: int = 1) -> None:
    """Train a byte-level BPE with CodeGeeX's whitespace tokens on the train split of a corpus.

    Use it for another corpus with `mindgeex data build --tokenizer OUT`.

    Args:
        data: Folder of a corpus made by `mindgeex data build`.
        out: Folder for vocab.json, merges.txt and added_tokens.json; a tokenizer that is there is replaced.
        vocab_size: All tokens, the special ones included.
        max_bytes: Learn from about so many bytes: a sample of the files by a hash of their names.
        seed: Of the sample.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mindgeex.common.errors import UserError
    from mindgeex.common.progress import progress
    from mindgeex.data.document import Document
    from mindgeex.data.mindrecord import Corpus
    from mindgeex.data.pipeline import training_texts
    from mindgeex.data.tokenizer import WRITTEN, train_tokenizer

    if max_bytes < 1:
        raise UserError(f"--max-bytes {max_bytes}: must be at least 1")
    others = [path.name for path in out.iterdir() if path.name not in WRITTEN] if out.is_dir() else []
    if others or (out.exists() and not out.is_dir()):
        what = f"holds {others[0]}, which is not a tokenizer's" if others else "is no folder"
        raise UserError(f"{out}: is there and {what}: choose another folder for --out")
    corpus = Corpus.open(data)
    split = corpus.manifest["splits"]["train"]
    with progress("train the tokenizer, documents", split["documents"]) as bar:

        def documents() -> Iterator[Document]:
            for document in corpus.documents("train"):
                yield document
                bar.advance()

        share = max_bytes / max(1, split["bytes"])
        tokenizer = train_tokenizer(training_texts(documents(), share, seed), vocab_size, out)
    table = Table("what", "value", show_header=False)
    table.add_row("folder", escape(str(out)))
    table.add_row(
        "tokens", f"{tokenizer.vocab_size:,}" + ("" if tokenizer.vocab_size == vocab_size else " (no more pairs)")
    )
    table.add_row("EOD", str(tokenizer.eod_id))
    table.add_row("SHA-256", tokenizer.fingerprint)
    Console().print(table)
