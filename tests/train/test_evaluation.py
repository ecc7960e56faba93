"""The held-out sets and their figures: worked out by hand, encoded as the build did, equal on any number of workers."""

import math
from functools import partial

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindgeex.data.config import BuildConfig, TokenizerConfig
from mindgeex.data.fim import FimRules
from mindgeex.data.languages import language_tag
from mindgeex.data.mindrecord import Corpus
from mindgeex.data.pipeline import build
from mindgeex.train.callbacks.base import StepRecord
from mindgeex.train.callbacks.evaluation import Evaluation
from mindgeex.train.evaluation import Evaluator, HeldoutRows, heldout_sets


class Uniform(nn.Cell):
    """Every token costs as much as its id: nats that differ and are known."""

    def construct(self, rows_BS1, seeds_B):
        return rows_BS1[:, 1:].astype(ms.float32) / 256


class Even(nn.Cell):
    """512 tokens, each as likely."""

    def construct(self, rows_BS1, seeds_B):
        return ms.ops.zeros_like(rows_BS1[:, 1:]).astype(ms.float32) + math.log(512)


@pytest.fixture(scope="module")
def two_languages(tmp_path_factory):
    """Eight repositories of Python and C, some documents cut for filling in the middle."""
    folder = tmp_path_factory.mktemp("languages")
    words = ("alpha", "beta", "gamma", "delta", "count", "index", "value", "total")
    random = np.random.default_rng(0)
    for repo in range(8):
        (folder / f"repo{repo}").mkdir()
        for number in range(6):
            names, others = (["_".join(random.choice(words, 3)) for _ in range(60)] for _ in range(2))
            pairs = list(zip(names, others, strict=True))
            python = "".join(f"def {name}(x):\n    return x + {other}\n\n\n" for name, other in pairs)
            c = "".join(f"int {name}(int x) {{\n\treturn x * {other};\n}}\n\n" for name, other in pairs)
            (folder / f"repo{repo}" / f"{number}.py").write_text(python)
            (folder / f"repo{repo}" / f"{number}.c").write_text(c)
    config = BuildConfig(
        sources=tuple(f"local:{folder}/repo{repo}" for repo in range(8)),
        seq_length=64,
        tokenizer=TokenizerConfig(vocab_size=512),
        heldout_share=0.4,
        fim=FimRules(rate=0.5),
    )
    build(config, folder / "corpus")
    return Corpus.open(folder / "corpus")


def test_the_figure_of_the_whole_is_worked_out_by_hand(corpus_folder):
    corpus = Corpus.open(corpus_folder)
    tokenizer = corpus.tokenizer()
    sets = heldout_sets(corpus, rows=7, rows_per_language=0)
    assert list(sets) == ["all"]
    rows = sets["all"].rows_RS1
    assert len(rows) == 7
    scored = [(row[i], row[i + 1]) for row in rows for i in range(64) if row[i] != corpus.eod_id]
    num_bytes = sum(len(tokenizer.token_bytes(int(label))) for _, label in scored)
    assert len(sets["all"].text) == num_bytes
    measured = Evaluator(Even(), sets, 4).scores()
    assert measured == {"heldout_bits_per_byte": pytest.approx(len(scored) * math.log2(512) / num_bytes, rel=1e-6)}


def test_the_whole_is_scored_on_the_rows_it_always_was(corpus_folder):
    corpus = Corpus.open(corpus_folder)
    batches = corpus.batches("heldout", 1, seed=0, epochs=1)
    expected = np.concatenate([next(batches) for _ in range(7)])
    assert np.array_equal(heldout_sets(corpus, 7, 3)["all"].rows_RS1, expected)


