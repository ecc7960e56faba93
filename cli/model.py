"""`mindgeex model show`: the sizes of a model, without building it."""

import json as json_module
from pathlib import Path
from typing import Annotated

import tyro


def show(model: Annotated[str, tyro.conf.Positional] = "", json: bool = False) -> None:
    """Print sizes, parameters, bytes by type and FLOPs a token of a model, or list the models that ship.

    Nothing is allocated: all of it follows from the sizes.

    Args:
        model: a shipped name such as codegeex_13b, the path of a YAML file with sizes, or a checkpoint's folder.
        json: print one JSON object instead of tables.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mindgeex.model_zoo.config import config_names, load_model_config

    if not model:
        table = Table("model", "family", "layers", "hidden", "window", "parameters")
        for column in table.columns:
            column.no_wrap = True
        for name in config_names():
            sizes = load_model_config(name)
            row = (sizes.num_layers, sizes.hidden_size, sizes.seq_length, sizes.parameters)
            table.add_row(name, sizes.family, *(f"{value:,}" for value in row))
        Console().print(table)
        return
    path = Path(model) / "model.yaml"
    config = load_model_config(str(path) if path.is_file() else model)
    figures = config.figures()
    if json:
        print(json_module.dumps(figures, indent=2))
        return
    table = Table("what", "value", title=escape(model), show_header=False)
    for what, value in figures.items():
        table.add_row(what.replace("_", " "), f"{value:,}" if type(value) is int else str(value))
    Console().print(table)
    shapes = Table("tensors", "count", "shape", "parameters")
    for group in config.tensor_groups():
        shapes.add_row(group.name, str(group.count), str(list(group.shape)), f"{group.parameters:,}")
    Console().print(shapes)
