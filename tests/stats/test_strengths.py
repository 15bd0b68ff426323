"""Bradley-Terry: against statsmodels, by hand, and on data drawn from the model."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from mipo_eval.errors import DataError
from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.stats.strengths import Game, bradley_terry

NAN = float("nan")


def ratings(seed: int, items: int = 150, runs: int = 4):
    """Ratings 1 to 5 with shared item difficulty: wins, losses and many ties."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(items, 1)) + rng.normal(size=(items, runs)) + np.arange(runs) * 0.4
    return np.clip(np.round(latent + 3), 1, 5)


def games(table, names, groups=None):
    """Every two runs of a row play once; the higher value wins. A row is a group, unless told."""
    groups = range(len(table)) if groups is None else groups
    return [
        Game(a, b, float(own > other) + 0.5 * (own == other), group)
        for (i, a), (j, b) in combinations(enumerate(names), 2)
        for (own, other), group in zip(np.asarray(table)[:, [i, j]], groups, strict=True)
        if not np.isnan(own + other)
    ]


def test_half_ties_equal_a_clustered_logistic_regression() -> None:
    table, groups = ratings(0), np.repeat(np.arange(50), 3)
    table[np.random.default_rng(1).random(table.shape) < 0.1] = NAN
    # statsmodels 0.15.0: GLM(credit of a game, run dummies, Binomial()) with errors clustered by
    # group (times 50 / 49), centred.
    theirs = [-0.6911139605365691, -0.2161076864932053, 0.27157196803724276, 0.6356496789925317]
    errors = [0.08431928021054148, 0.0962069928544808, 0.07915899221946668, 0.07457328174005476]
    ours = {found.name: found for found in bradley_terry(games(table, "abcd", groups))}
    for name, strength, error in zip("abcd", theirs, errors, strict=True):
        assert ours[name].strength == pytest.approx(strength, abs=1e-7)
        assert ours[name].error == pytest.approx(error, rel=1e-6)


def test_two_runs_by_hand() -> None:
    table = [[1, 0]] * 30 + [[0, 1]] * 10
    first, second = bradley_terry(games(table, "ab"))
    assert (first.name, first.games, second.games) == ("a", 40, 40)
    assert first.strength - second.strength == pytest.approx(np.log(3))
    assert first.strength == -second.strength
    assert first.elo - second.elo == pytest.approx(400 * np.log10(3))
    # The error of log(30/10): sqrt(1/30 + 1/10) and n/(n-1); half of it for each of two runs.
    expected = np.sqrt((1 / 30 + 1 / 10) * 40 / 39) / 2
    assert first.error == pytest.approx(expected)
    assert first.elo_ci95[0] < first.elo < first.elo_ci95[1]


def test_strengths_of_the_model_come_back() -> None:
    rng = np.random.default_rng(5)
    true = np.array([1.0, 0.0, -1.0])
    table = true + rng.gumbel(size=(20_000, 3))  # Gumbel noise makes pairwise wins logistic
    for found in bradley_terry(games(table, "abc")):
        assert found.strength == pytest.approx(true["abc".index(found.name)], abs=0.05)
        assert found.ci95[0] < true["abc".index(found.name)] < found.ci95[1]


def test_only_ties_are_all_equal() -> None:
    found = bradley_terry(games(np.ones((5, 3)), "abc"))
    assert [f.strength for f in found] == pytest.approx([0, 0, 0])


@pytest.mark.parametrize(
    ("table", "groups", "message"),
    [
        ([[1, 0, -1], [0, 1, -1]], None, r"no finite solution.*a, b / c|no finite.*c / a, b"),
        ([[2, 1], [3, 1]], None, "no finite solution"),
        ([[1, 0], [0, 1]], ["g", "g"], "two groups or more"),
        ([[1], [2]], None, "needs two runs"),
    ],
)
def test_errors(table, groups, message) -> None:
    with pytest.raises(DataError, match=message):
        bradley_terry(games(table, "abc"[: len(table[0])], groups))


def test_users_who_come_back_widen_the_errors() -> None:
    rng = np.random.default_rng(7)
    users = np.repeat(np.arange(15), 20)
    taste = rng.normal(size=(15, 3))[users] * 1.5
    table = taste + rng.normal(size=(300, 3))
    by_user = [Crossed(prompt, int(user)) for prompt, user in enumerate(users)]
    wide, narrow = (
        {found.name: found for found in bradley_terry(games(table, "abc", labels))}
        for labels in (by_user, None)
    )
    for name in "abc":
        assert wide[name].strength == pytest.approx(narrow[name].strength)
        assert wide[name].error > 2 * narrow[name].error
    crossing = [Crossed(i % 30, int(user)) for i, user in enumerate(users)]
    both = {found.name: found for found in bradley_terry(games(table, "abc", crossing))}
    assert all(both[name].error > 2 * narrow[name].error for name in "abc")


def test_elo_is_around_1000_and_400_points_are_odds_of_ten() -> None:
    found = bradley_terry(games(ratings(0), "abcd"))
    assert sum(one.elo for one in found) / 4 == pytest.approx(1000)
    for one in found:
        ends = [1000 + 400 * end / np.log(10) for end in one.ci95]
        assert one.elo_ci95 == pytest.approx(ends)


@pytest.mark.parametrize("groups", [2, 4, 5])
def test_an_interval_is_students_of_the_groups(groups: int) -> None:
    table = ratings(3, items=12 * groups)
    for found in bradley_terry(games(table, "abcd", np.arange(len(table)) % groups)):
        reach = stats.t.ppf(0.975, groups - 1) * found.error
        assert found.ci95 == pytest.approx((found.strength - reach, found.strength + reach))
