"""The `mindgeex` command: finds the subcommand, imports its module only then, and prints user errors in one line.

Each subcommand is a function whose typed arguments and docstring are its options and its help text.
"""

import importlib
import os
import sys
from collections.abc import Sequence

from mindgeex.common.errors import UserError, did_you_mean

# google.protobuf's C++ implementation, if loaded before mindspore, makes `import mindspore` abort.
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
# MindSpore announces on every start that it runs without an accelerator; errors still show.
os.environ.setdefault("GLOG_v", "3")

COMMANDS = {
    "data build": ("data", "build", "raw code to MindRecord shards and a manifest"),
    "data recipe": ("data", "recipe", "every setting of a recipe, as YAML"),
    "data stats": ("data", "stats", "what is in a corpus: languages, drops, duplicates, tokens"),
    "data inspect": ("data", "inspect", "rows of a corpus as text"),
    "data verify": ("data", "verify", "check every file and row of a corpus"),
    "data merge": ("data", "merge", "several corpora into one"),
    "tokenizer train": ("tokenizer", "train", "byte-level BPE or SentencePiece, from a corpus or plain files"),
    "tokenizer compare": ("tokenizer", "compare", "bytes a token and MB/s of several tokenizers, by language"),
    "model show": ("model", "show", "sizes, parameters, bytes and FLOPs of a model"),
    "convert": ("convert", "convert", "a checkpoint from one format, type and layout to another"),
    "quantize": ("quantize", "quantize", "round a checkpoint's weights to one byte, and what that changes"),
    "lora merge": ("lora", "merge", "a LoRA adapter into the weights of its base"),
    "lora unmerge": ("lora", "unmerge", "a LoRA adapter out of the weights it was merged into"),
    "lora export": ("lora", "export", "a LoRA adapter as PEFT keeps it"),
    "train": ("train", "train", "train a model from a recipe; --resume continues"),
    "plan": ("plan", "plan", "a training step compiled for a simulated cluster: memory, communication, time"),
    "runs": ("runs", "runs", "training runs: how far, their last figures, whether they live"),
    "report": ("runs", "report", "a page about a training run, or one that compares several"),
    "generate": ("generate", "generate", "continue a prompt with a checkpoint"),
    "eval run": ("eval", "run", "score a checkpoint or completions, or check canonical solutions, in a sandbox"),
    "eval list": ("eval", "list_benchmarks", "the benchmarks, with their languages and post-processing"),
    "eval report": ("eval", "report", "what a finished run scored, and its page, from its folder"),
    "eval compare": ("eval", "compare", "two runs, problem by problem"),
    "eval doctor": ("eval", "doctor", "what the evaluation has here, what each language lacks, and the fix"),
    "hccl make": ("hccl", "make", "a rank table from a list of servers"),
    "hccl merge": ("hccl", "merge", "one rank table from several, such as one of each server"),
    "hccl check": ("hccl", "check", "find mistakes in a rank table"),
    "hccl explain": ("hccl", "explain", "a rank table in words: servers, and the groups of ranks in them"),
    "hccl errors": ("hccl", "errors", "what error codes of HCCL and CANN mean, and the next step"),
    "launch": ("launch", "launch", "a script that starts a command on one or many servers"),
    "quickstart": ("quickstart", "quickstart", "the whole road, once, on this machine's own code"),
    "doctor": ("doctor", "doctor", "what is here, what is missing for which ability, and the fix"),
}
"""What is typed -> module in mindgeex.cli, function, one line of help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Returns:
        0 on success, 2 for a mistake the user can fix, or what the subcommand itself returns.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if not words or words[0] in ("-h", "--help"):
            print(help_text(""))
            return 0
        group = words[0]
        is_group = group not in COMMANDS and any(name.startswith(group + " ") for name in COMMANDS)
        if is_group and (len(words) < 2 or words[1] in ("-h", "--help")):
            print(help_text(group + " "))
            return 0
        name = next((n for n in (" ".join(words[:2]), group) if n in COMMANDS), None)
        if name is None:
            typed = " ".join(word for word in words[:2] if not word.startswith("-")) or group
            raise UserError(f"unknown command 'mindgeex {typed}'{did_you_mean(typed, COMMANDS)}")
        return run(name, words[len(name.split()) :])
    except UserError as error:
        print(f"mindgeex: {error}", file=sys.stderr)
        return 2
    except PermissionError as error:  # a closed path is never our mistake; anything else closed may be
        if error.filename is None:
            raise
        print(f"mindgeex: {error.filename}: {error.strerror}: choose another path or user", file=sys.stderr)
        return 2
    except BrokenPipeError:
        try:
            print(flush=True)  # is it standard output that broke?
        except BrokenPipeError:  # whoever read our output has enough, as in `mindgeex ... | head -1`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        raise
    except KeyboardInterrupt:
        print("mindgeex: interrupted", file=sys.stderr)
        return 130


def run(name: str, arguments: Sequence[str]) -> int:
    """Imports the module of one subcommand, parses its arguments and calls it."""
    import tyro

    module, function, _ = COMMANDS[name]
    command = getattr(importlib.import_module(f"mindgeex.cli.{module}"), function)
    return tyro.cli(command, prog=f"mindgeex {name}", args=list(arguments)) or 0


def help_text(prefix: str) -> str:
    """The list of commands that begin with `prefix`."""
    rows = [(name, line) for name, (_, _, line) in COMMANDS.items() if name.startswith(prefix)]
    width = max(len(name) for name, _ in rows)
    lines = "\n".join(f"  mindgeex {name:<{width}}  {line}" for name, line in rows)
    return f"usage: mindgeex {prefix}COMMAND [OPTIONS]\n\n{lines}\n\nmindgeex COMMAND --help explains one command."


if __name__ == "__main__":
    sys.exit(main())
