"""A tokenizer's files between ours and Hugging Face's: they differ in how runs of blanks are named.

CodeGeeX replaces runs of 2 to 10 blanks by tokens called <|extratoken_10|> to <|extratoken_18|> before it encodes.
transformers knows tokens by their text alone, so there these have the blanks themselves as their name; then it
encodes and decodes as CodeGeeX's own tokenizer does. Covers: vocabularies in GPT-2's files. Does not cover:
tokenizer.json and tokenizer.model, which are carried along as they are.
"""

import json
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.common.files import read_json
from mindgeex.model_zoo.checkpoints.containers.streams import reading

FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "chat_template.jinja",
)  # fmt: skip
ADDED = "added_tokens.json"
RUNS = {f"<|extratoken_{8 + blanks}|>": " " * blanks for blanks in range(2, 11)}


def copy_files(source: Path, target: Path, from_hugging_face: bool, to_hugging_face: bool) -> bool:
    """Copies what there is of a tokenizer into an existing folder; returns whether there was anything.

    Raises:
        UserError: a file cannot be read, or added_tokens.json is no mapping of tokens to ids.
    """
    found = [name for name in FILES if (source / name).is_file()]
    if found:
        target.mkdir(exist_ok=True)
    for name in found:
        if name == ADDED and from_hugging_face != to_hugging_face:
            _rename_runs(source / name, target / name, to_hugging_face)
        else:
            with reading(source / name):
                data = (source / name).read_bytes()
            (target / name).write_bytes(data)
    return bool(found)


def _rename_runs(source: Path, target: Path, to_hugging_face: bool) -> None:
    added = read_json(source)
    if not isinstance(added, dict):
        raise UserError(f"{source}: expected an object of tokens and ids")
    names = RUNS if to_hugging_face else {text: name for name, text in RUNS.items()}
    if names.keys() <= added.keys():  # a tokenizer has all nine or none; another's blanks may mean something else
        added = {names.get(token, token): id for token, id in added.items()}
    target.write_text(json.dumps(added, ensure_ascii=False), encoding="utf-8")
