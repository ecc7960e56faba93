"""`mindgeex model show`: figures that follow from the sizes."""

import json

import pytest

from mindgeex.cli.main import main
from mindgeex.model_zoo.config import config_names


def test_the_models_that_ship_are_listed(capsys):
    assert main(["model", "show"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in config_names())
    assert "12,873,943,040" in shown


def test_the_figures_of_codegeex_13b(capsys):
    assert main(["model", "show", "codegeex_13b", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["parameters"] == 12_873_943_040
    assert figures["tensors"] == 645
    assert figures["bytes_float16_or_bfloat16"] == 25_747_886_080
    assert "rotary_pct" not in figures


def test_the_tensors_of_all_blocks_are_shown_together(capsys):
    assert main(["model", "show", "codegeex_tiny"]) == 0
    shown = capsys.readouterr().out
    assert "blocks.*.attention.query.weight" in shown
    assert "1,450,368" in shown


@pytest.mark.parametrize(("name", "words"), [("codegeex_13", "did you mean 'codegeex_13b'"), ("no.yaml", "no such")])
def test_an_unknown_model_is_one_line(capsys, name, words):
    assert main(["model", "show", name]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
