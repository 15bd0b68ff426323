"""Ranks: tie letters, rank intervals, and the selection guard."""

import numpy as np
import pytest
from scipy.stats import rankdata

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.stats import compare, ranking
from mipo_eval.stats.ranking import best_of, letter_display, level_means, rank_runs, ranks

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


def test_runs_are_ranked_on_the_items_that_they_share() -> None:
    rng = np.random.default_rng(3)
    steady = np.repeat([10.0, 5.0], 60) + rng.normal(size=120)  # the second half is hard
    skipping = steady - 1 + rng.normal(size=120) * 0.3
    skipping[60:] = NAN
    assert np.nanmean(skipping) > steady.mean()
    first, second = rank_runs(np.stack([skipping, steady], axis=1), ["skipping", "steady"])
    assert (first.name, second.name) == ("steady", "skipping")
    assert (first.missing, second.missing) == (0, 60)
    assert first.mean - second.mean == pytest.approx(np.nanmean(steady - skipping))
    assert not set(first.letters) & set(second.letters)


def test_levels_are_means_where_nothing_is_missing() -> None:
    values = np.random.default_rng(4).normal(size=(30, 4))
    assert level_means(values) == pytest.approx(values.mean(axis=0))
    values[:4, 1], values[10:, 3] = NAN, NAN
    # The least-squares fit of an item's level and a run's effect, with dummy variables.
    item, run = np.nonzero(~np.isnan(values))
    design = np.zeros((len(item), 34))
    design[np.arange(len(item)), item], design[np.arange(len(item)), 30 + run] = 1, 1
    fitted = np.linalg.lstsq(design, values[item, run], rcond=None)[0]
    assert level_means(values) == pytest.approx(fitted[30:] + fitted[:30].mean())


def test_one_group_has_ranks_but_no_intervals() -> None:
    found = rank_runs([[1.0, 2.0], [2.0, 4.0]], ["a", "b"], ["g", "g"])
    assert [(rank.name, rank.rank_ci95, rank.letters) for rank in found] == [
        ("b", None, "a"),
        ("a", None, "a"),
    ]


def test_errors() -> None:
    with pytest.raises(DataError, match="runs without any value cannot be ranked: b"):
        rank_runs([[1.0, NAN]], ["a", "b"])
    with pytest.raises(ConfigError, match="named twice"):
        rank_runs([[1.0, 2.0]], ["a", "a"])


def test_letters_of_alike_methods_do_not_follow_their_seeds() -> None:
    wrong = forgotten = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shared = rng.normal(size=(80, 1, 1))
        spread = rng.normal(size=(1, 4, 3)) * 0.4
        values = shared + spread + rng.normal(size=(80, 4, 3))
        wrong += len({rank.letters for rank in rank_runs(values, list("abcd"))}) > 1
        means = values.mean(axis=2)
        forgotten += len({rank.letters for rank in rank_runs(means, list("abcd"))}) > 1
    assert wrong <= 6  # 5 % of 60 is 3
    assert forgotten > 20


def test_the_luck_of_a_choice_can_be_taken_out_of_a_comparison() -> None:
    wrong = 0
    for seed in range(100):
        values = candidates(seed, k=6)
        best = best_of(values[:, :5], list("abcde"))
        own = values[:, "abcde".index(best.name)]
        assert best.corrected is not None
        found = compare(own + (best.corrected - best.shown), values[:, 5])
        wrong += found.significant() and found.difference > 0
    assert wrong <= 6  # 2.5 % and two standard errors


def candidates(seed: int, *, items: int = 150, k: int = 6, gap: float = 0.0):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(items, 1))
    return shared + rng.normal(size=(items, k)) + np.array([gap] + [0.0] * (k - 1))


def test_best_of_equals_is_not_better_than_they_are(monkeypatch) -> None:
    monkeypatch.setattr(ranking, "RESAMPLES", 400)
    found = [best_of(candidates(seed), list("abcdef")) for seed in range(60)]
    shown = np.mean([f.shown for f in found])
    corrected = np.mean([f.corrected for f in found])  # type: ignore[misc]
    assert shown > 0.07  # the truth is 0
    assert abs(corrected) < 0.04


def test_a_clear_best_is_left_as_it_is() -> None:
    found = best_of(candidates(1, gap=3.0), list("abcdef"))
    assert (found.name, found.k) == ("a", 6)
    assert found.corrected == pytest.approx(found.shown, abs=0.01)


def test_interval_moves_with_the_correction() -> None:
    found = best_of(candidates(2), list("abcdef"))
    assert found.ci95 is not None
    assert found.corrected is not None
    assert found.corrected < found.shown
    assert found.ci95[0] < found.corrected < found.ci95[1]
    assert np.mean(found.ci95) == pytest.approx(found.corrected, abs=0.02)


def test_one_candidate_is_no_choice() -> None:
    found = best_of(candidates(3, k=1), ["only"])
    assert (found.k, found.corrected) == (1, found.shown)


def test_groups_are_never_on_both_sides() -> None:
    table = candidates(4, items=40)
    repeated = best_of(
        np.repeat(table, 5, axis=0), list("abcdef"), np.repeat(np.arange(40), 5).tolist()
    )
    single = best_of(table, list("abcdef"))
    assert repeated.corrected == pytest.approx(single.corrected)
    assert repeated.ci95 == pytest.approx(single.ci95)


def test_absent_values_and_same_seed() -> None:
    table = candidates(5)
    table[np.random.default_rng(0).random(table.shape) < 0.2] = NAN
    assert best_of(table, list("abcdef"), seed=3) == best_of(table, list("abcdef"), seed=3)


def test_one_group_cannot_be_split() -> None:
    found = best_of([[1.0, 2.0], [2.0, 4.0]], ["a", "b"], ["g", "g"])
    assert (found.name, found.shown) == ("b", 3)
    assert (found.corrected, found.ci95) == (None, None)
    assert best_of([[1.0, 2.0], [2.0, 4.0]], ["a", "b"], ["g", "h"]).corrected is not None


@pytest.mark.parametrize(
    ("table", "message"),
    [([[1.0, NAN]], "without any value"), ([[1.0]], "2 candidates are named")],
)
def test_best_of_errors(table, message) -> None:
    with pytest.raises(DataError, match=message):
        best_of(table, ["a", "b"])


def test_what_a_resample_knows_nothing_of_is_not_chosen_there() -> None:
    """The third has one item of 30, which two of three resamples do not have."""
    rng = np.random.default_rng(5)
    two = rng.normal(size=(30, 2))
    rare = np.full((30, 1), NAN)
    rare[0] = two.min() - 50
    alone, beside = best_of(two, ["a", "b"]), best_of(np.hstack([two, rare]), ["a", "b", "c"])
    assert beside.corrected == pytest.approx(alone.corrected, abs=0.05)
