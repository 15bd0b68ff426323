"""Judge-free personalization: hand values, limits, laws."""

import math

import numpy as np
import pytest

from mipo_eval.errors import DataError
from mipo_eval.metrics.context_lift import (
    context_lift,
    context_retrieval,
    context_scores,
    infonce_term,
)
from mipo_eval.records import ContextLikelihoods


def given(*with_contexts: float, without: float = -10.0, tokens: int = 5) -> ContextLikelihoods:
    return ContextLikelihoods(without_context=without, with_contexts=with_contexts, tokens=tokens)


@pytest.mark.parametrize(
    ("likelihoods", "lift", "retrieval", "term"),
    [
        (given(-8.0, -12.0), 2.0, 1.0, -math.log((1 + math.exp(-4)) / 2)),
        (given(-12.0, -8.0), -2.0, 0.0, -math.log((1 + math.exp(4)) / 2)),
        (given(-10.0, -10.0, -10.0, -10.0), 0.0, 0.25, 0.0),  # a context that changes nothing
        (given(-5.0, -5.0, -9.0), 5.0, 0.5, -math.log((2 + math.exp(-4)) / 3)),
        (given(-5.0, -900.0, -900.0), 5.0, 1.0, math.log(3)),  # the bound's ceiling, log K
    ],
)
def test_hand_values(
    likelihoods: ContextLikelihoods, lift: float, retrieval: float, term: float
) -> None:
    assert context_lift(likelihoods) == pytest.approx(lift)
    assert context_retrieval(likelihoods) == pytest.approx(retrieval)
    assert infonce_term(likelihoods) == pytest.approx(term, abs=1e-12)


def test_a_constant_added_to_all_changes_neither_retrieval_nor_bound() -> None:
    values = np.random.default_rng(0).normal(size=8).tolist()
    shifted = [value - 300 for value in values]
    assert infonce_term(given(*values)) == pytest.approx(infonce_term(given(*shifted)))
    assert context_retrieval(given(*values)) == context_retrieval(given(*shifted))


def test_responses_that_ignore_their_context_are_at_chance() -> None:
    """Even with noise: the mean InfoNCE term is below 0, retrieval about 1/K."""
    rng = np.random.default_rng(1)
    ignoring = [given(*rng.normal(-20, 1, size=4).tolist()) for _ in range(2_000)]
    scores = {s.metric: s for s in context_scores(ignoring, scorer="m")}
    assert scores["infonce_bound"].value < 0
    assert scores["context_retrieval"].ci95 is not None
    low, high = scores["context_retrieval"].ci95
    assert low < 25 < high


def test_the_bound_is_a_lower_bound() -> None:
    """Two equally likely contexts, each with its own answer in 90 % of cases.

    I(Y;C) is log 2 minus the entropy of (0.9, 0.1); the exact critic stays below it.
    """
    rng = np.random.default_rng(2)
    own = rng.random(2_000) < 0.9
    drawn = [
        given(*(math.log(p) for p in ((0.9, 0.1) if followed else (0.1, 0.9)))) for followed in own
    ]
    truth = math.log(2) + 0.9 * math.log(0.9) + 0.1 * math.log(0.1)
    bound = next(s for s in context_scores(drawn, scorer="m") if s.metric == "infonce_bound")
    assert bound.value == pytest.approx(truth, abs=0.05)  # tight here: one other context of two


def test_scores() -> None:
    scores = context_scores(
        [given(-8.0, -12.0, tokens=4), None, given(-12.0, -8.0, tokens=2)],
        scorer="stories",
        groups=["a", "b", "b"],
        reasons=[None, "empty response", None],
    )
    values = {score.metric: score.value for score in scores}
    assert values["context_lift"] == 0
    assert values["context_lift_per_token"] == pytest.approx((2 / 4 - 2 / 2) / 2)
    assert values["context_retrieval"] == 50
    for score in scores:
        assert score.signature == "scorer:stories|contexts:2"
        assert score.unscored_reasons == {"empty response": 1}
        assert score.ci95 is not None


def test_refusals() -> None:
    with pytest.raises(DataError, match="scored under 2 and 3 contexts"):
        context_scores([given(-1.0, -2.0), given(-1.0, -2.0, -3.0)], scorer="m")
    with pytest.raises(DataError, match="NaN or no context"):
        given(-1.0, math.nan)
    with pytest.raises(DataError, match="NaN or no context"):
        given()
    with pytest.raises(DataError, match="without tokens"):
        given(-1.0, tokens=0)
    with pytest.raises(DataError, match="none of 1 items"):
        context_scores([None], scorer="m")


def test_intervals_stay_within_what_can_be() -> None:
    """Nearly all contexts are found: a share has no interval beyond 100 %, nor the bound one
    beyond the logarithm of the number of contexts."""
    found = ContextLikelihoods(without_context=-50.0, with_contexts=(-1.0, -50.0), tokens=9)
    not_found = ContextLikelihoods(without_context=-50.0, with_contexts=(-50.0, -1.0), tokens=9)
    scores = context_scores([found] * 19 + [not_found], scorer="x")
    ends = {score.metric: score.ci95 for score in scores}
    assert ends["context_retrieval"] is not None
    assert ends["infonce_bound"] is not None
    assert 50 < ends["context_retrieval"][0] < 95 < ends["context_retrieval"][1] <= 100
    assert ends["infonce_bound"][1] <= math.log(2)
    assert ends["context_lift"] is not None
    assert ends["context_lift"][1] > 46.55  # what has no ends keeps Student's
