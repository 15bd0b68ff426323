"""Agreement by hand; real data and published values are in tests/judges."""

import math

import numpy as np
import pytest

from mipo_eval.errors import DataError
from mipo_eval.metrics import judge_accuracy
from mipo_eval.metrics.agreement import (
    JudgeAccuracy,
    agreement,
    cohen_kappa,
    reliability,
    weighted_kappa,
)


def test_kappa_by_hand() -> None:
    """Cohen (1960), the textbook table: 20 and 15 agreed, 5 and 10 not; kappa 0.4."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(second, first) == pytest.approx(0.4)


def test_an_interval_is_even_in_the_ratio_of_disagreements_and_needs_two_groups() -> None:
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    low, high = agreement(first, second).kappa_ci95 or (0.0, 0.0)
    assert (1 - low) * (1 - high) == pytest.approx((1 - 0.4) ** 2)
    alone = agreement(first, second, groups=["g"] * 50)
    assert (alone.kappa, alone.kappa_ci95) == (pytest.approx(0.4), None)


@pytest.mark.parametrize(
    ("first", "second", "kappa"),
    [("ab", "ab", 1.0), ("ab", "ba", -1.0), ("aabb", "abab", 0.0), ("aa", "aa", None)],
)
def test_kappa_at_its_ends(first: str, second: str, kappa: float | None) -> None:
    assert cohen_kappa(first, second) == kappa


def test_one_that_differs_says_little_about_how_many_do() -> None:
    """The jackknife alone would have 0.8516 as the lower end."""
    found = agreement([1, 2] * 50, [2, 2] + [1, 2] * 49)
    assert found.kappa == pytest.approx(0.98)
    assert found.kappa_ci95 == pytest.approx((0.8136, 0.9979), abs=1e-4)


def test_kappa_needs_items_of_equal_number() -> None:
    with pytest.raises(DataError, match="at least one item"):
        cohen_kappa([], [])
    with pytest.raises(DataError, match="second"):
        cohen_kappa(["a"], ["a", "b"])


def test_agreement_is_over_the_items_that_both_labelled() -> None:
    """scikit-learn 1.9: cohen_kappa_score(list("abca"), list("abbc")) is 3/11."""
    first = ["a", "b", None, "c", "a", "b"]
    second = ["a", "b", "a", "b", "c", None]
    found = agreement(first, second)
    assert found[:3] == (4, 50.0, pytest.approx(3 / 11))
    assert agreement(second, first)[:3] == found[:3]


def test_agreement_of_ratings_and_of_one_label() -> None:
    assert agreement([1, 5, 3], [1, 5, 3])[:3] == (3, 100.0, 1.0)
    assert agreement(["a", "a"], ["a", "a"])[:3] == (2, 100.0, None)
    assert agreement([0, False], [0, 0])[:3] == (2, 100.0, None)  # 0 is a label, None is none


def test_agreement_without_an_item_in_common_is_absent_not_zero() -> None:
    assert agreement([None, "a"], ["b", None])[:3] == (0, None, None)
    assert agreement([], [])[:3] == (0, None, None)
    with pytest.raises(DataError, match="second"):
        agreement(["a"], [])


RATINGS = ([1, 2, 3, 3, 5, 4, 4, 1, 2, 5], [1, 2, 2, 3, 4, 4, 5, 1, 3, 5])


@pytest.mark.parametrize("weights", ["linear", "quadratic"])
def test_weighted_kappa_is_that_of_scikit_learn(weights) -> None:
    from sklearn.metrics import cohen_kappa_score

    theirs = cohen_kappa_score(*RATINGS, labels=[1, 2, 3, 4, 5], weights=weights)
    assert weighted_kappa(*RATINGS, weights) == pytest.approx(theirs)
    assert weighted_kappa([1, 1], [1, 1], weights) is None
    with pytest.raises(DataError, match="at least one item"):
        weighted_kappa([], [], weights)


def test_names_have_no_weighted_kappa_and_equal_numbers_are_the_same_label() -> None:
    assert agreement(["a", "b"], ["a", "a"]).weighted_kappa is None
    assert agreement(*RATINGS).weighted_kappa == pytest.approx(weighted_kappa(*RATINGS))


def columns(*raters: str) -> list[tuple[int | None, ...]]:
    """What each of several people said of every unit, in Krippendorff's way of writing it."""
    return [tuple(None if c == "." else int(c) for c in unit) for unit in zip(*raters, strict=True)]


@pytest.mark.parametrize(
    ("items", "level", "alpha"),
    [
        # Krippendorff 2011, Computing Krippendorff's alpha-reliability: A, B and C/D.
        (columns("0100000010", "1110010000"), "nominal", 0.095),
        (list(zip("aabbdcccedda", "babbbccceddd", strict=True)), "nominal", 0.692),
        (columns("123321412...", "1233224125.3", ".3332342251.", "12332441251."), "nominal", 0.743),
        (columns("123321412...", "1233224125.3", ".3332342251.", "12332441251."), "ordinal", 0.815),
        (
            columns("123321412...", "1233224125.3", ".3332342251.", "12332441251."),
            "interval",
            0.849,
        ),
    ],
)
def test_alpha_of_published_tables(items, level, alpha) -> None:
    found = reliability(items, level)
    assert found.alpha == pytest.approx(alpha, abs=0.0005)
    low, high = found.alpha_ci95 or (1, 0)
    assert low < alpha < high < 1


def test_alpha_where_nothing_can_be_said() -> None:
    assert reliability([(1, None), (None, 2)], "ordinal") == (0, None, None, None, None)
    alike = reliability([(3, 3), (3, 3)], "interval")
    assert (alike.n, alike.share, alike.alpha) == (2, 100, None)


