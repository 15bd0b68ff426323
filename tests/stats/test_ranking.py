"""Ranks: tie letters, rank intervals, win matrix."""

import numpy as np
import pytest
from scipy.stats import rankdata

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.stats.comparisons import compare_all
from mipo_eval.stats.ranking import letter_display, rank_runs, ranks, separated, win_matrix

NAN = float("nan")


def pairs(*names: str) -> set[frozenset[str]]:
    return {frozenset(name) for name in names}


@pytest.mark.parametrize(
    ("apart", "letters"),
    [
        (pairs(), ["a", "a", "a", "a"]),
        (pairs("AB", "AC", "AD", "BC", "BD", "CD"), ["a", "b", "c", "d"]),
        (pairs("AC", "AD", "BD"), ["a", "ab", "bc", "c"]),  # neighbours are never apart
        (pairs("AD"), ["a", "ab", "ab", "b"]),
        (pairs("AB", "CD"), ["ab", "cd", "ac", "bd"]),  # not in order of the means
    ],
)
def test_letters(apart, letters) -> None:
    assert list(letter_display(list("ABCD"), apart).values()) == letters


def test_two_runs_share_a_letter_exactly_when_not_told_apart() -> None:
    rng = np.random.default_rng(0)
    names = [f"r{i}" for i in range(9)]
    for _ in range(50):
        apart = {frozenset((a, b)) for a in names for b in names if a < b and rng.random() < 0.4}
        letters = {run: set(text) for run, text in letter_display(names, apart).items()}
        for a in names:
            for b in names:
                if a < b:
                    assert bool(letters[a] & letters[b]) == (frozenset((a, b)) not in apart)


def test_more_groups_than_letters_stay_readable() -> None:
    names = [f"r{i}" for i in range(30)]
    apart = {frozenset((a, b)) for a in names for b in names if a < b}
    letters = letter_display(names, apart)
    assert (letters["r25"], letters["r26"], letters["r29"]) == ("z", "aa", "ad")


def test_ranks_share_the_better_place() -> None:
    assert ranks(np.array([[3.0, 5.0, 3.0, 1.0]])).tolist() == [[2, 1, 2, 4]]
    assert ranks(np.array([[3.0, NAN], [1.0, 2.0]])).tolist() == [[2, 1]]
    assert ranks(np.array([[1.0]])).tolist() == [[1]]
    means = np.random.default_rng(0).integers(0, 4, (200, 9)).astype(float)
    assert (ranks(means) == rankdata(-means, method="min", axis=1)).all()


def table(seed: int = 0, items: int = 300):
    """Two alike and good, one middling, one bad."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(items, 1)) + rng.normal(size=(items, 4)) + np.array([1.0, 0, -1, 1])


def test_alike_runs_share_letters_and_rank_intervals() -> None:
    found = {rank.name: rank for rank in rank_runs(table(), list("wxyz"))}
    assert {rank.rank for rank in found.values()} == {1, 2, 3, 4}
    assert found["w"].letters == found["z"].letters == "a"
    assert (found["x"].letters, found["y"].letters) == ("b", "c")
    assert found["w"].rank_ci95 == found["z"].rank_ci95 == (1, 2)
    assert (found["x"].rank_ci95, found["y"].rank_ci95) == ((3, 3), (4, 4))
    assert [found[name].tied_with_best for name in "wxyz"] == [True, False, False, True]


def test_best_comes_first_and_equal_means_share_the_rank() -> None:
    values = np.tile(np.arange(20.0)[:, None], (1, 3)) + np.array([0, 5, 0])
    found = rank_runs(values, ["low", "high", "same"])
    assert [(rank.name, rank.rank) for rank in found] == [("high", 1), ("low", 2), ("same", 2)]


def test_one_group_has_ranks_but_no_intervals() -> None:
    found = rank_runs([[1.0, 2.0], [2.0, 4.0]], ["a", "b"], ["g", "g"])
    assert [(rank.name, rank.rank_ci95, rank.letters) for rank in found] == [
        ("b", None, "a"),
        ("a", None, "a"),
    ]


def test_separated_share() -> None:
    assert separated(compare_all(table(), list("wxyz"))) == pytest.approx(5 / 6)
    assert separated([]) is None


def test_errors() -> None:
    with pytest.raises(DataError, match="runs without any value cannot be ranked: b"):
        rank_runs([[1.0, NAN]], ["a", "b"])
    with pytest.raises(ConfigError, match="named twice"):
        rank_runs([[1.0, 2.0]], ["a", "a"])


def test_win_matrix_by_hand() -> None:
    matrix = win_matrix([[3, 1, NAN], [2, 2, NAN], [1, 2, 5], [4, NAN, NAN]], ["a", "b", "c"])
    assert matrix.rates == pytest.approx(
        np.array([[50, 50, 0], [50, 50, 0], [100, 100, 50]]), nan_ok=True
    )
    assert matrix.n.tolist() == [[4, 3, 1], [3, 3, 1], [1, 1, 1]]


def test_win_matrix_mirrors() -> None:
    values = np.random.default_rng(1).integers(1, 6, size=(200, 5)).astype(float)
    values[np.random.default_rng(2).random(values.shape) < 0.2] = NAN
    rates = win_matrix(values, list("abcde")).rates
    assert rates + rates.T == pytest.approx(np.full((5, 5), 100))
    nothing = win_matrix([[1, NAN], [NAN, 1]], ["a", "b"])
    assert np.isnan(nothing.rates[0, 1])