def test_a_language_set_holds_the_languages_own_documents_as_the_build_encoded_them(two_languages):
    corpus = two_languages
    sets = heldout_sets(corpus, rows=10, rows_per_language=10**6)
    assert list(sets) == ["all", "c", "python"]
    counts = corpus.manifest["splits"]["heldout"]["languages"]
    batches = corpus.batches("heldout", 1, seed=0, shuffle=False, epochs=1)
    built = np.concatenate(list(batches)).ravel()
    together = np.concatenate([sets[name].rows_RS1.ravel() for name in ("c", "python")])
    for name in ("c", "python"):
        rows, tag = sets[name].rows_RS1, language_tag(name)
        text = corpus.tokenizer().decode(rows.ravel().tolist())
        assert text.count(tag) == counts[name]["documents"] and text.count("language: ") == text.count(tag)
        assert len(rows) == math.ceil(counts[name]["tokens"] / 65)
    # The same tokens in all, padding of the last rows aside: with the language's tag, cut where the build cut.
    count = np.bincount(together, minlength=512) - np.bincount(built, minlength=512)
    assert count[corpus.eod_id] == len(together) - len(built)
    assert not np.delete(count, corpus.eod_id).any()


def test_sets_are_as_large_as_asked_for_and_always_the_same(two_languages):
    first, again = (heldout_sets(two_languages, 5, 24) for _ in range(2))
    assert [len(found.rows_RS1) for found in first.values()] == [5, 24, 24]
    for name, found in first.items():
        assert np.array_equal(found.rows_RS1, again[name].rows_RS1)
        assert found.text == again[name].text


def test_a_language_with_next_to_nothing_held_out_has_no_figure(two_languages):
    assert list(heldout_sets(two_languages, 5, 1)) == ["all"]


def told(shares, nats):
    """A worker's sum, which is all that others get of it."""
    shares.append(nats)
    raise StopIteration


def test_any_number_of_workers_gives_the_same_figures_to_the_last_digit(two_languages):
    sets = heldout_sets(two_languages, 9, 23)
    alone = Evaluator(Uniform(), sets, 4).scores()
    assert set(alone["heldout"]) == {"c", "python"}
    assert len({alone["heldout_bits_per_byte"], *alone["heldout"].values()}) == 3
    for world, batch_rows in ((2, 4), (3, 5), (50, 3)):  # of 50 workers some have no row
        evaluator, shares = Evaluator(Uniform(), sets, batch_rows), []
        for rank in range(world):
            with pytest.raises(StopIteration):
                evaluator.scores(rank, world, partial(told, shares))
        together = evaluator.scores(0, world, lambda _, shares=shares: sum(shares))
        assert together == alone


def test_labels_count_by_their_weight_where_there_is_no_text():
    rows = np.array([[1, 2, 3], [4, 5, 6]], np.int32)
    weights = np.array([[1, 0.5], [0, 2]], np.float32)
    scores = Evaluator(Uniform(), {"java": HeldoutRows(rows, weights)}, 3).scores()
    assert scores == {"heldout_loss": {"java": pytest.approx((2 + 1.5 + 12) / 256 / 3.5)}}
    with pytest.raises(ValueError, match="weights must be 0 or 1"):
        HeldoutRows(rows, weights, b"text")


def test_evaluation_turns_dropout_off_and_back_on():
    class Both(nn.Cell):
        def construct(self, rows_BS1, seeds_B):
            nats = rows_BS1[:, 1:].astype(ms.float32)
            return nats * 2 if self.training else nats

    model = Both().set_train()
    rows = HeldoutRows(np.array([[1, 2]], np.int32), np.ones((1, 1), np.float32))
    assert Evaluator(model, {"all": rows}, 1).scores() == {"heldout_loss": {"all": 2.0}}
    assert model.training


def test_it_is_measured_before_the_first_step_at_the_cadence_and_after_the_last(corpus_folder):
    evaluator = Evaluator(Uniform(), heldout_sets(Corpus.open(corpus_folder), 3, 0), 3)
    callback = Evaluation(evaluator, evaluate_steps=4, total_steps=10)
    records = [StepRecord(step) for step in range(11)]
    callback.begin(records[0])
    for record in records[1:]:
        callback.after_step(record)
    assert [record.step for record in records if record.values] == [0, 4, 8, 10]
    resumed = StepRecord(6)
    callback.begin(resumed)
    assert not resumed.values
