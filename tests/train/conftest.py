"""A corpus of real code, and a model small enough that its graph compiles in seconds."""

import contextlib
import resource
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from mindgeex.data.config import BuildConfig, TokenizerConfig
from mindgeex.data.pipeline import build

MODEL = {
    "family": "codegeex",
    "num_layers": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "feed_forward_size": 64,
    "vocab_size": 512,
    "seq_length": 64,
    "dropout_rate": 0.1,
    "init_std": 0.02,
    "eod_id": 0,
}


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory) -> Path:
    """Six packages of the running Python's standard library, each a repository."""
    library = Path(sysconfig.get_path("stdlib"))
    packages = ("json", "email", "logging", "unittest", "importlib", "concurrent")
    folder = tmp_path_factory.mktemp("corpus") / "corpus"
    sources = tuple(f"local:{library / package}" for package in packages)
    tokenizer = TokenizerConfig(vocab_size=512)
    build(BuildConfig(sources=sources, seq_length=64, tokenizer=tokenizer, heldout_share=0.2), folder)
    return folder


def write_recipe(folder: Path) -> Path:
    """A recipe of 40 steps with dropout; a checkpoint every 5."""
    model = folder / "model.yaml"
    model.write_text(yaml.safe_dump(MODEL))
    tree = {
        "model": str(model),
        "steps": 40,
        "batch": {"tokens_per_step": 256},
        "schedule": {"peak": 3e-3, "final": 3e-4, "warmup_steps": 4, "decay_steps": 40},
        "cadence": {"checkpoint_steps": 5, "evaluate_steps": 10, "heldout_rows": 6},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture
def recipe(tmp_path) -> Path:
    return write_recipe(tmp_path)


def run(*arguments: object) -> subprocess.CompletedProcess:
    """Runs the command line to its end; a supervisor that is killed takes its workers with it."""
    command = [sys.executable, "-m", "mindgeex.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


@contextlib.contextmanager
def files_of_at_most(size):
    """The system refuses to let a file grow beyond so many bytes, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
