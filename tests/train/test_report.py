"""Pages about runs: complete for a finished one, and never refused for what a run lacks."""

import json
import re

import numpy as np
import pytest

from mindgeex.cli.main import main
from mindgeex.common.files import read_json, write_json
from mindgeex.data.mindrecord import Corpus
from mindgeex.train import plots, report
from mindgeex.train.baselines import BASELINES_FILE
from mindgeex.train.runs import named
from tests.train.run_folders import beat, event, metrics, write_run

BASELINES = {"sets": {"all": {"bytes": 12345, "xz": 1.875, "ngram": 1.625}, "go": {"bytes": 999, "xz": 2.125}}}


def page(sections):
    return "\n".join(block for section in sections for block in (section.title, *section.blocks))


def texts(html):
    """What a reader sees of tables and paragraphs, pictures aside."""
    return re.sub(r"<[^>]+>", " ", re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL))


def test_a_finished_run_shows_curves_events_settings_and_languages_beside_baselines(tmp_path):
    events = [event("started"), event("skipped", 33, "loss 9.1"), event("checkpoint", 50), event("finished", 100)]
    run = write_run(tmp_path / "run", metrics(100), events, [beat("finished", 100)])
    write_json(run / BASELINES_FILE, BASELINES)
    (run / "samples.jsonl").write_text(json.dumps({"step": 100, "prompt": "def f(", "text": "a < b):"}) + '\n{"st')
    html = page(report.sections(run))
    shown = texts(html)
    assert html.count("<svg") == 2
    assert 'class="warning"' not in html
    for words in ("100 of 100", "held-out bits per byte after", "skipped", "loss 9.1", "tokens_per_step: 1024"):
        assert words in shown
    assert re.search(r"go\s+999\s+0\s+5\s+100\s+3\s+2.125\s+-", shown)
    assert re.search(r"all\s+12,345\s+0\s+4\s+100\s+2\s+1.875\s+1.625", shown)
    assert "def f(\u2502a &lt; b):" in html
    assert html == page(report.sections(run)), "the same run, another page"


@pytest.mark.parametrize("lines", [[], metrics(0), metrics(1), metrics(3)[1:]])
def test_a_run_that_has_hardly_begun_has_a_page_that_says_what_is_missing(tmp_path, lines):
    run = write_run(tmp_path / "run", lines)
    shown = texts(page(report.sections(run)))
    assert "events.jsonl: nothing there" in shown
    assert "baselines.json: not there" in shown


def test_a_run_with_nothing_but_a_cut_metrics_file_has_a_page(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    shown = texts(page(report.sections(tmp_path)))
    assert "run.yaml: no such file" in shown and "2.5" in shown


def test_figures_that_are_no_numbers_are_drawn_as_gaps(tmp_path):
    lines = metrics(60)
    lines[30]["loss"] = lines[31]["grad_norm"] = float("nan")
    lines[32]["loss"] = float("inf")
    assert page(report.sections(write_run(tmp_path / "run", lines))).count("<svg") == 2


def test_held_out_sets_without_a_text_are_told_in_nats(tmp_path):
    lines = [{"step": step, "heldout_loss": {"java to go": 2.0 - step}} for step in (0, 1)]
    assert re.search(r"java to go\s+0\s+2\s+1\s+1", texts(page(report.sections(write_run(tmp_path / "run", lines)))))


def test_a_page_does_not_grow_with_the_run(tmp_path):
    lines = metrics(1)
    noise = np.random.default_rng(0).random(30_000)
    long = [{**lines[1], "step": step + 1, "loss": 3 + float(value)} for step, value in enumerate(noise)]
    assert len(page(report.sections(write_run(tmp_path / "run", long)))) < 400_000


def test_what_is_left_of_a_long_curve_keeps_its_extremes():
    values = np.sin(np.arange(50_000) / 300)
    values[12_345], values[777] = 50, -50
    at, kept = plots.thinned(np.arange(50_000), values)
    assert len(kept) <= 2 * plots.MAX_POINTS
    assert (kept.max(), kept.min()) == (50, -50) and at[kept.argmax()] == 12_345


def test_a_smoothed_constant_is_constant_and_gaps_do_not_spread():
    values = np.full(1000, 3.0)
    values[[0, 500]] = np.nan
    result = plots.smoothed(values)
    assert np.isnan(result[0]) and result[1:] == pytest.approx(3)
    assert np.ptp(plots.smoothed(np.random.default_rng(1).random(1000))[500:]) < 0.5


def test_several_runs_share_plots_and_tell_their_differences(tmp_path):
    first = write_run(tmp_path / "one", metrics(100), [event("finished", 100)])
    second = write_run(tmp_path / "two", metrics(40, 0.5), seed=7, data="ffff")
    html = page(report.comparison(named([first, second])))
    shown = texts(html)
    assert html.count("<svg") == 1
    assert re.search(r"seed\s+-\s+7", shown)
    assert re.search(r"one\s+finished\s+100\s+102,400", shown) and re.search(r"two\s+crashed\s+40\s+40,960", shown)
    assert re.search(r"held-out language\s+one\s+two\s+c\s+2.5\s+3.7\s+go\s+3\s+4.2", shown)
    assert "were not fed the same" in shown
    assert "There are none." in texts(page(report.comparison(named([first]))))


def test_runs_that_do_not_say_their_tokens_are_compared_by_steps(tmp_path):
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]
    runs = named([write_run(tmp_path / "one", lines, batch=None), write_run(tmp_path / "two", lines)])
    assert page(report.comparison(runs)).count("<svg") == 1


def test_the_command_measures_baselines_of_the_runs_own_corpus_alone(corpus_folder, tmp_path, capsys):
    other = write_run(tmp_path / "other", metrics(5))
    assert main(["report", str(other), "--data", str(corpus_folder)]) == 2
    assert "another corpus than that of" in capsys.readouterr().err
    assert main(["report", str(other), "--ngram-rows", "5"]) == 2
    assert "with --data CORPUS" in capsys.readouterr().err
    run = write_run(tmp_path / "run", metrics(5), data=Corpus.open(corpus_folder).fingerprint)
    arguments = ["report", str(run), "--data", str(corpus_folder), "--ngram-rows", "100"]
    assert main(arguments) == 0
    assert "5-gram model on the same text" in (run / "report.html").read_text()
    assert list(read_json(run / BASELINES_FILE)["sets"]) == ["all", "python"]
    assert main(["report", str(run), str(other), "--out", str(tmp_path / "x.html")]) == 0
    assert "2 training runs" in (tmp_path / "x.html").read_text()
    assert main(["report", str(tmp_path / "nowhere")]) == 2