def test_no_disagreement_seen_is_not_certainty_and_copies_of_a_prompt_add_nothing() -> None:
    one = agreement([1, 2] * 10, [1, 2] * 10)
    assert one.kappa_ci95 is not None
    assert one.kappa_ci95[1] == 1
    assert 0.5 < one.kappa_ci95[0] < 0.8  # a disagreement in up to one in six would not be seen
    labels = [own * 4 for own in RATINGS]
    alone = agreement(*labels)
    four = [np.repeat(own, 4).tolist() for own in labels]
    copied = agreement(*four, groups=np.repeat(np.arange(40), 4).tolist())
    assert copied.weighted_kappa_ci95 == pytest.approx(alone.weighted_kappa_ci95, abs=0.02)
    assert agreement(*four).weighted_kappa_ci95[0] > alone.weighted_kappa_ci95[0] + 0.02


def test_intervals_of_kappa_and_alpha_hold_the_truth() -> None:
    """100 draws of 30 prompts x 4 that three judges rate with a fifth missing; 95 are nominal."""
    rng = np.random.default_rng(0)

    def draw(prompts: int) -> tuple[np.ndarray, list[int]]:
        of = np.repeat(np.arange(prompts), 4)
        worth = 0.7 * rng.normal(size=prompts)[of] + 0.7 * rng.normal(size=len(of))
        told = worth[:, None] + 0.6 * rng.normal(size=(len(of), 3))
        return np.searchsorted([-1.2, -0.4, 0.4, 1.2], told), of.tolist()

    def both(said: np.ndarray, groups: list[int]):
        pair = agreement(said[:, 0].tolist(), said[:, 1].tolist(), groups)
        gaps = rng.random(said.shape) < 0.2
        given = [
            [None if gap else int(x) for x, gap in zip(*row, strict=True)]
            for row in zip(said, gaps, strict=True)
        ]
        return pair, reliability(given, "ordinal", groups)

    true_pair, true_all = both(*draw(10_000))
    held = np.zeros(3)
    for _ in range(100):
        pair, of_all = both(*draw(30))
        truths = (true_pair.kappa, true_pair.weighted_kappa, true_all.alpha)
        ends = (pair.kappa_ci95, pair.weighted_kappa_ci95, of_all.alpha_ci95)
        held += [low <= truth <= high for truth, (low, high) in zip(truths, ends, strict=True)]
    assert held.min() >= 88  # three standard errors below 95


@pytest.mark.parametrize(
    ("chosen", "rejected", "strict", "tolerant", "tie", "n"),
    [
        ([3, 3], [3, 3], 0, 100, 100, 2),  # the constant judge: why strict stands beside it
        ([5, 1, 3, 4], [1, 5, 3, 2], 50, 75, 25, 4),
        ([None, 5, 4], [1, None, 2], 100, 100, 0, 1),
    ],
)
def test_table(chosen, rejected, strict, tolerant, tie, n) -> None:
    assert judge_accuracy(chosen, rejected) == JudgeAccuracy(
        strict=strict, tie_tolerant=tolerant, tie_rate=tie, n=n, unscored=len(chosen) - n
    )


def test_strict_and_tolerant_are_complements_when_sides_swap() -> None:
    chosen, rejected = [1, 2, 3, 4, 5, 3], [2, 2, 1, 5, 5, 1]
    swapped = judge_accuracy(rejected, chosen)
    assert judge_accuracy(chosen, rejected).strict == pytest.approx(100 - swapped.tie_tolerant)


@pytest.mark.parametrize(
    ("chosen", "rejected", "message"),
    [
        ([None], [1], "none of 1 pairs has both ratings"),
        ([], [], "none of 0 pairs"),
        ([1], [1, 2], "chosen_scores has 1 entries but rejected_scores has 2"),
        ([1], [math.nan], r"rejected_scores\[0\] is nan"),
    ],
)
def test_errors(chosen, rejected, message) -> None:
    with pytest.raises(DataError, match=message):
        judge_accuracy(chosen, rejected)


def test_kappa_of_raters_with_other_habits() -> None:
    """0.6 agree; margins of 0.6 and 0.3 make 0.46 by chance."""
    told = [(1, 1)] * 25 + [(1, 2)] * 35 + [(2, 1)] * 5 + [(2, 2)] * 35
    kappa = pytest.approx((0.6 - 0.46) / (1 - 0.46))
    found = agreement(*zip(*told, strict=True))
    assert (found.kappa, found.weighted_kappa) == (kappa, kappa)  # two labels have one distance
    of_one = agreement(*zip(*told, strict=True), groups=["one"] * 100)
    assert (of_one.weighted_kappa, of_one.weighted_kappa_ci95) == (kappa, None)


def test_the_unit_of_ratings_changes_no_interval() -> None:
    first = [1, 2, 3, 4, 5] * 8
    second = [*first[:-2], 3, 1]
    small = agreement(first, second)
    large = agreement([10 * one for one in first], [10 * one for one in second])
    assert small.weighted_kappa_ci95 == pytest.approx(large.weighted_kappa_ci95)
    low, high = small.weighted_kappa_ci95
    assert 0 < low < small.weighted_kappa < high


def test_raters_who_never_differ_agree_by_1() -> None:
    found = agreement([1, 2, 3, 4] * 5, [1, 2, 3, 4] * 5)
    assert (found.kappa, found.weighted_kappa) == (1.0, 1.0)
    for low, high in (found.kappa_ci95, found.weighted_kappa_ci95):
        assert 0 < low < high == 1.0
