"""What a run's newest checkpoint makes of the beginnings of held-out documents, for people to read: RUN/samples.jsonl.

Covers: one document of each of the most frequent languages, always the same ones. Does not cover: scores.
"""

import json
from pathlib import Path

from mindgeex.common.errors import UserError
from mindgeex.common.files import atomic_file, read_json
from mindgeex.data.languages import language_tag
from mindgeex.data.mindrecord import Corpus
from mindgeex.train.checkpointing import STATE_FILE, newest_whole

SAMPLES_FILE = "samples.jsonl"
PROMPT_LINES = 12
PROMPT_CHARS = 600
"""A prompt is a document's tag and so many of its first lines, up to so many characters."""

MAX_NEW_TOKENS = 96
TEMPERATURE, TOP_P = 0.6, 0.95


def write_samples(run_folder: Path, corpus: Corpus, count: int) -> list[dict[str, object]]:
    """Continues the beginnings of `count` held-out documents, each of another language.

    Returns:
        What the file holds: `step`, `language`, `prompt`, `text` of each.

    Raises:
        UserError: the run has no whole checkpoint, or a file of the corpus is missing or altered.
    """
    from mindgeex.data.tokenizers import load_tokenizer
    from mindgeex.model_zoo.checkpoints.native import load_model
    from mindgeex.model_zoo.decoding.generator import TextGenerator
    from mindgeex.model_zoo.decoding.settings import Sampling

    checkpoint = newest_whole(run_folder / "checkpoints")
    if checkpoint is None:
        raise UserError(f"{run_folder}: no whole checkpoint to take samples of: train on until one is saved")
    prompts = held_out_prompts(corpus, count)
    generator = TextGenerator(load_model(checkpoint), load_tokenizer(checkpoint / "tokenizer"), max_rows=count)
    sampling = Sampling(temperature=TEMPERATURE, top_p=TOP_P, max_new_tokens=MAX_NEW_TOKENS)
    done = generator.generate(list(prompts.values()), sampling, long_prompts="truncate")
    step = read_json(checkpoint / STATE_FILE)["progress"]["step"]
    samples: list[dict[str, object]] = [
        {"step": step, "language": language, "prompt": prompt, "text": continuation.text}
        for (language, prompt), continuation in zip(prompts.items(), done, strict=True)
    ]
    with atomic_file(run_folder / SAMPLES_FILE) as partial:
        partial.write_text("".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples), "utf-8")
    return samples


def held_out_prompts(corpus: Corpus, count: int) -> dict[str, str]:
    """Language -> the beginning of its first held-out document that has more than that, most frequent first."""
    tokens = {name: about["tokens"] for name, about in corpus.manifest["splits"]["heldout"]["languages"].items()}
    wanted = sorted(tokens, key=lambda name: (-tokens[name], name))[:count]
    found: dict[str, str] = {}
    for document in corpus.documents("heldout"):
        lines = document.text.splitlines(keepends=True)
        beginning = "".join(lines[:PROMPT_LINES])[:PROMPT_CHARS]
        if document.language in wanted and document.language not in found and len(lines) > 2 * PROMPT_LINES:
            tag = language_tag(document.language)
            found[document.language] = f"{tag}\n{beginning}" if tag else beginning
        if len(found) == len(wanted):
            break
    return {name: found[name] for name in wanted if name in found}
