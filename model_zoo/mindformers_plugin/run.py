"""One of MindFormers' runs from a configuration file: the calls of its own run script, which its package leaves out.

    python -m mindgeex.model_zoo.mindformers_plugin.run codegeex_tiny --run_mode predict --predict_data 'def add('

Covers: the run modes finetune (and train) and predict, and any setting as `--section.key=value`. Does not cover: eval.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mindgeex.common.errors import UserError, did_you_mean

FOLDER = Path(__file__).parent
CONFIGS = FOLDER / "configs"
BASES = ("ascend", "cpu")
MODES = ("finetune", "train", "predict")


def config_path(name: str) -> Path:
    """Of a shipped configuration's name, or of a path that ends in .yaml.

    Raises:
        UserError: there is none.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONFIGS / f"{name}.yaml"
    if not path.is_file():
        known = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem not in BASES)
        raise UserError(f"no MindFormers configuration {name!r}{did_you_mean(name, known)}")
    return path.absolute()


def load(name: str, settings: Sequence[str] = ()) -> Any:
    """A configuration with `section.key=value` settings as MindFormers' MindFormerConfig.

    Raises:
        UserError: no such configuration, or a setting of no section.
    """
    given = [setting.partition("=") for setting in settings]
    output = next((yaml.safe_load(value) for key, _, value in reversed(given) if key == "output_dir"), "output")
    os.environ.setdefault("LOG_MF_PATH", str(Path(output, "log").absolute()))  # read when MindFormers is imported
    os.environ["REGISTER_PATH"] = str(FOLDER)
    from mindformers.tools.register import MindFormerConfig

    config = MindFormerConfig(str(config_path(name)))
    for key, equals, value in given:
        setting = f"{key}{equals}{value}"
        *outer, last = key.split(".")
        place = config
        for part in outer:
            place = place.get(part)
            if not isinstance(place, dict):
                raise UserError(f"setting {setting!r}: {name} has no section {part}")
        if not equals or not last:
            raise UserError(f"setting {setting!r} is not of the form section.key=value")
        place[last] = yaml.safe_load(value)
    return config


def run(config: Any) -> Any:
    """Trains, or continues a prompt, as the configuration says; what MindFormers' trainer returns.

    Raises:
        UserError: a run mode that the families do not have here.
    """
    from mindformers.core.context import build_context
    from mindformers.trainer import Trainer
    from mindformers.utils.file_utils import set_output_path

    if config.run_mode not in MODES:
        raise UserError(f"run_mode is {config.run_mode!r}{did_you_mean(config.run_mode, MODES)}")
    set_output_path(config.output_dir)
    build_context(config)
    trainer = Trainer(config)
    if config.run_mode == "predict":
        return trainer.predict(
            predict_checkpoint=config.load_checkpoint,
            input_data=config.input_data,
            batch_size=config.predict_batch_size,
        )
    return trainer.train()


def main(arguments: Sequence[str]) -> None:
    """Parses what MindFormers' script calls its flags, and runs."""
    parser = argparse.ArgumentParser(prog="python -m mindgeex.model_zoo.mindformers_plugin.run", allow_abbrev=False)
    parser.add_argument("config", help="a shipped configuration's name, or a YAML file")
    parser.add_argument("--run_mode", help=" or ".join(MODES))
    parser.add_argument("--load_checkpoint", help="a .ckpt, or with --load_ckpt_format=safetensors such a file")
    parser.add_argument("--train_dataset_dir", help="a folder of MindRecord shards with rows of seq_length + 1 ids")
    parser.add_argument("--predict_data", help="a prompt")
    parser.add_argument("--output_dir")
    known, others = parser.parse_known_args(arguments)
    if wrong := [word for word in others if not word.startswith("--")]:
        raise UserError(f"unknown argument {wrong[0]!r}: settings are --section.key=value")
    names = {"predict_data": "input_data", "train_dataset_dir": "train_dataset.data_loader.dataset_dir"}
    given = {names.get(name, name): value for name, value in vars(known).items() if value and name != "config"}
    settings = [word.removeprefix("--") for word in others]
    config = load(known.config, settings + [f"{name}={json.dumps(value)}" for name, value in given.items()])
    result = run(config)
    if config.run_mode == "predict":
        print(result[0]["text_generation_text"][0])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"mindgeex: {error}", file=sys.stderr)
        sys.exit(2)
