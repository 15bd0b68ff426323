"""What verdicts come to: counts by hand, honest intervals, panels, judge against judge."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from mipo_eval.errors import DataError
from mipo_eval.judges.panel import (
    NO_PANEL,
    FamilyRatings,
    agreement_matrix,
    balance,
    family_preference,
    panel_outcomes,
    sample_balance,
)
from mipo_eval.verdict import PairVerdict

WON, TIED, LOST = (
    PairVerdict(winner="a", flipped=False),
    PairVerdict(winner="tie", flipped=True),
    PairVerdict(winner="b"),
)
NONE = PairVerdict(winner=None, reason="call failed: timeout")


def groups(count: int) -> list[str]:
    return [f"prompt-{n}" for n in range(count)]


def test_wins_ties_and_losses_by_hand() -> None:
    outcomes = [*[WON] * 5, *[TIED] * 2, *[replace(LOST, flipped=False)] * 3, NONE]
    found = balance(outcomes, groups=groups(11))
    assert (found.win.value, found.tie.value, found.loss.value, found.half.value) == (
        pytest.approx(50),
        pytest.approx(20),
        pytest.approx(30),
        pytest.approx(60),
    )
    assert (found.win.n, found.win.unscored_reasons) == (10, {"call failed: timeout": 1})
    assert found.net is not None
    assert found.net.difference == pytest.approx(20)
    assert (found.net.wins, found.net.ties, found.net.losses) == (5, 2, 3)
    assert (found.flips, found.flip_rate, found.identical) == (2, pytest.approx(20), 0)
    assert found.rating is None


def test_the_exchange_of_the_entrants_mirrors_everything() -> None:
    turned = {"a": "b", "b": "a", "tie": "tie"}
    outcomes = [*[WON] * 7, *[TIED] * 4, *[LOST] * 2]
    mirrored = [replace(o, winner=turned[str(o.winner)]) for o in outcomes]  # type: ignore[arg-type]
    one, other = (balance(o, groups=groups(13)) for o in (outcomes, mirrored))
    assert one.win.value == pytest.approx(other.loss.value)
    assert one.loss.value == pytest.approx(other.win.value)
    assert one.win.ci95 == pytest.approx(other.loss.ci95)
    assert one.net is not None
    assert other.net is not None
    assert one.net.difference == -other.net.difference
    assert one.net.p == pytest.approx(other.net.p)


def test_identical_responses_are_ties_that_nobody_flipped() -> None:
    found = balance([PairVerdict(winner="tie", identical=True)] * 3 + [TIED], groups=groups(4))
    assert (found.tie.value, found.identical) == (100, 3)
    assert (found.flips, found.flip_rate) == (1, 100)


def test_winning_everything_is_not_certainty() -> None:
    found = balance([WON] * 20, groups=groups(20))
    assert found.net is not None
    assert found.net.difference == 100
    assert found.net.ci95 is not None
    low, high = found.net.ci95
    assert low < 90
    assert high == pytest.approx(100)


def test_without_any_verdict_there_is_no_number() -> None:
    found = balance([NONE, replace(NONE, reason="unparsable reply")], groups=groups(2))
    assert found.win.value is None
    assert (found.win.n, found.win.unscored) == (0, 2)
    assert found.net is None
    assert found.flip_rate is None
    with pytest.raises(DataError, match="no items"):
        balance([], groups=[])


def test_margins_are_paired_in_points_of_the_scale() -> None:
    margins = [Fraction(3, 2), Fraction(-1, 2), Fraction(0), None]
    outcomes = [PairVerdict(winner="a", margin=m) if m is not None else NONE for m in margins]
    found = balance(outcomes, groups=groups(4))
    assert found.rating is not None
    assert found.rating.difference == pytest.approx(1 / 3)
    assert found.rating.n == 3
    assert found.flips is None  # a judge that rates sees no places


@pytest.mark.parametrize(
    ("said", "majority", "mean"),
    [
        ((WON, WON, LOST), "a", "a"),
        ((WON, LOST, TIED), "tie", "tie"),
        ((WON, TIED, TIED), "tie", "a"),
        ((LOST, LOST, LOST), "b", "b"),
        ((WON, NONE, NONE), "a", None),
        ((NONE, NONE, NONE), None, None),
        ((WON, LOST), "tie", "tie"),
    ],
)
def test_panels(said: tuple[PairVerdict, ...], majority: str | None, mean: str | None) -> None:
    rows = [[outcome] for outcome in said]
    assert panel_outcomes(rows, "majority")[0].winner == majority
    [found] = panel_outcomes(rows, "mean")
    assert found.winner == mean
    if mean is None:
        assert found.reason == "call failed: timeout"


def test_a_panel_of_raters_adds_up_margins_not_votes() -> None:
    rows = [
        [PairVerdict(winner="a", margin=Fraction(4))],
        [PairVerdict(winner="b", margin=Fraction(-1))],
    ]
    [found] = panel_outcomes(rows, "mean")
    assert (found.winner, found.margin) == ("a", Fraction(3, 2))
    [mixed] = panel_outcomes([rows[0], [LOST]], "mean")
    assert (mixed.winner, mixed.margin) == ("tie", None)
    assert NO_PANEL


def said(wins: np.ndarray) -> list[PairVerdict]:
    return [replace(WON if won else LOST, flipped=None) for won in wins.tolist()]


def test_a_sample_of_judges_by_hand() -> None:
    judges = [[WON, WON, TIED, NONE], [WON, LOST, LOST, NONE], [WON, WON, NONE, NONE]]
    found = sample_balance(judges, groups=groups(4))
    # Each judge counts alike: 2 of 3, 1 of 3 and 2 of 2 items won; 1 of 3 tied by the first.
    assert found.win.value == pytest.approx(100 * (2 / 3 + 1 / 3 + 1) / 3)
    assert found.tie.value == pytest.approx(100 / 9)
    assert (found.win.n, found.win.unscored_reasons) == (3, {"call failed: timeout": 1})
    assert (found.flips, found.rating) == (None, None)
    assert found.net is not None
    assert (found.net.n, found.net.wins, found.net.losses) == (3, 2, 1)


def test_one_judge_is_no_sample() -> None:
    found = sample_balance([[WON, LOST], [NONE, NONE]], groups=groups(2))
    assert (found.win.value, found.net) == (None, None)
    assert found.win.unscored_reasons == {NO_PANEL: 2}
    with pytest.raises(DataError, match="no items"):
        sample_balance([[], []], groups=[])


def test_judges_that_agree_give_one_judges_interval_and_ones_that_do_not_a_wide_one() -> None:
    wins = np.arange(60) % 3 > 0
    alone = balance(said(wins), groups=groups(60))
    alike = sample_balance([said(wins)] * 3, groups=groups(60))
    apart = sample_balance([said(wins), said(wins | True), said(wins & False)], groups=groups(60))

    def width(of: object) -> float:
        low, high = of.ci95  # type: ignore[attr-defined]
        return high - low

    assert width(alike.half) == pytest.approx(width(alone.half), rel=0.1)
    assert alike.net is not None
    assert alone.net is not None
    assert width(alike.net) == pytest.approx(width(alone.net), rel=0.1)
    assert (apart.half.value, apart.half.ci95) == (pytest.approx(500 / 9), (0, 100))
    assert apart.net is not None
    assert not apart.net.significant()


@pytest.mark.parametrize("judges", [3, 5])
def test_the_interval_covers_other_judges_and_other_items(judges: int) -> None:
    """Judges differ in leniency by half of the standard deviation between prompts."""
    held = []
    for draw in range(80):
        rng = np.random.default_rng((draw, judges))
        worth = np.repeat(rng.normal(size=30), 3) + rng.normal(size=90)
        seen = worth[:, None] + 0.5 * rng.normal(size=judges) + rng.normal(size=(90, judges))
        of_judges = [said(seen[:, judge] > 0) for judge in range(judges)]
        found = sample_balance(of_judges, groups=np.repeat(np.arange(30), 3).tolist())
        low, high = found.half.ci95 or (0, 0)
        held.append(low <= 50 <= high)
    assert np.mean(held) >= 0.88  # 95 % less three standard errors


def test_a_panel_has_judges_of_the_same_items() -> None:
    with pytest.raises(DataError, match="at least one judge"):
        panel_outcomes([], "mean")
    with pytest.raises(DataError, match="judge 2"):
        panel_outcomes([[WON], []], "majority")


def test_agreement_matrix() -> None:
    found = agreement_matrix(
        {"one": ["a", "b", "a", None], "two": ["a", "b", "b", "a"], "none": [None] * 4}
    )
    share = found["one", "two"]
    assert share.n == 3
    assert share.share == pytest.approx(200 / 3)
    assert share.kappa == pytest.approx((3 * 2 - (2 * 1 + 1 * 2)) / (9 - 4))
    assert found["one", "none"][:3] == (0, None, None)
    with pytest.raises(DataError, match="two"):
        agreement_matrix({"one": ["a"], "two": []})


def family(*, generous: float = 0, own: float = 0, better: float = 0) -> FamilyRatings:
    """Ratings of 40 items by two judges: one more generous, both for their own, one better."""
    noise = [(n % 7) / 10 for n in range(40)]
    return FamilyRatings(
        own_of_own=[3 + better + own + x for x in noise],
        own_of_other=[3 + x for x in noise],
        other_of_own=[3 + better + generous + x for x in noise],
        other_of_other=[3 + generous + own + x for x in noise],
    )


def test_favouring_the_own_family_is_told_from_being_strict_and_being_better() -> None:
    fair = family_preference(family(generous=1.0, better=0.7))
    assert fair.value == pytest.approx(0)
    biased = family_preference(family(generous=1.0, better=0.7, own=0.25))
    assert biased.value == pytest.approx(0.5)
    assert (biased.n, biased.unscored) == (40, 0)


def test_an_item_without_all_four_ratings_is_left_out() -> None:
    ratings = family(own=0.25)
    holed = ratings._replace(other_of_own=[None, *ratings.other_of_own[1:]])
    score = family_preference(holed)
    assert (score.n, score.unscored_reasons) == (39, {"a rating is missing": 1})
    with pytest.raises(DataError, match="own_of_other"):
        family_preference(ratings._replace(own_of_other=[1.0]))
