"""Win rate at equal length: against logistic regression, known truth and AlpacaEval's figures."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from mipo_eval.errors import DataError
from mipo_eval.stats.intervals import rate_intervals
from mipo_eval.stats.length import length_controlled

NAN = float("nan")


def biased_judge(seed: int = 0, items: int = 4000, *, taste: float = 1.5):
    """Outcomes of an equally good but longer-winded model, under a judge that likes length."""
    rng = np.random.default_rng(seed)
    reference = rng.integers(80, 120, size=items).astype(float)
    own = reference + rng.normal(20, 30, size=items)
    difference = own - reference
    chance = expit(taste * np.tanh(difference / difference.std()))
    return (rng.random(items) < chance).astype(float), own, reference


def test_the_length_bonus_is_taken_out() -> None:
    outcomes, own, reference = biased_judge()
    found = length_controlled(outcomes, own, reference)
    assert found.raw_rate > 60
    assert found.rate == pytest.approx(50, abs=2.5)
    assert found.ci95 is not None
    assert found.ci95[0] < 50 < found.ci95[1]
    assert found.length_effect == pytest.approx(1.5 * np.tanh(1), abs=0.2)
    assert found.mean_difference == pytest.approx(20, abs=2)
    assert not found.extrapolated


def test_a_judge_blind_to_length_changes_nothing() -> None:
    outcomes, own, reference = biased_judge(1, taste=0.0)
    found = length_controlled(outcomes, own, reference)
    assert found.rate == pytest.approx(found.raw_rate, abs=2)


def test_coefficients_are_those_of_a_logistic_regression() -> None:
    outcomes, own, reference = biased_judge(2, items=500)
    outcomes[:50] = 0.5
    found = length_controlled(outcomes, own, reference)
    # statsmodels 0.15.0: GLM(outcomes, [1, tanh(difference / sd)], Binomial()), its prediction
    # with the second term 0, and that term's effect at one sd.
    assert found.rate == pytest.approx(48.43986383357565, abs=0.01)
    assert found.length_effect == pytest.approx(0.9894441424974033, abs=0.001)


def test_interval_is_over_groups_and_about_that_of_a_plain_rate() -> None:
    outcomes, own, reference = biased_judge(4, items=300, taste=0.0)
    single = length_controlled(outcomes, own, reference)
    repeated = length_controlled(
        *(np.repeat(column, 3) for column in (outcomes, own, reference)),
        np.repeat(np.arange(300), 3).tolist(),
    )
    assert single.ci95 == pytest.approx(repeated.ci95, abs=0.2)
    assert length_controlled(outcomes, own, reference, ["g"] * 300).ci95 is None


def test_equal_lengths_leave_the_rate_alone() -> None:
    found = length_controlled([1, 0, 1, 1], [5, 6, 7, 8], [5, 6, 7, 8])
    assert found.rate == pytest.approx(75, abs=0.2)
    assert found.length_effect == 0
    assert found.share_longer == 50


def test_what_is_missing_is_counted() -> None:
    found = length_controlled([1, NAN, 0, 1], [5, 6, NAN, 9], [5, 7, 8, 8])
    assert (found.n, found.unscored) == (2, 2)


@pytest.mark.parametrize("wins", [0.0, 1.0])
def test_all_wins_or_losses_stay_finite(wins) -> None:
    found = length_controlled([wins] * 50, np.arange(50), np.full(50, 20))
    assert found.rate == pytest.approx(100 * wins, abs=0.5)
    # As for a plain rate: 50 of 50 do not show that all others would be.
    assert found.ci95 == pytest.approx(rate_intervals(np.full((50, 1), 100 * wins))[0])


def test_the_error_is_that_of_a_clustered_logistic_regression() -> None:
    outcomes, own, reference = biased_judge(5, items=400)
    groups = np.repeat(np.arange(80), 5).tolist()
    found = length_controlled(outcomes, own, reference, groups)
    # The sandwich, written out: bread, 80 groups' scores, bread; times 80 / 79.
    difference = own - reference
    design = np.stack([np.ones(400), np.tanh(difference / difference.std())], axis=1)
    fitted = np.array([np.log(found.rate / (100 - found.rate)), found.length_effect / np.tanh(1)])
    chance = expit(design @ fitted)
    bread = np.linalg.inv(design.T @ (design * (chance * (1 - chance))[:, None]))
    scores = (design * (outcomes - chance)[:, None]).reshape(80, 5, 2).sum(axis=1)
    error = np.sqrt((bread @ scores.T @ scores @ bread)[0, 0] * 80 / 79)
    reach = stats.t.ppf(0.975, 79) * error
    wanted = 100 * expit(fitted[0] + np.array([-reach, reach]))
    assert found.ci95 == pytest.approx(tuple(wanted), abs=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: length_controlled([NAN], [1], [1]), "none of 1 items"),
        (lambda: length_controlled([2], [1], [1]), r"outside 0 \(loss\) to 1"),
        (lambda: length_controlled([-0.5], [1], [1]), r"outside 0 \(loss\) to 1"),
        (lambda: length_controlled([1, 0], [1], [1]), "lists of one size"),
    ],
)
def test_errors(call, message) -> None:
    with pytest.raises(DataError, match=message):
        call()


def test_published_length_controlled_rates_of_alpaca_eval(shared_data: Path) -> None:
    """Close to AlpacaEval's model, which also uses files of its own; see the module."""
    folder = shared_data / "alpaca_eval"
    truth = json.loads((folder / "GROUND_TRUTH.json").read_text())
    lines = (folder / "slim_weighted_gpt4_turbo.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    complete = [row for row in rows if len(row["preference"]) == 805]
    table = np.array([row["preference"] for row in complete]).T - 1
    found = [length_controlled(table[:, k], r["len_2"], r["len_1"]) for k, r in enumerate(complete)]
    own = [truth[row["annotator"]][row["model"]]["published"] for row in complete]
    seen = [k for k, one in enumerate(found) if not one.extrapolated]
    ours = np.array([found[k].rate for k in seen])
    published = np.array([own[k]["length_controlled_winrate"] for k in seen])
    raw = np.array([own[k]["win_rate"] for k in seen])
    assert len(ours) >= 12
    assert stats.pearsonr(ours, published).statistic > 0.995
    assert stats.pearsonr(ours, published).statistic > stats.pearsonr(raw, published).statistic
    assert np.abs(ours - published).max() < 8
    terse = [k for k, one in enumerate(found) if one.share_longer < 5]
    assert all(found[k].rate > own[k]["length_controlled_winrate"] for k in terse)


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_the_unit_of_length_changes_nothing(unit: float) -> None:
    rng = np.random.default_rng(0)
    own, rival = rng.integers(1, 400, (2, 60))
    won = (own > rival) * 0.5 + rng.integers(0, 2, 60) * 0.5
    one = length_controlled(won, own, rival)
    other = length_controlled(won, own * unit, rival * unit)
    assert other.rate == pytest.approx(one.rate)
    assert abs(one.length_effect) > 0.1
    assert other.length_effect == pytest.approx(one.length_effect)
