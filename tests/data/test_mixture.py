import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.common.errors import UserError
from mindgeex.data.mixture import Mixture, choose

NAMES = ["C", "Go", "Python", "Rust"]


def corpus(documents: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups (half C, few Go, some Python, no Rust), tokens, hashes."""
    rng = np.random.default_rng(seed)
    groups = rng.choice(3, documents, p=[0.5, 0.1, 0.4])
    return groups, rng.integers(1, 500, documents), rng.random(documents)


def test_without_weights_everything_is_taken_once():
    groups, tokens, hashes = corpus()
    times, summary = choose(groups, NAMES, tokens, hashes, Mixture())
    assert times.dtype == np.int64 and (times == 1).all() and summary == {}


def test_without_a_target_the_scarcest_group_is_whole_and_nothing_is_repeated():
    groups, tokens, hashes = corpus()
    times, summary = choose(groups, NAMES, tokens, hashes, Mixture(weights={"C": 1.0, "Go": 1.0, "Python": 2.0}))
    assert times.max() == 1 and (times[groups == 1] == 1).all()
    got = {name: about["tokens"] for name, about in summary["groups"].items()}
    assert got["Go"] == tokens[groups == 1].sum()
    assert got["C"] == pytest.approx(got["Go"], abs=500) and got["Python"] == pytest.approx(2 * got["Go"], abs=500)
    assert summary["short"] == [] and summary["tokens"] == sum(got.values()) == (times * tokens).sum()


def test_a_group_with_less_than_its_share_is_repeated_whole_then_by_the_lowest_hashes():
    groups, tokens, hashes = corpus()
    have = int(tokens[groups == 1].sum())
    mixture = Mixture(weights={"Go": 1, "C": 1}, target_tokens=5 * have)
    times, summary = choose(groups, NAMES, tokens, hashes, mixture)
    go = times[groups == 1]
    assert set(go.tolist()) == {2, 3}
    assert hashes[groups == 1][go == 3].max() < hashes[groups == 1][go == 2].min()
    assert summary["groups"]["Go"]["epochs"] == pytest.approx(2.5, abs=0.01)
    assert (times[groups == 2] == 0).all() and summary["groups"]["Python"]["tokens"] == 0


def test_a_group_that_stays_short_is_reported_and_no_other_makes_up_for_it():
    groups, tokens, hashes = corpus()
    have = int(tokens[groups == 1].sum())
    mixture = Mixture(weights={"Go": 3, "C": 1, "Rust": 1}, target_tokens=4 * have, max_epochs=1.5)
    times, summary = choose(groups, NAMES, tokens, hashes, mixture)
    assert summary["short"] == ["Go", "Rust"]
    about = summary["groups"]["Go"]
    assert about["wanted_tokens"] == 3 * have and about["tokens"] == pytest.approx(1.5 * have, abs=500)
    assert times[groups == 1].max() == 2
    assert summary["groups"]["C"]["tokens"] == pytest.approx(have, abs=500)
    assert summary["groups"]["Rust"] == {
        "share": 0, "available_tokens": 0, "wanted_tokens": 0, "tokens": 0, "epochs": 0
    }  # fmt: skip


def test_the_star_is_all_others_by_what_they_have():
    groups, tokens, hashes = corpus()
    have = np.bincount(groups, tokens)
    _, summary = choose(groups, NAMES, tokens, hashes, Mixture(weights={"Go": 0.2, "*": 0.8}))
    about = summary["groups"]
    assert about["C"]["share"] + about["Python"]["share"] == pytest.approx(0.8, abs=1e-5)
    assert about["C"]["share"] / about["Python"]["share"] == pytest.approx(have[0] / have[2], rel=1e-4)
    times, _ = choose(groups, NAMES, tokens, hashes, Mixture(weights={"*": 1}))
    assert (times == 1).all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(0, 99),
    st.dictionaries(st.sampled_from([*NAMES[:3], "*"]), st.floats(0.01, 10), min_size=1),
    st.one_of(st.none(), st.integers(1, 100_000)),
    st.floats(0.1, 5),
)
def test_shares_are_met_to_a_document_and_limits_hold(documents, seed, weights, target, max_epochs):
    groups, tokens, hashes = corpus(documents, seed)
    mixture = Mixture(weights=weights, target_tokens=target, max_epochs=max_epochs)
    try:
        times, summary = choose(groups, NAMES, tokens, hashes, mixture)
    except UserError as error:
        assert "nothing is left" in str(error)
        return
    assert times.max() <= np.ceil(max_epochs)
    for name, about in summary["groups"].items():
        here = groups == NAMES.index(name)
        assert about["tokens"] == (times * tokens)[here].sum() <= max_epochs * tokens[here].sum()
        if name not in summary["short"]:
            assert about["wanted_tokens"] - tokens[here].max(initial=0) < about["tokens"] <= about["wanted_tokens"]


def test_the_choice_follows_the_documents_when_they_stand_in_another_order():
    groups, tokens, hashes = corpus(500)
    mixture = Mixture(weights={"C": 1, "*": 1}, target_tokens=60_000)
    times, summary = choose(groups, NAMES, tokens, hashes, mixture)
    order = np.random.default_rng(5).permutation(500)
    again, same = choose(groups[order], NAMES, tokens[order], hashes[order], mixture)
    assert np.array_equal(again, times[order]) and same == summary


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weights": {"C": -1.0}}, r"mixture.weights.C=-1.0: must be at least 0"),
        ({"weights": {"C": float("nan")}}, r"mixture.weights.C=nan"),
        ({"weights": {"C": 0.0}}, "all are 0"),
        ({"weights": {"C": 1.0}, "target_tokens": 0}, "mixture.target_tokens=0"),
        ({"target_tokens": 10}, "needs weights"),
        ({"max_epochs": 0.0}, "mixture.max_epochs=0.0"),
    ],
)
def test_values_that_mean_nothing_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        Mixture(**values)


def test_weights_of_groups_that_are_not_there_are_refused():
    groups, tokens, hashes = corpus()
    with pytest.raises(UserError, match="nothing is left of Rust"):
        choose(groups, NAMES, tokens, hashes, Mixture(weights={"Rust": 1.0}))
