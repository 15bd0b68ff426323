"""Bradley-Terry: against statsmodels, by hand, and on data drawn from the model."""

from itertools import combinations

import numpy as np
import pytest
import statsmodels.api as sm

from mipo_eval.errors import DataError
from mipo_eval.stats.strengths import bradley_terry

NAN = float("nan")


def ratings(seed: int, items: int = 150, runs: int = 4):
    """Ratings 1 to 5 with shared item difficulty: wins, losses and many ties."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(items, 1)) + rng.normal(size=(items, runs)) + np.arange(runs) * 0.4
    return np.clip(np.round(latent + 3), 1, 5)


def games(table):
    """Every game as (item, first run, second run, credit of the first)."""
    items, runs = table.shape
    for i in range(runs):
        for j in range(i + 1, runs):
            for item in range(items):
                a, b = table[item, i], table[item, j]
                if not np.isnan(a + b):
                    yield item, i, j, float(a > b) + 0.5 * float(a == b)


def test_half_ties_equal_a_clustered_logistic_regression() -> None:
    table, groups = ratings(0), np.repeat(np.arange(50), 3)
    table[np.random.default_rng(1).random(table.shape) < 0.1] = NAN
    item, first, second, credit = map(np.array, zip(*games(table), strict=True))
    design = np.zeros((len(item), 4))
    design[np.arange(len(item)), first] = 1
    design[np.arange(len(item)), second] = -1
    fit = sm.GLM(credit, design[:, 1:], family=sm.families.Binomial()).fit(
        cov_type="cluster",
        cov_kwds={"groups": groups[item], "use_correction": False},
        tol=1e-12,
    )
    center = np.eye(4) - 1 / 4
    theirs = center @ np.append(0, fit.params)
    covariance = np.zeros((4, 4))
    covariance[1:, 1:] = fit.cov_params() * 50 / 49
    errors = np.sqrt(np.diag(center @ covariance @ center))
    ours = {found.name: found for found in bradley_terry(table, list("abcd"), groups.tolist())}
    for name, strength, error in zip("abcd", theirs, errors, strict=True):
        assert ours[name].strength == pytest.approx(strength, abs=1e-7)
        assert ours[name].error == pytest.approx(error, rel=1e-6)


def test_davidson_equals_its_log_linear_form() -> None:
    """Davidson's model is a Poisson regression of win, loss and tie counts per pair."""
    table = ratings(2)
    counts, rows = [], []
    for pair, (i, j) in enumerate(combinations(range(4), 2)):
        a, b = table[:, i], table[:, j]
        for count, own, other, tie in [
            ((a > b).sum(), 1.0, 0.0, 0.0),
            ((a < b).sum(), 0.0, 1.0, 0.0),
            ((a == b).sum(), 0.5, 0.5, 1.0),
        ]:
            row = np.zeros(4 + 1 + 6)
            row[i], row[j], row[4], row[5 + pair] = own, other, tie, 1.0
            counts.append(count)
            rows.append(row)
    fit = sm.GLM(np.array(counts), np.array(rows)[:, 1:], family=sm.families.Poisson()).fit(
        tol=1e-12
    )
    theirs = np.append(0, fit.params[:3])
    ours = {f.name: f.strength for f in bradley_terry(table, list("abcd"), ties="davidson")}
    assert [ours[name] for name in "abcd"] == pytest.approx(theirs - theirs.mean(), abs=1e-6)


def test_two_runs_by_hand() -> None:
    table = [[1, 0]] * 30 + [[0, 1]] * 10
    first, second = bradley_terry(table, ["a", "b"])
    assert first.strength - second.strength == pytest.approx(np.log(3))
    assert first.strength == -second.strength
    assert first.elo - second.elo == pytest.approx(400 * np.log10(3))
    # The error of log(30/10): sqrt(1/30 + 1/10) and n/(n-1); half of it for each of two runs.
    expected = np.sqrt((1 / 30 + 1 / 10) * 40 / 39) / 2
    assert first.error == pytest.approx(expected)
    davidson = bradley_terry(table, ["a", "b"], ties="davidson")
    assert davidson == bradley_terry(table, ["a", "b"])  # without ties they are one


def test_strengths_of_the_model_come_back() -> None:
    rng = np.random.default_rng(5)
    true = np.array([1.0, 0.0, -1.0])
    table = true + rng.gumbel(size=(20_000, 3))  # Gumbel noise makes pairwise wins logistic
    for found in bradley_terry(table, ["a", "b", "c"]):
        assert found.strength == pytest.approx(true["abc".index(found.name)], abs=0.05)
        assert found.ci95[0] < true["abc".index(found.name)] < found.ci95[1]


def test_only_ties_are_all_equal() -> None:
    found = bradley_terry(np.ones((5, 3)), list("abc"), ties="davidson")
    assert [f.strength for f in found] == pytest.approx([0, 0, 0])


@pytest.mark.parametrize(
    ("table", "groups", "message"),
    [
        ([[1, 0, NAN], [0, 1, NAN]], None, r"no finite solution.*a, b / c|no finite.*c / a, b"),
        ([[2, 1], [3, 1]], None, "no finite solution"),
        ([[1, 0], [0, 1]], ["g", "g"], "two groups or more"),
        ([[1], [2]], None, "needs two runs"),
    ],
)
def test_errors(table, groups, message) -> None:
    with pytest.raises(DataError, match=message):
        bradley_terry(table, list("abc")[: len(table[0])], groups)
