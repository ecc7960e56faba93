"""Samples of a run are of held-out documents, one a language, and the same each time."""

import json
import shutil

import pytest

from mindgeex.cli.main import main
from mindgeex.common.errors import UserError
from mindgeex.data.mindrecord import Corpus
from mindgeex.train.config import load_recipe
from mindgeex.train.samples import SAMPLES_FILE, held_out_prompts, write_samples
from mindgeex.train.trainer import train


def test_prompts_are_beginnings_of_held_out_documents(corpus_folder):
    corpus = Corpus.open(corpus_folder)
    [(language, prompt)] = held_out_prompts(corpus, 3).items()
    assert language == "python" and prompt.startswith("# language: Python\n")
    beginning = prompt.partition("\n")[2]
    assert any(document.text.startswith(beginning) for document in corpus.documents("heldout"))
    assert not any(document.text.startswith(beginning) for document in corpus.documents("train"))


def test_a_run_without_a_checkpoint_has_no_samples(corpus_folder, tmp_path):
    with pytest.raises(UserError, match="no whole checkpoint to take samples of"):
        write_samples(tmp_path, Corpus.open(corpus_folder), 1)


@pytest.mark.slow
def test_a_report_shows_samples_that_are_the_same_each_time(corpus_folder, recipe, tmp_path):
    train(load_recipe(str(recipe), ["steps=6"]), corpus_folder, tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    for folder in ("run", "copy"):
        assert main(["report", str(tmp_path / folder), "--data", str(corpus_folder), "--samples", "1"]) == 0
    [sample] = [json.loads(line) for line in (tmp_path / "run" / SAMPLES_FILE).read_text().splitlines()]
    assert sample["step"] == 6 and sample["text"]
    assert (tmp_path / "run" / SAMPLES_FILE).read_bytes() == (tmp_path / "copy" / SAMPLES_FILE).read_bytes()
    assert "samples" in (tmp_path / "run" / "report.html").read_text()
