"""`mindgeex generate`, and a checkpoint as something that completes prompts."""

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from mindgeex.common.errors import UserError
from mindgeex.model_zoo.decoding.settings import Beams, Sampling
from mindgeex.model_zoo.decoding.stops import Stop, stop_at

if TYPE_CHECKING:
    from mindgeex.data.tokenizers import Tokenizer
    from mindgeex.model_zoo.decoding.continuation import Continuation

Language = Literal["python", "cpp", "java", "javascript", "go", "rust"]
FIM_TOKENS = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
"""As `mindgeex data build` names them unless its recipe says otherwise."""
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


class CheckpointCompleter:
    """A checkpoint and its tokenizer as the evaluation's Completer."""

    def __init__(self, checkpoint: Path, sampling: Sampling, max_rows: int, int8: bool = False):
        from mindgeex.data.tokenizers import load_tokenizer
        from mindgeex.model_zoo.checkpoints.native import load_model, weights_sha256
        from mindgeex.model_zoo.decoding.generator import TextGenerator
        from mindgeex.model_zoo.int8 import is_int8, load_int8_model

        self.sampling = sampling
        int8 = int8 or is_int8(checkpoint)
        model = load_int8_model(checkpoint) if int8 else load_model(checkpoint)
        self.tokenizer = load_tokenizer(checkpoint / "tokenizer")
        self.generator = TextGenerator(model, self.tokenizer, max_rows)
        self.description: dict[str, object] = {
            "checkpoint": str(checkpoint),
            "weights_sha256": weights_sha256(checkpoint),
            **asdict(sampling),
            "prompts_beyond_the_window": "cut from the left",
            **({"linear_weights": "int8"} if int8 else {}),
        }

    def complete(self, prompt: str, *, num_samples: int, seed: int, stop: Stop | None) -> list[str]:
        """`num_samples` continuations of one prompt, without the prompt."""
        prompts = [prompt] * num_samples
        done = self.generator.generate(prompts, self.sampling, seed, stop, long_prompts="truncate")
        return [continuation.text for continuation in done]


class FillingTokenizer:
    """A tokenizer whose `encode` puts a prefix and the suffix into the order of fill-in-the-middle (data/fim.py, PSM).

    A first line that is a language's tag stands in front of it all, as in training.
    """

    def __init__(self, tokenizer: "Tokenizer", suffix: str, names: tuple[str, str, str]):
        """Raises UserError if the tokenizer lacks one of the three special tokens."""
        from mindgeex.data.fim import FimRules, token_ids

        self.vocab_size, self.eod_id = tokenizer.vocab_size, tokenizer.eod_id
        self.decode_bytes = tokenizer.decode_bytes
        self._encode, self._suffix = tokenizer.encode, suffix
        self._ids = token_ids(tokenizer, FimRules(tokens=names))

    def encode(self, text: str) -> list[int]:
        """The ids of tag, prefix and suffix, up to where the middle begins."""
        from mindgeex.data.languages import TAGS

        first, line_end, rest = text.partition("\n")
        head, prefix = (first + line_end, rest) if line_end and first in TAGS.values() else ("", text)
        prefix_id, middle_id, suffix_id = self._ids
        head_ids, prefix_ids, suffix_ids = (
            self._encode(part, eod_in_text=False) for part in (head, prefix, self._suffix)
        )
        return [*head_ids, prefix_id, *prefix_ids, suffix_id, *suffix_ids, middle_id]


def load_completer(
    checkpoint: Path, sampling: Sampling, *, max_rows: int = 16, int8: bool = False
) -> CheckpointCompleter:
    """The newest whole checkpoint of a run, or the one given, if its files are as they were written.

    Args:
        checkpoint: folder of a checkpoint or a run.
        sampling: how tokens are chosen.
        max_rows: continuations made at once.
        int8: round the weights of linear layers to one byte, unless they are already.
    """
    if max_rows < 1:
        raise UserError(f"--max-rows {max_rows}: at least 1")
    return CheckpointCompleter(find_checkpoint(checkpoint), sampling, max_rows, int8)


def find_checkpoint(folder: Path) -> Path:
    """The newest whole checkpoint of a run, or the folder itself, if its files are as they were written."""
    from mindgeex.train.checkpointing import STATE_FILE, newest_whole, verify

    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: give a run or a checkpoint that `mindgeex train` made")
    newest = newest_whole(folder / "checkpoints")
    if newest is None and (folder / STATE_FILE).is_file():
        verify(folder)
    return newest or folder


