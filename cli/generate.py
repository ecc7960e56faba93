"""`mindgeex generate`, and a checkpoint as something that completes prompts."""

from collections.abc import Callable
from pathlib import Path


class CheckpointCompleter:
    """A checkpoint and its tokenizer as the evaluation's Completer."""

    def __init__(self, checkpoint: Path, temperature: float, top_k: int, top_p: float, max_new_tokens: int):
        from mindgeex.common.files import sha256_file
        from mindgeex.data.tokenizer import load_tokenizer
        from mindgeex.model_zoo.checkpoints.native import WEIGHTS_FILE, load_model
        from mindgeex.model_zoo.decoding.generator import TextGenerator
        from mindgeex.model_zoo.decoding.sampling import Sampling

        self.sampling = Sampling(temperature, top_k, top_p, max_new_tokens)
        self.generator = TextGenerator(load_model(checkpoint), load_tokenizer(checkpoint / "tokenizer"))
        self.description: dict[str, object] = {
            "checkpoint": str(checkpoint),
            "weights_sha256": sha256_file(checkpoint / WEIGHTS_FILE),
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "max_new_tokens": max_new_tokens,
            "prompts_beyond_the_window": "cut from the left",
        }

    def complete(self, prompt: str, *, num_samples: int, seed: int, stop: Callable[[str], bool] | None) -> list[str]:
        """`num_samples` continuations of one prompt, without the prompt."""
        return self.generator.generate([prompt] * num_samples, self.sampling, seed, stop, long_prompts="truncate")


def load_completer(
    checkpoint: Path, *, temperature: float = 0.8, top_k: int = 0, top_p: float = 0.95, max_new_tokens: int = 128
) -> CheckpointCompleter:
    """The newest whole checkpoint of a run, or the one given, if its files are as they were written."""
    from mindgeex.common.errors import UserError
    from mindgeex.train.checkpointing import STATE_FILE, newest_whole, verify

    if not checkpoint.is_dir():
        raise UserError(f"{checkpoint}: no such folder: give a run or a checkpoint that `mindgeex train` made")
    newest = newest_whole(checkpoint / "checkpoints")
    if newest is None and (checkpoint / STATE_FILE).is_file():
        verify(checkpoint)
    return CheckpointCompleter(newest or checkpoint, temperature, top_k, top_p, max_new_tokens)


def generate(
    checkpoint: Path,
    prompt: str,
    num_samples: int = 1,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 0.95,
    max_new_tokens: int = 128,
    seed: int = 0,
) -> None:
    """Continue a prompt with a trained model.

    Args:
        checkpoint: folder of a checkpoint, or of a run (its newest checkpoint is taken).
        prompt: the text to continue; begin it with a language tag such as "# language: Python".
        num_samples: continuations to draw.
        temperature: 0 always takes the most likely token; higher is more varied.
        top_k: draw only from the k most likely tokens; 0 is all.
        top_p: draw only from the most likely tokens that together reach this probability.
        max_new_tokens: tokens a continuation has at the most.
        seed: the same seed gives the same text.
    """
    from mindgeex.common.errors import UserError

    if num_samples < 1:
        raise UserError(f"--num-samples {num_samples}: at least 1")
    if not 0 <= seed < 2**64:
        raise UserError(f"--seed {seed}: at least 0 and below 2^64")
    completer = load_completer(
        checkpoint, temperature=temperature, top_k=top_k, top_p=top_p, max_new_tokens=max_new_tokens
    )
    for text in completer.generator.generate([prompt] * num_samples, completer.sampling, seed):
        print(f"{prompt}{text}")
