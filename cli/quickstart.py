"""`mindgeex quickstart`: the whole road, once, on this machine's own code."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROMPT = "# language: Python\nimport os\n\n\ndef "


def quickstart(
    out: Path = Path("runs/quickstart"),
    recipe: str = "codegeex_tiny",
    max_bytes: int = 60_000_000,
    workers: int = 2,
    set: tuple[str, ...] = (),  # noqa: A002
) -> None:
    """Go from raw code to a score on this machine, and write one report about it.

    Builds a corpus from the running Python's standard library, its installed packages and their C and C++ headers,
    trains a tokenizer and a small CodeGeeX on it, completes a prompt, and scores the model on the problems that
    ship with the project. Run again, it goes on where it stopped.

    Args:
        out: folder for everything.
        recipe: of the training run.
        max_bytes: bytes of source to take: a sample of the files by a hash of their names.
        workers: processes that build the corpus, and programs executed at once.
        set: settings that differ from the recipe, such as steps=50.
    """
    import logging

    from mindgeex.cli.data import show
    from mindgeex.cli.generate import load_completer
    from mindgeex.common.html import Section, write_page
    from mindgeex.data import pipeline
    from mindgeex.data import report as data_report
    from mindgeex.data.config import BuildConfig, TokenizerConfig
    from mindgeex.data.engines import EngineConfig
    from mindgeex.data.sources.local import default_sources
    from mindgeex.eval import runner
    from mindgeex.eval.benchmarks.humaneval_x import HUMANEVAL_X
    from mindgeex.eval.reports import page as eval_page
    from mindgeex.eval.reports import report as eval_report
    from mindgeex.model_zoo.config import load_model_config
    from mindgeex.model_zoo.decoding.settings import Sampling
    from mindgeex.train import report as train_report
    from mindgeex.train.config import load_recipe
    from mindgeex.train.trainer import train

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = load_recipe(recipe, set)
    model = load_model_config(str(config.model))
    seconds: dict[str, float] = {}

    with stage("1. corpus and tokenizer: mindgeex data build", seconds):
        build_config = BuildConfig(
            sources=default_sources(),
            seq_length=model.seq_length,
            tokenizer=TokenizerConfig(vocab_size=model.vocab_size),
            heldout_share=0.1,
            max_bytes=max_bytes,
        )
        built = pipeline.build(build_config, out / "corpus", EngineConfig(workers=workers))
        show(built)

    with stage("2. training: mindgeex train", seconds):
        summary = train(config, out / "corpus", out / "run", resume=True)
        assert summary is not None  # which only other workers of a group get
        write_page(out / "run" / "report.html", "Training run", train_report.sections(out / "run"))

    with stage("3. generation: mindgeex generate", seconds):
        completer = load_completer(summary.checkpoint, Sampling(temperature=0.6, max_new_tokens=96))
        [sampled] = completer.generator.generate([PROMPT], completer.sampling)
        continuation = sampled.text
        print(PROMPT + continuation)

    with stage("4. evaluation: mindgeex eval run humaneval-x", seconds):
        completer = load_completer(summary.checkpoint, Sampling(temperature=0.2, max_new_tokens=128))
        dataset = HUMANEVAL_X.load(("python",))
        scored = runner.run(HUMANEVAL_X, dataset, out / "eval", completer=completer, workers=workers)
        eval_page.write(scored)
        print("\n".join(eval_report.lines(scored)))

    overview = Section("Overview").table(("stage", "seconds"), list(seconds.items()))
    sample = Section("A sample").text("What the trained model makes of a prompt:").code(PROMPT + continuation)
    parts = [
        overview,
        *data_report.sections(built.manifest),
        *train_report.sections(out / "run"),
        sample,
        *eval_page.sections(scored),
    ]
    write_page(out / "report.html", "MindGeeX quickstart", parts)
    print(
        f"\nheld-out bits per byte: {summary.bits_per_byte_before:.3f} before training, "
        f"{summary.bits_per_byte_after:.3f} after; xz -9 on the same text: {summary.xz_bits_per_byte:.3f}\n"
        + ", ".join(f"{name.split(':')[0]} {value:.0f} s" for name, value in seconds.items())
        + f"\ncheckpoint: {summary.checkpoint}\nreport: {(out / 'report.html').resolve()}"
    )


@contextmanager
def stage(title: str, seconds: dict[str, float]) -> Iterator[None]:
    """A heading, and the block's wall time under its title."""
    from rich.console import Console

    Console().rule(title, align="left")
    started = time.monotonic()
    yield
    seconds[title] = round(time.monotonic() - started, 1)
