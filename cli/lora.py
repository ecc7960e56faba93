"""`mindgeex lora merge`, `unmerge` and `export`: an adapter into its base's weights, out of them again, and to PEFT."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from mindgeex.common.errors import UserError

if TYPE_CHECKING:
    from mindgeex.model_zoo.families import Model


def merge(adapter: Annotated[Path, tyro.conf.Positional], out: Path, base: Path | None = None) -> None:
    """Add a LoRA adapter to the weights of its base: the result is a plain checkpoint.

    Args:
        adapter: folder of the adapter: a checkpoint of a LoRA run, or the run (its newest checkpoint is taken).
        out: folder of the new checkpoint; it must not exist.
        base: where the base lies now, if not where the adapter's adapter.yaml says.
    """
    from mindgeex.cli.generate import find_checkpoint
    from mindgeex.model_zoo.checkpoints.adapter import load_adapted, read_adapter

    _refuse_taken(out)
    folder = find_checkpoint(adapter)
    tokenizers = [folder / "tokenizer", (base or folder / read_adapter(folder).base) / "tokenizer"]
    _publish(out, load_adapted(folder, base), tokenizers)


def unmerge(merged: Annotated[Path, tyro.conf.Positional], adapter: Path, out: Path) -> None:
    """Take a LoRA adapter out of the weights it was merged into: the result is its base again, up to rounding.

    Args:
        merged: folder of a checkpoint that `mindgeex lora merge` made.
        adapter: folder of the adapter that was merged.
        out: folder of the new checkpoint; it must not exist.
    """
    from mindgeex.cli.generate import find_checkpoint
    from mindgeex.model_zoo.checkpoints.adapter import read_adapter, read_adapter_tensors
    from mindgeex.model_zoo.checkpoints.native import load_model, weights_sha256
    from mindgeex.model_zoo.lora import unmerge as take_out

    _refuse_taken(out)
    folder, merged = find_checkpoint(adapter), find_checkpoint(merged)
    info = read_adapter(folder)
    model = load_model(merged)
    take_out(model, info.lora, read_adapter_tensors(folder))
    _publish(out, model, [merged / "tokenizer", folder / "tokenizer"])
    equal = weights_sha256(out) == info.base_sha256
    print("the base's weights, bit by bit" if equal else "the base's weights, up to rounding in their last places")


def export(adapter: Annotated[Path, tyro.conf.Positional], out: Path, base: str | None = None) -> None:
    """Write a LoRA adapter as PEFT keeps it, for a base in Hugging Face's format (GPT-NeoX only).

    Args:
        adapter: folder of the adapter: a checkpoint of a LoRA run, or the run (its newest checkpoint is taken).
        out: folder of the files; it must not exist.
        base: name on the hub, or path, of the base in Hugging Face's format, if not what the adapter was trained on.
    """
    from mindgeex.cli.generate import find_checkpoint
    from mindgeex.common.files import atomic_folder
    from mindgeex.model_zoo.checkpoints.adapter import read_adapter, read_adapter_tensors
    from mindgeex.model_zoo.checkpoints.hf_config import CONFIG_FILE
    from mindgeex.model_zoo.checkpoints.initial import initial_config
    from mindgeex.model_zoo.checkpoints.peft import export_peft

    _refuse_taken(out)
    folder = find_checkpoint(adapter)
    info = read_adapter(folder)
    name = base or str((folder / info.base).resolve())
    with atomic_folder(out) as partial:
        export_peft(partial, initial_config(folder), info.lora, read_adapter_tensors(folder), name)
    print(f"adapter of PEFT: {out}")
    if base is None and not (Path(name) / CONFIG_FILE).is_file():
        print(f"its base {name} is in another format: convert it with --to hf, and load the adapter onto that")


def _refuse_taken(out: Path) -> None:
    if out.exists():
        raise UserError(f"{out}: exists already: choose another folder, or delete it first")


def _publish(out: Path, model: "Model", tokenizers: list[Path]) -> None:
    """The model with the first tokenizer that is there, as a checkpoint."""
    from mindgeex.common.files import atomic_folder
    from mindgeex.model_zoo.checkpoints.native import named_parameters, save_model

    with atomic_folder(out) as partial:
        save_model(partial, model.config, named_parameters(model))
        for tokenizer in [folder for folder in tokenizers if folder.is_dir()][:1]:
            (partial / "tokenizer").mkdir()
            for file in tokenizer.iterdir():
                shutil.copyfile(file, partial / "tokenizer" / file.name)
    print(f"checkpoint: {out}")
