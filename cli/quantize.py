"""`mindgeex quantize`: a checkpoint with weights of one byte, and what that changes."""

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from mindgeex.common.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from mindgeex.model_zoo.config import ModelConfig


def quantize(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    data: Path | None = None,
    text: Path | None = None,
    rows: int = 16,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Round the weights of a checkpoint's linear layers to one byte each, and report what that changes.

    Each row of a matrix gets one scale; embeddings (and with them CodeGeeX's head), norms and biases stay as they are.
    Prints the size; with --data or --text also errors of the logits, how often the most likely token stays the same,
    and both perplexities.

    Args:
        checkpoint: folder of a checkpoint, or of a run (its newest checkpoint is taken).
        data: a corpus that `mindgeex data build` made: its held-out rows are compared.
        text: a file of text, in UTF-8, to compare on.
        rows: at most so many windows of tokens are compared.
        out: folder to save the rounded weights in, for `mindgeex generate --int8`; it must not exist.
        json: print one JSON object instead of a table.
    """
    from mindgeex.cli.generate import find_checkpoint
    from mindgeex.model_zoo.checkpoints.native import load_model
    from mindgeex.model_zoo.int8 import compare, is_int8, load_int8_model, save_int8_model, weight_bytes

    if data is not None and text is not None:
        raise UserError("give either --data CORPUS or --text FILE, not both")
    if rows < 1:
        raise UserError(f"--rows {rows}: at least 1")
    if out is not None and out.exists():
        raise UserError(f"{out}: exists already: choose another folder, or delete it first")
    checkpoint = find_checkpoint(checkpoint)
    if is_int8(checkpoint):
        raise UserError(f"{checkpoint}: its weights are rounded already: give the checkpoint they were made from")
    plain, int8 = load_model(checkpoint), load_int8_model(checkpoint)
    before, after = weight_bytes(plain), weight_bytes(int8)
    report: dict[str, float] = {"bytes_before": before, "bytes_after": after, "size_ratio": after / before}
    if data is not None:
        report |= asdict(compare(plain, int8, _corpus_rows(data, plain.config, rows)))
    if text is not None:
        report |= asdict(compare(plain, int8, _text_rows(text, checkpoint, plain.config, rows)))
    if out is not None:
        save_int8_model(out, int8, checkpoint / "tokenizer")
    if json:
        print(json_module.dumps(report, indent=2))
    else:
        _print(report)


def _corpus_rows(folder: Path, config: "ModelConfig", limit: int) -> "np.ndarray":
    from mindgeex.data.mindrecord import Corpus
    from mindgeex.train.evaluation import ALL, heldout_sets

    corpus = Corpus.open(folder)
    if corpus.seq_length > config.seq_length or corpus.vocab_size > config.vocab_size:
        raise UserError(
            f"{folder}: rows of {corpus.seq_length} tokens below {corpus.vocab_size}, but the model's window is "
            f"{config.seq_length} and its vocabulary {config.vocab_size}: give the corpus it was trained on"
        )
    return heldout_sets(corpus, limit, rows_per_language=0)[ALL].rows_RS1


def _text_rows(file: Path, checkpoint: Path, config: "ModelConfig", limit: int) -> "np.ndarray":
    from mindgeex.data.tokenizers import load_tokenizer
    from mindgeex.model_zoo.int8 import as_rows

    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 (byte {error.start}): convert it first") from None
    return as_rows(load_tokenizer(checkpoint / "tokenizer").encode(text), config.seq_length, limit)


def _print(report: dict[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "value", show_header=False)
    for what, value in report.items():
        table.add_row(what.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:.6g}")
    Console().print(table)
