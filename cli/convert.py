"""`mindgeex convert`: a checkpoint from any format and layout to any other."""

import os
from pathlib import Path
from typing import Annotated

import tyro


def convert(
    source: Annotated[Path, tyro.conf.Positional],
    target: Annotated[Path, tyro.conf.Positional],
    to: str,
    from_: Annotated[str, tyro.conf.arg(name="from")] = "",
    model: str = "",
    dtype: str = "keep",
    layout: str = "",
    from_layout: str = "",
    tensor_parallel: int = 1,
    fused_qkv: bool = False,
    moments: bool = False,
    shard_bytes: int = 5_000_000_000,
    overwrite: bool = False,
) -> None:
    """Convert a checkpoint, tensor by tensor, and check what was written before it is published.

    Formats: mindgeex (ours), mindspore (our names, .ckpt), codegeex-mindspore and codegeex-torch (the original's),
    megatron (the original's tensor-parallel partitions), hf (Hugging Face's GPT-NeoX folder), mindir (MindSpore Lite).
    conversion.json, beside or in the output, lists every tensor with its names, shape, type and SHA-256.

    Args:
        source: file or folder to read; of a run, its newest checkpoint is taken.
        target: file or folder to write. A name ending in .ckpt or .pt makes one file of the formats that have such.
        to: format to write.
        from_: format to read; empty: as the files tell.
        model: a shipped model's name or a YAML file with sizes, for files that do not say them.
        dtype: float32, float16, bfloat16, or keep. Values that overflow or become 0 are counted.
        layout: ranks to write, such as dp=2,mp=8,shard=1 (mindgeex, mindspore, codegeex-mindspore); empty: one.
        from_layout: ranks to read, such as dp=4,mp=4,shard=2; empty: as layout.json in the folder tells.
        tensor_parallel: partitions to write (megatron).
        fused_qkv: one tensor for queries, keys and values (codegeex-torch, megatron).
        moments: keep Adam's moments, too (mindgeex, mindspore, codegeex-mindspore, rank files).
        shard_bytes: largest size of a safetensors file.
        overwrite: replace what is at the target.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mindgeex.common.errors import UserError
    from mindgeex.model_zoo.checkpoints.convert import ConvertOptions
    from mindgeex.model_zoo.checkpoints.convert import convert as convert_checkpoint
    from mindgeex.model_zoo.checkpoints.layout import Layout, parse_layout

    if tensor_parallel != 1 and (layout or to != "megatron"):
        raise UserError(f"--tensor-parallel {tensor_parallel} goes with --to megatron, and without --layout")
    options = ConvertOptions(
        from_format=from_,
        from_layout=parse_layout(from_layout, "--from-layout") if from_layout else None,
        model=model,
        layout=parse_layout(layout, "--layout") if layout else Layout(mp=tensor_parallel),
        dtype=dtype,
        fused_qkv=fused_qkv,
        moments=moments,
        shard_bytes=shard_bytes,
        overwrite=overwrite,
    )
    if os.path.isdir(source):  # a run, or one of its checkpoints, whose digests are compared
        from mindgeex.cli.generate import find_checkpoint

        source = find_checkpoint(source)
    report = convert_checkpoint(source, target, to, options)
    table = Table("what", "value", show_header=False)
    for what, value in report.summary().items():
        table.add_row(what, escape(value))
    Console().print(table)
    for cast in report.casts[:10]:
        print(f"warning: {cast.name}: {cast.overflowed:,} values overflowed to infinity, {cast.flushed:,} became 0")
    if len(report.casts) > 10:
        print(f"warning: {len(report.casts) - 10} more tensors lost values in the cast: see conversion.json")
    for note in report.notes:
        print(f"note: {note}")