def generate(
    checkpoint: Path,
    prompt: str | None = None,
    prompt_file: Path | None = None,
    suffix: str | None = None,
    fim_tokens: tuple[str, str, str] = FIM_TOKENS,
    num_samples: int = 1,
    sampling: Annotated[Sampling, tyro.conf.OmitArgPrefixes] = Sampling(),  # noqa: B008
    seed: int = 0,
    stop: tuple[str, ...] = (),
    stop_language: Language | None = None,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    early_stopping: bool = False,
    long_prompts: Literal["refuse", "truncate"] = "refuse",
    max_rows: int = 16,
    int8: bool = False,
    stream: bool = False,
    json: bool = False,
) -> None:
    r"""Continue a prompt with a trained model.

    Args:
        checkpoint: folder of a checkpoint, or of a run (its newest checkpoint is taken).
        prompt: the text to continue; begin it with a language tag such as "# language: Python".
        prompt_file: file with the text to continue; - for standard input.
        suffix: text that stands behind what is to be written: fills in the middle between prompt and suffix.
        fim_tokens: names of the special tokens for prefix, middle and suffix that the model was trained with.
        num_samples: continuations to draw; with beams, how many of the best.
        sampling: how tokens are chosen.
        seed: the same seed gives the same text.
        stop: end before any of these strings; \n, \t, \r and \\ stand for line break, tab, return, backslash.
        stop_language: end with the function that the prompt began, by CodeGeeX's rule for the language.
        num_beams: above 1, beam search takes the place of sampling.
        length_penalty: beams: a text of n tokens scores its log-probability / n^penalty.
        early_stopping: beams: end when num_beams texts are complete.
        long_prompts: a prompt beyond the window is refused, or truncated from the left.
        max_rows: continuations made at once.
        int8: round the weights of linear layers to one byte each: faster on a CPU, nearly as good (mindgeex quantize).
        stream: print every piece as soon as it is there.
        json: print one JSON object a continuation.
    """
    text = _prompt(prompt, prompt_file)
    ends = stop_at([_unescaped(string) for string in stop], stop_language)
    for name, value in (("--num-samples", num_samples), ("--num-beams", num_beams), ("--max-rows", max_rows)):
        if value < 1:
            raise UserError(f"{name} {value}: at least 1")
    if not 0 <= seed < 2**64:
        raise UserError(f"--seed {seed}: at least 0 and below 2^64")
    beams = None
    if num_beams > 1:
        if num_samples > num_beams:
            raise UserError(f"--num-samples {num_samples}: at most --num-beams, which is {num_beams}")
        penalty, most = sampling.repetition_penalty, sampling.max_new_tokens
        beams = Beams(num_beams, num_samples, length_penalty, early_stopping, penalty, most)
    if stream and (num_samples > 1 or beams or json):
        raise UserError("--stream prints one text as it grows: leave out --num-samples, --num-beams and --json")
    if suffix is not None and long_prompts == "truncate":
        raise UserError("--suffix: cutting from the left would take the mark of the prefix: leave out --long-prompts")
    completer = load_completer(checkpoint, sampling, max_rows=max_rows, int8=int8)
    generator = completer.generator
    if suffix is not None:
        generator.tokenizer = FillingTokenizer(completer.tokenizer, suffix, fim_tokens)
    if stream:
        pieces = generator.stream(text, sampling, seed, ends, long_prompts)
        print(text, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print(suffix or "")
    elif beams is not None:
        _print(text, suffix, generator.search(text, beams, ends, long_prompts), json)
    else:
        _print(text, suffix, generator.generate([text] * num_samples, sampling, seed, ends, long_prompts), json)


def _prompt(prompt: str | None, file: Path | None) -> str:
    """The text to continue, from where it was said to be."""
    if (prompt is None) == (file is None):
        raise UserError("give either --prompt TEXT or --prompt-file FILE (- for standard input)")
    try:
        if file is None:
            assert prompt is not None
            where, content = "--prompt", prompt.encode("utf-8", "surrogateescape")
        elif str(file) == "-":
            where, content = "standard input", sys.stdin.buffer.read()
        else:
            where, content = str(file), file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 (byte {error.start}): convert it first") from None
    if not text:
        raise UserError(f"{where}: the prompt is empty: give at least one character")
    return text


def _unescaped(typed: str) -> str:
    def letter(match: re.Match[str]) -> str:
        if match[1] not in ESCAPES:
            raise UserError(rf"--stop {typed!r}: '\{match[1]}' is none of \n \t \r \\: write a backslash as \\")
        return ESCAPES[match[1]]

    return re.sub(r"\\(.|$)", letter, typed, flags=re.DOTALL)


def _print(prompt: str, suffix: str | None, continuations: Sequence["Continuation"], as_json: bool) -> None:
    from json import dumps

    for index, continuation in enumerate(continuations):
        if as_json:
            asked = {"prompt": prompt} if suffix is None else {"prompt": prompt, "suffix": suffix}
            row = {"sample": index, **asked, **asdict(continuation), "tokens": len(continuation.ids)}
            print(dumps({key: value for key, value in row.items() if key != "ids"}, ensure_ascii=False))
        else:
            print(f"{prompt}{continuation.text}{suffix or ''}")
